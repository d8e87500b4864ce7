"""Benches: the arithmetic that they count is what is done, and their figures hang together."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import resolve
from holdfast_worker.inspection.batch_size import BatchPoint, measure_batches, positions_of, recommended
from holdfast_worker.inspection.bench import bench, certificate_seconds
from holdfast_worker.inspection.bench_command import command
from holdfast_worker.inspection.fixed_draws import input_draws
from holdfast_worker.inspection.flops import draw_flops, peak_flops
from holdfast_worker.models import registry
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.sampling.guard import example
from tests.workers.builders import FIELDS, table_folder
from tests.workers.feature_builders import encoder_folder, small_encoder

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CONFIG", "")


def counted(guard: LlavaGuard, draws: Draws) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        guard.margins([draws])
    return int(counter.get_total_flops())


def default_draws(guard: Any, count: int) -> Draws:
    return input_draws(guard, example(guard, 0), count)


@pytest.mark.parametrize("draws", [1, 5])
def test_the_arithmetic_of_the_reference_guard_is_what_torch_counts(draws: int) -> None:
    guard = registry.load("reference-guard", {})
    assert isinstance(guard, LlavaGuard)
    batch = default_draws(guard, draws)
    assert draws * draw_flops(guard, batch).total == pytest.approx(counted(guard, batch), rel=0.02)


@pytest.mark.parametrize(
    "shape", [{"tiles": "anyres"}, {"layer": [-1, -2]}, {"noise_height": 60}, {"layout": "policy_first"}]
)
def test_the_arithmetic_of_tiles_and_layers_is_what_torch_counts(checkpoint: Any, shape: dict[str, Any]) -> None:
    folder = checkpoint(pinpoints=((32, 32), (32, 64), (64, 32)), **shape)
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    batch = default_draws(guard, 3)
    guard.margins([batch.part(0, 1)])  # what is read once for all draws is read here
    assert 3 * draw_flops(guard, batch).total == pytest.approx(counted(guard, batch), rel=0.02)


def test_tails_and_cells_share_the_image_and_the_prefix(guard: LlavaGuard) -> None:
    batch = default_draws(guard, 2)
    one = Draws(batch.prepared, batch.seed, batch.sigma, 0, 2, batch.tails[:, :1, :1])
    whole, single = draw_flops(guard, batch), draw_flops(guard, one)
    assert (whole.vision, whole.prefix) == (single.vision, single.prefix)
    assert whole.tails > single.tails
    assert whole.total < batch.draw_passes * single.total / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_is_a_rate_that_no_machine_has_passed(dtype: torch.dtype) -> None:
    assert 0 < peak_flops(torch.device("cpu"), dtype, seconds=0.01) < 1e15


def test_the_figures_of_a_guard_hang_together(guard: LlavaGuard) -> None:
    found = bench(guard, seconds=0.1, draws=3)
    assert (found.draws, found.name, found.dtype) == (3, "tiny", "float32")
    assert sum(found.stages.values()) == pytest.approx(1)
    assert set(found.stages) == {"noise", "preprocess", "vision", "prefix", "tails"}
    assert found.flops_per_draw is not None
    assert found.peak_flops is not None
    assert found.utilisation == pytest.approx(found.flops_per_draw * found.draws_per_s / found.peak_flops)
    assert found.passes_per_s == pytest.approx(found.draws_per_s * found.tails * found.cells)
    assert found.certificate_s is not None
    assert found.frontier_s == pytest.approx(found.max_draws / found.draws_per_s + found.certificate_s)
    assert guard.cost is not None
    assert (found.prefill_s, found.position_s) == (guard.cost.prefill_s, guard.cost.position_s)


def test_a_guard_is_run_with_as_many_draws_as_fill_a_pass(guard: LlavaGuard) -> None:
    positions = positions_of(guard, default_draws(guard, 1))
    guard.batching.limit = 3 * positions + 1
    assert bench(guard, seconds=0.01).draws == 3


def test_the_figures_of_an_encoder_hang_together(tmp_path: Path) -> None:
    encoder = small_encoder(tmp_path)
    found = bench(encoder, seconds=0.05, draws=4)
    assert (found.draws, found.tails, found.cells, found.certificate_s) == (4, 1, 1, None)
    assert (found.prefill_s, found.position_s) == (None, None)
    assert set(found.stages) == {"noise", "vision", "pooling"}
    # two layers: a convolution of 16 places with 48 weights into 6 channels, and 96 into 12
    assert found.flops_per_draw == 2 * (16 * 48 * 6 + 96 * 12)
    assert found.frontier_s == pytest.approx(found.max_draws / found.draws_per_s)


def test_a_tabular_guard_has_a_rate_and_a_frontier_but_no_stages(tmp_path: Path) -> None:
    guard: Any = registry.load(table_folder(tmp_path), {})
    found = bench(guard, seconds=0.05)
    assert (dict(found.stages), found.utilisation) == ({}, None)
    assert 0 < found.frontier_s < math.inf
    spec = resolve(CertificationRequest(model="table", input=Input(fields=FIELDS)), guard.info)
    assert certificate_seconds(spec) >= 0


def test_the_smallest_batch_that_is_about_as_fast_is_recommended() -> None:
    points = [BatchPoint(1, 10, 50.0), BatchPoint(2, 20, 98.0), BatchPoint(4, 40, 100.0), BatchPoint(8, 80, 90.0)]
    assert recommended(points).limit == 20


def test_batches_grow_until_memory_ends_and_leave_the_guard_as_it_was(
    guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, before = guard._model.model.language_model.forward, guard.batching.limit

    def within(*args: Any, **kwargs: Any) -> Any:
        if len(kwargs["inputs_embeds"] if "inputs_embeds" in kwargs else kwargs["input_ids"]) > 5:
            raise torch.OutOfMemoryError("device full")
        return forward(*args, **kwargs)

    monkeypatch.setattr(guard._model.model.language_model, "forward", within)
    points = measure_batches(guard)
    assert [point.draws for point in points] == [1, 2, 4][: len(points)]
    assert points[0].limit == positions_of(guard, default_draws(guard, 1))
    assert (guard.batching.limit, guard.batching.out_of_memory_total) == (before, 0)


def test_an_encoders_batches_are_images(tmp_path: Path) -> None:
    points = measure_batches(small_encoder(tmp_path))
    assert [(point.draws, point.limit) for point in points][:2] == [(1, 1), (2, 2)]
    assert all(point.passes_per_s > 0 for point in points)


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: Capture) -> None:
    folder = str(encoder_folder(tmp_path))
    assert command([folder, "batch_limit=4", "--seconds", "0.01"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "small", "draws/s", "passes/s", "stages", "utilisation", "frontier",
    ]  # fmt: skip
    assert command([folder, "--draws", "2", "--seconds", "0.01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["draws"] == 2


def test_a_model_that_is_not_there_is_refused_with_the_remedy(capsys: Capture) -> None:
    assert command(["absent"]) == 1
    assert "or an existing folder; correct the name" in capsys.readouterr().err
