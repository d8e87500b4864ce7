"""The guard around an engine, with transformers in vLLM's place; `tests/vllm` holds it against the real one."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from holdfast_worker.models import registry
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.errors import EngineLostError, ModelConfigError, ModelOutputError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.vllm import loading as vllm_loading
from holdfast_worker.models.vllm.engine import PROCESS_MODULE, EngineSettings, ProcessEngine, Prompts, child_environment
from holdfast_worker.models.vllm.guard import VllmGuard
from holdfast_worker.models.vllm.loading import load_image_path
from tests.workers.builders import votes
from tests.workers.engines import LocalEngine, split_guard

SETTINGS = EngineSettings("nowhere", "float32", "cpu", 32, 600, 1 << 20, 16, (1, 2), 0.8, 8, 3)


def split_by_folder(folder: Path, plain: LlavaGuard) -> tuple[VllmGuard, LocalEngine]:
    """The same guard with its image side read from the folder by itself, and its language model behind an engine."""
    whole = AutoConfig.from_pretrained(folder)
    return split_guard(plain, load_image_path(folder, whole, plain.inputs.pixels, torch.float32, torch.device("cpu")))


@pytest.fixture
def split(base_folder: Path, guard: LlavaGuard) -> tuple[VllmGuard, LocalEngine]:
    return split_by_folder(base_folder, guard)


@pytest.mark.parametrize(
    "shape",
    [
        {"tiles": "base"},
        {"pinpoints": ((32, 64), (64, 64)), "noise_width": 60},
        {"layout": "policy_first"},
        {"layer": 1},
    ],
)
def test_it_judges_as_the_guard_on_transformers(
    checkpoint: Callable[..., Path], draw: Callable[..., Draws], shape: dict[str, object]
) -> None:
    folder = checkpoint(**shape)
    plain = load_guard(folder, load_config(GuardConfig, folder, {}))
    apart, _ = split_by_folder(folder, plain)
    long = draw(plain, 0, 3, text="a much longer text", sigma=0.5, slots=2)
    batch = [draw(plain, 3, 8), long, draw(plain, 0, 2, sigma=0.0)]
    for wanted, found in zip(plain.margins(batch), apart.margins(batch), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_tails_of_a_draw_are_asked_together_and_coinciding_ones_once(
    split: tuple[VllmGuard, LocalEngine], draw: Callable[..., Draws]
) -> None:
    guard, engine = split
    draws = draw(guard, 0, 3)
    repeated = replace(draws, tails=draws.tails[:, [0, 0]][:, :, [0, 1, 0, 1]])
    margins = guard.margins([repeated])[0]
    (asked,) = engine.read
    np.testing.assert_array_equal(asked.images, np.repeat([0, 1, 2], 2))
    np.testing.assert_array_equal(margins[:, :, :2], margins[:, :, 2:])
    np.testing.assert_array_equal(margins[:, 0], margins[:, 1])


def test_a_still_image_is_sent_once_for_all_its_draws(
    split: tuple[VllmGuard, LocalEngine], draw: Callable[..., Draws]
) -> None:
    guard, engine = split
    guard.margins([draw(guard, 0, 5, sigma=0.0), draw(guard, 0, 2)])
    assert len(engine.read[0].features) == 3


def test_no_call_holds_more_images_than_the_limit(
    split: tuple[VllmGuard, LocalEngine], draw: Callable[..., Draws]
) -> None:
    guard, engine = split
    draws = draw(guard, 0, 7)
    whole = guard.margins([draws])[0]
    guard.batching.limit = 3 * guard.inputs.pixels.image_tokens
    np.testing.assert_allclose(guard.margins([draws])[0], whole, atol=1e-5)
    assert [len(asked.features) for asked in engine.read] == [7, 3, 3, 1]


def test_out_of_memory_halves_the_call_and_is_remembered(
    split: tuple[VllmGuard, LocalEngine], draw: Callable[..., Draws], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, engine = split
    read = engine.logprobs

    def within(prompts: Prompts) -> object:
        if len(prompts.features) > 2:
            raise torch.OutOfMemoryError("device full")
        return read(prompts)

    monkeypatch.setattr(engine, "logprobs", within)
    assert guard.margins([draw(guard, 0, 7)])[0].shape[0] == 7
    assert (guard.batching.out_of_memory_total, guard.batching.limit) == (2, guard.inputs.pixels.image_tokens)


def test_a_dead_engine_is_lost_until_it_is_restored(
    split: tuple[VllmGuard, LocalEngine], draw: Callable[..., Draws]
) -> None:
    guard, engine = split
    engine.calls_left = 0
    with pytest.raises(EngineLostError):
        guard.margins([draw(guard, 0, 2)])
    assert guard.engine.lost
    guard.engine.start()
    assert not guard.engine.lost
    assert votes(guard, [draw(guard, 0, 2)])[0].dtype == bool


def test_an_answer_that_is_no_number_is_refused(
    split: tuple[VllmGuard, LocalEngine], draw: Callable[..., Draws], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, engine = split
    monkeypatch.setattr(engine, "logprobs", lambda prompts: np.full((len(prompts.lengths), 2), -np.inf, np.float32))
    with pytest.raises(ModelOutputError, match="20 of 20 margins"):
        guard.margins([draw(guard, 0, 2)])


def test_vllm_that_is_not_installed_is_named_with_the_remedy(
    base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_loading, "find_spec", lambda name: None)
    with pytest.raises(ModelConfigError, match=r"install holdfast\[vllm\]"):
        registry.load(base_folder, {"engine": "vllm"})


def test_a_url_without_vllm_is_refused(base_folder: Path) -> None:
    with pytest.raises(ModelConfigError, match="vllm_url needs engine=vllm"):
        registry.load(base_folder, {"vllm_url": "http://127.0.0.1:1"})


def test_an_image_side_that_lacks_a_weight_is_refused(base_folder: Path, guard: LlavaGuard) -> None:
    wider = AutoConfig.from_pretrained(base_folder)
    wider.vision_config.intermediate_size = 40
    with pytest.raises(ModelConfigError, match="6 weights are missing, misshapen or too many"):
        load_image_path(base_folder, wider, guard.inputs.pixels, torch.float32, torch.device("cpu"))


def test_an_engine_that_cannot_start_says_so_and_leaves_no_process(guard: LlavaGuard) -> None:
    engine = ProcessEngine(SETTINGS)
    with pytest.raises((ModelConfigError, EngineLostError)):
        engine.start()
    assert engine.lost
    assert engine.pid is None


def test_the_child_is_told_its_device_and_threads_and_no_more_of_vllms_processes() -> None:
    cpu = child_environment(SETTINGS, None)
    assert (cpu["OMP_NUM_THREADS"], cpu["VLLM_ENABLE_V1_MULTIPROCESSING"]) == ("3", "0")
    second = replace(SETTINGS, device="cuda:1")
    assert child_environment(second, None)["CUDA_VISIBLE_DEVICES"] == "1"
    assert child_environment(second, "4,6")["CUDA_VISIBLE_DEVICES"] == "6"
    assert "CUDA_VISIBLE_DEVICES" not in child_environment(replace(SETTINGS, device="cuda"), "4,6")


def test_the_module_that_the_engines_process_runs_is_there() -> None:
    assert find_spec(PROCESS_MODULE) is not None
