import filecmp
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Png

from holdfast_lab.architecture import build_model
from holdfast_lab.cli import SHIPPED, main
from holdfast_lab.evaluation import load
from holdfast_lab.export import export
from holdfast_lab.prompt import build_prompt
from holdfast_lab.tokenizer import build_tokenizer
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig


def test_an_exported_model_loads_as_itself_rounded_to_half_precision(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    model = build_model(build_prompt(tokenizer), seed=2)
    export(model, tokenizer, tmp_path)
    loaded = load(tmp_path)
    assert loaded.prompt == build_prompt(tokenizer)
    weights = loaded.model.state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weights[name], weight.half().float()), name


def test_evaluating_prints_every_setting_and_the_operating_point(capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate-reference-guard", "--examples", "20", "--scenes", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 15
    assert all("/20 = " in line for line in lines[:-3])
    assert {line.split(" at τ=")[0] for line in lines[-3:-1]} == {"suffix", "l0"}  # side by side: either ends first
    assert all("Safe flagged" in line and "/4 " in line for line in lines[-3:])
    assert lines[-1].startswith("append, σ=0.5, flagged where 20 of 64 passes of some truncation are Unsafe: ")


def test_measuring_rewrites_the_configuration_and_the_card_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "guard"
    shutil.copytree(SHIPPED, folder)
    (folder / "holdfast.json").unlink()
    (folder / "README.md").unlink()
    main(["measure-reference-guard", "--folder", str(folder), "--examples", "20", "--scenes", "4", "--steps", "7"])
    defaults = load_config(GuardConfig, folder, {}).defaults
    assert defaults.l0 is not None
    assert defaults.l0.false_flag is not None
    assert defaults.l0.false_flag.scenes == 4
    assert defaults.append is not None
    assert defaults.append.scenes == 4
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "--steps 7 " in card
    assert card.count("of 4 Safe examples") == 3
    changed = filecmp.dircmp(SHIPPED, folder, ignore=["__pycache__"])
    assert set(changed.diff_files) == {"holdfast.json", "README.md"}
    assert changed.left_only == changed.right_only == []


def test_drawing_examples_writes_two_pictures_and_their_listing(tmp_path: Path) -> None:
    main(["draw-examples", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"unsafe.png", "safe.png", "examples.json"}
    unsafe, safe = (np.asarray(Png.open(tmp_path / f"{name}.png")) for name in ("unsafe", "safe"))
    assert unsafe.shape == safe.shape == (64, 64, 3)
    assert not np.array_equal(unsafe, safe)


def test_a_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "required" in capsys.readouterr().err
