"""The engine's own traps: what it refuses, what it must not mix up, and how it ends."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from holdfast_worker.models import registry
from holdfast_worker.models.errors import EngineLostError, GuardConfigError, GuardOutputError
from holdfast_worker.models.llava import LlavaGuard
from holdfast_worker.models.vllm_engine import ProcessEngine, Prompts
from holdfast_worker.models.vllm_guard import VllmGuard
from tests.vllm.test_agreement import TEXTS, draws_of

PACKAGED = Path(registry.__file__).parent / "reference_guard"


def prompts(guard: VllmGuard, features: torch.Tensor) -> Prompts:
    """One prompt for each image, alike but for the image."""
    ids = np.array([*guard._prompt.before, *guard._prompt.after] * len(features), dtype=np.int64)
    lengths = np.full(len(features), len(ids) // len(features))
    return Prompts(features, np.arange(len(features)), ids, lengths)


def answers(guard: VllmGuard, features: torch.Tensor) -> NDArray[np.float32]:
    return guard._engine.logprobs(prompts(guard, features))


def features_of(guard: VllmGuard, images: int, positions: int = 17) -> torch.Tensor:
    return torch.randn(images, positions, 96, generator=torch.Generator().manual_seed(positions))


def saved_anew(folder: Path, plain: LlavaGuard) -> Path:
    """The shipped guard, which is in the hub's layout, under the names that transformers 5 has for its tensors."""
    for file in PACKAGED.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    weights = {name: tensor.contiguous() for name, tensor in plain._model.state_dict().items()}
    assert not set(weights) & set(load_file(PACKAGED / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def anew(plain: LlavaGuard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_anew(tmp_path_factory.mktemp("anew"), plain)


@pytest.fixture(scope="module")
def expendable(anew: Path) -> Iterator[VllmGuard]:
    """A guard whose engine a test may kill; its folder has the newer layout."""
    loaded = registry.load(anew, {"device": "cpu", "engine": "vllm"})
    assert isinstance(loaded, VllmGuard)
    yield loaded
    loaded.close()


def test_the_newer_layout_answers_alike_and_the_folder_is_left_as_it_was(
    anew: Path, expendable: VllmGuard, plain: LlavaGuard, tmp_path: Path
) -> None:
    draws = draws_of(plain, TEXTS[1], 8)
    np.testing.assert_allclose(expendable.margins([draws])[0], plain.margins([draws])[0], atol=1e-4)
    assert contents(anew) == contents(saved_anew(tmp_path, plain))


def test_images_of_another_length_are_read_in_another_call(guard: VllmGuard) -> None:
    short, long = features_of(guard, 3), features_of(guard, 3, positions=30)
    wanted = answers(guard, short)
    assert np.isfinite(answers(guard, long)).all()
    np.testing.assert_allclose(answers(guard, short), wanted, atol=1e-5)


def test_images_that_hardly_differ_are_not_confused(guard: VllmGuard) -> None:
    first = features_of(guard, 1)
    near = torch.cat([first, first + 1e-4, first])
    found = answers(guard, near)
    apart = np.concatenate([answers(guard, near[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(found, apart, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 10 * np.abs(found[0] - found[2]).max()


def test_log_probabilities_are_raw_and_of_the_verdict_tokens_alone(guard: VllmGuard, plain: LlavaGuard) -> None:
    one = prompts(guard, features_of(guard, 1))
    embeddings = plain._model.get_input_embeddings()(torch.from_numpy(one.ids))
    at = guard._prompt.image_at
    whole = torch.cat((embeddings[:at], one.features[0], embeddings[at + 1 :]))[None]
    with torch.inference_mode():
        wanted = plain._model(inputs_embeds=whole).logits[0, -1].log_softmax(-1)
    tokens = [*guard._prompt.unsafe, *guard._prompt.safe]
    np.testing.assert_allclose(guard._engine.logprobs(one)[0], wanted[tokens].numpy(), atol=1e-4)


def test_features_of_a_wrong_width_are_refused_and_harm_nothing(guard: VllmGuard) -> None:
    with pytest.raises(GuardOutputError, match="64 wide, must be 96"):
        answers(guard, torch.zeros(1, 17, 64))
    assert not guard.lost
    assert np.isfinite(answers(guard, features_of(guard, 1))).all()


def test_a_checkpoint_that_vllm_does_not_serve_is_refused_at_load(plain: LlavaGuard, tmp_path: Path) -> None:
    folder = saved_anew(tmp_path, plain)
    weights = load_file(folder / "model.safetensors")
    del weights["model.language_model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GuardConfigError, match=r"vLLM does not serve .*norm"):
        registry.load(folder, {"device": "cpu", "engine": "vllm"})


def test_a_killed_engine_is_reported_and_can_be_started_again(expendable: VllmGuard) -> None:
    wanted = answers(expendable, features_of(expendable, 2))
    assert isinstance(expendable._engine, ProcessEngine)
    os.kill(expendable._engine.pid or 0, signal.SIGKILL)
    with pytest.raises(EngineLostError, match="exit code -9"):
        answers(expendable, features_of(expendable, 2))
    assert expendable.lost
    expendable.restore()
    np.testing.assert_array_equal(answers(expendable, features_of(expendable, 2)), wanted)


def test_a_poisoned_request_ends_the_engine_and_keeps_its_data_out_of_the_log(
    expendable: VllmGuard, capfd: pytest.CaptureFixture[str]
) -> None:
    if expendable.lost:
        expendable.restore()
    poison = prompts(expendable, torch.full((1, 17, 96), 0.123456))
    poison.ids[-1] = 400_000  # no token of the vocabulary
    capfd.readouterr()
    with pytest.raises(EngineLostError, match="died"):
        expendable._engine.logprobs(poison)
    written = "".join(capfd.readouterr())
    assert "0.1235" not in written
    assert str(poison.ids[:4].tolist())[1:-1] not in written


def test_an_engine_does_not_outlive_its_worker(tmp_path: Path) -> None:
    program = (
        "import time\nfrom holdfast_worker.models import registry\n"
        "guard = registry.load('reference-guard', {'device': 'cpu', 'engine': 'vllm'})\n"
        "print(guard._engine.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        os.kill(pid, 0)
        worker.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the engine runs on"
        time.sleep(0.1)
