import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast_lab.cli import main
from holdfast_worker.models.errors import ModelConfigError
from tests.lab.booster_world import write_encoder, write_scenes

SMALL = ["--width", "4", "--multipliers", "1", "2", "--blocks", "1", "--draws", "1", "--save-every", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_scenes(folder / "scenes")
    return folder


def train(place: Path, out: Path, *more: str) -> list[str]:
    """The arguments of a training that writes to `out`."""
    where = ["--encoder", str(place / "encoder"), "--images", str(place / "scenes"), "--out", str(out)]
    return ["train-booster", *where, "--sigma", "0.25", *SMALL, *more]


def kill_after(arguments: list[str], checkpoints: Path, steps: int) -> int:
    """Runs a training in a process of its own, kills it once it has saved `steps` steps; returns what it had saved."""
    code = "import sys; from holdfast_lab.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL)
    try:
        while saved(checkpoints) < steps:
            assert process.poll() is None, "the training ended before it was killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return saved(checkpoints)


def saved(checkpoints: Path) -> int:
    index = checkpoints / "checkpoint.json"
    return int(json.loads(index.read_text())["step"]) if index.is_file() else 0


def test_a_killed_training_ends_in_the_same_weights_to_the_bit(place: Path, tmp_path: Path) -> None:
    lengths = ["--denoiser-epochs", "40", "--mapper-epochs", "5"]
    main(train(place, tmp_path / "whole", *lengths))
    arguments = train(place, tmp_path / "killed", *lengths)
    assert 5 <= kill_after(arguments, tmp_path / "killed/training/denoiser", 5) < 40
    main(arguments)
    for name in ("booster.json", "denoiser.safetensors", "mapper.safetensors", "training/denoiser/curve.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_training_says_how_far_it_is(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(train(place, tmp_path, "--denoiser-epochs", "2", "--mapper-epochs", "1"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [["denoiser", "step 2 of 2"], ["mapper", "step 1 of 1"]]
    assert "robustness" in lines[0]


@pytest.mark.parametrize("part", ["denoiser", "mapper"])
def test_one_part_can_be_trained_alone(place: Path, tmp_path: Path, part: str) -> None:
    main(train(place, tmp_path, "--denoiser-epochs", "1", "--mapper-epochs", "1", "--only", part))
    written = {path.stem for path in tmp_path.glob("*.safetensors")}
    assert written == {part}


def test_evaluating_prints_a_row_for_each_combination(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = ["--denoiser-epochs", "1", "--mapper-epochs", "1"]
    main(train(place, tmp_path / "both", *lengths))
    main(train(place, tmp_path / "alone", *lengths, "--only", "mapper"))
    capsys.readouterr()
    where = ["--encoder", str(place / "encoder"), "--images", str(place / "scenes"), "--sigma", "0.25"]
    boosters = ["--booster", str(tmp_path / "both"), "--mapper", str(tmp_path / "alone")]
    main(["evaluate-booster", *where, *boosters, "--draws", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert "50 draws" in lines[0]
    assert [line.split()[0] for line in lines[2:]] == ["none", "P", "M", "P+M"]


def test_an_unknown_encoder_is_refused(place: Path, tmp_path: Path) -> None:
    arguments = train(place, tmp_path)
    arguments[arguments.index("--encoder") + 1] = "no-such-encoder"
    with pytest.raises(ModelConfigError, match="no-such-encoder"):
        main(arguments)
