"""The engine's own traps: what it refuses, what it must not mix up, and how it ends."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from holdfast_worker.models import registry
from holdfast_worker.models.errors import EngineLostError, ModelConfigError, ModelOutputError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.vllm.engine import ProcessEngine, Prompts, child_environment
from holdfast_worker.models.vllm.guard import VllmGuard
from tests.vllm.checkpoints import saved_anew
from tests.vllm.test_agreement import TEXTS, draws_of
from tests.waiting import until


def prompts(guard: VllmGuard, features: torch.Tensor) -> Prompts:
    """One prompt for each image, alike but for the image."""
    ids = np.array([*guard._prompt.before, *guard._prompt.after] * len(features), dtype=np.int64)
    lengths = np.full(len(features), len(ids) // len(features))
    return Prompts(features, np.arange(len(features)), ids, lengths)


def answers(guard: VllmGuard, features: torch.Tensor) -> NDArray[np.float32]:
    return guard.engine.logprobs(prompts(guard, features))


def features_of(guard: VllmGuard, images: int, positions: int = 17) -> torch.Tensor:
    return torch.randn(images, positions, 96, generator=torch.Generator().manual_seed(positions))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


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
    np.testing.assert_allclose(guard.engine.logprobs(one)[0], wanted[tokens].numpy(), atol=1e-4)


def test_features_of_a_wrong_width_are_refused_and_harm_nothing(guard: VllmGuard) -> None:
    with pytest.raises(ModelOutputError, match="64 wide, must be 96"):
        answers(guard, torch.zeros(1, 17, 64))
    assert not guard.engine.lost
    assert np.isfinite(answers(guard, features_of(guard, 1))).all()


def test_a_checkpoint_that_vllm_does_not_serve_is_refused_at_load(plain: LlavaGuard, tmp_path: Path) -> None:
    folder = saved_anew(tmp_path, plain)
    weights = load_file(folder / "model.safetensors")
    del weights["model.language_model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelConfigError, match=r"vLLM does not serve .*norm"):
        registry.load(folder, {"device": "cpu", "engine": "vllm"})


def test_a_poisoned_request_ends_the_engine_which_starts_again(
    expendable: VllmGuard, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = answers(expendable, features_of(expendable, 2))
    poison = prompts(expendable, torch.full((1, 17, 96), 0.123456))
    poison.ids[-1] = 400_000  # no token of the vocabulary
    capfd.readouterr()
    with pytest.raises(EngineLostError, match="died"):
        expendable.engine.logprobs(poison)
    assert expendable.engine.lost
    assert "0.1235" not in "".join(capfd.readouterr())
    expendable.engine.start()
    np.testing.assert_array_equal(answers(expendable, features_of(expendable, 2)), wanted)


def test_a_step_that_fails_inside_vllm_leaves_no_input_in_the_log(engine: ProcessEngine) -> None:
    program = (
        "import json, sys, torch\nfrom holdfast_worker.models.vllm.engine import EngineSettings\n"
        "from holdfast_worker.models.vllm.process import _engine\n"
        "engine = _engine(EngineSettings(**json.loads(sys.argv[1])))\n"
        "features = [torch.full((length, 96), 0.654321) for length in (17, 18)]\n"
        "engine.generate([{'prompt_token_ids': [7, 1, 9], 'multi_modal_data': {'image': [one]}} for one in features])"
    )
    settings = engine._settings
    answer = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asdict(settings))],
        env=os.environ | child_environment(settings, None),
        capture_output=True,
        text=True,
    )
    assert answer.returncode != 0
    assert "inconsistent shapes" in answer.stderr  # why a call holds images of one shape
    assert "0.6543" not in answer.stdout + answer.stderr


def test_an_engine_does_not_outlive_its_worker(tmp_path: Path) -> None:
    program = (
        "import time\nfrom holdfast_worker.models import registry\n"
        "guard = registry.load('reference-guard', {'device': 'cpu', 'engine': 'vllm'})\n"
        "print(guard.engine.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        os.kill(pid, 0)
        worker.kill()
    until(lambda: not Path(f"/proc/{pid}").exists())
