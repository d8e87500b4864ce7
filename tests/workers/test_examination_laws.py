"""What commands on models count and measure: arithmetic by hand, batches against a device of known size, and parts."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from holdfast_worker.inspection import batch_size
from holdfast_worker.inspection.batch_size import BatchPoint, measure_batches, recommended
from holdfast_worker.inspection.fingerprints import fingerprint_parts
from holdfast_worker.inspection.flops import DrawFlops, language_flops, vision_flops
from holdfast_worker.models import registry
from holdfast_worker.models.draws import Draws, PreparedInput, size, take
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.stages import StageClock
from tests.workers.feature_builders import encoder_folder, small_encoder

widths = st.integers(1, 64)


def product(rows: int, inner: int, columns: int) -> int:
    """Operations of one matrix product."""
    return 2 * rows * inner * columns


@given(widths, widths, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 50))
def test_a_language_layer_is_seven_products_and_its_attention(
    tokens: int, inner: int, heads: int, per_key: int, layers: int, before: int
) -> None:
    head, queries = 8, heads * per_key
    width, seen = queries * head, before + tokens
    text = SimpleNamespace(
        hidden_size=width, num_attention_heads=queries, num_key_value_heads=heads, intermediate_size=inner,
        num_hidden_layers=layers,
    )  # fmt: skip
    projections = 2 * product(tokens, width, width) + 2 * product(tokens, width, heads * head)
    gated = 2 * product(tokens, width, inner) + product(tokens, inner, width)
    attention = queries * (product(tokens, head, seen) + product(tokens, seen, head))
    assert language_flops(text, tokens, seen) == layers * (projections + gated + attention)


@given(st.integers(1, 6), widths, widths, widths, st.sampled_from([-2, [-2, -1], [0, 1, 2]]), st.booleans())
def test_a_vision_tower_is_its_patches_its_layers_and_its_projector(
    side: int, width: int, inner: int, language: int, layer: Any, has_class: bool
) -> None:
    vision = SimpleNamespace(
        image_size=14 * side, patch_size=14, model_type="clip_vision_model" if has_class else "siglip_vision_model",
        hidden_size=width, intermediate_size=inner, num_hidden_layers=3,
    )  # fmt: skip
    model = SimpleNamespace(
        vision_config=vision, text_config=SimpleNamespace(hidden_size=language), vision_feature_layer=layer,
        vision_feature_select_strategy="default" if has_class else "full",
    )  # fmt: skip
    patches, states = side * side, 1 if isinstance(layer, int) else len(layer)
    tokens = patches + has_class
    one_layer = (
        4 * product(tokens, width, width) + 2 * product(tokens, width, inner) + 2 * product(tokens, width, tokens)
    )
    embedding = product(patches, 3 * 14 * 14, width)
    projector = product(patches, states * width, language) + product(patches, language, language)
    assert vision_flops(model, 1) == 3 * one_layer + embedding + projector
    assert vision_flops(model, 5) == 5 * vision_flops(model, 1)


def test_the_parts_of_a_draw_add_up() -> None:
    assert DrawFlops(1.0, 20.0, 300.0).total == 321.0


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=11))
def test_the_recommended_batch_is_nearly_the_fastest_and_none_before_it_is(rates: list[float]) -> None:
    points = [BatchPoint(1 << power, 10 << power, rate) for power, rate in enumerate(rates)]
    chosen = points.index(recommended(points))
    assert rates[chosen] >= 0.97 * max(rates)
    assert all(rate < 0.97 * max(rates) for rate in rates[:chosen])


class Device:
    """A device of known size and speed: the encoder's own tower runs, memory and the clock are said."""

    def __init__(self, model: Encoder, patch: pytest.MonkeyPatch) -> None:
        self.model, self.room, self.now = model, 10**9, 0.0
        self.seconds: Callable[[int], float] = lambda images: 0.01 * images
        self._tokens = model.tower.tokens
        patch.setattr(model.tower, "tokens", self._run)
        patch.setattr(batch_size, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.room:
            raise torch.OutOfMemoryError("device full")
        self.now += self.seconds(len(images))
        return self._tokens(images)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(small_encoder(tmp_path), monkeypatch)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 64, 100, 10**9])
def test_batches_double_until_the_device_is_full_and_the_full_one_does_not_count(device: Device, room: int) -> None:
    device.room, device.seconds = room, lambda images: 0.5
    batching = device.model.batching
    before = batching.limit, batching.out_of_memory_total
    found = measure_batches(device.model)
    assert [point.draws for point in found] == [1 << power for power in range(11) if 1 << power <= room]
    assert all(point.passes_per_s == pytest.approx(point.draws / 0.5) for point in found)
    assert (batching.limit, batching.out_of_memory_total) == before


def test_batches_end_where_they_have_got_slower_twice(device: Device) -> None:
    device.seconds = lambda images: 0.01 * max(1, images / 4) ** 2
    found = measure_batches(device.model)
    assert [point.draws for point in found] == [1, 2, 4, 8, 16]
    assert recommended(found).draws == 4


def test_a_batch_that_takes_too_long_is_the_last(device: Device) -> None:
    device.seconds = lambda images: 6.0 * images
    assert [point.draws for point in measure_batches(device.model)] == [1, 2, 4]
    device.seconds = lambda images: 21.0
    assert [point.draws for point in measure_batches(device.model)] == [1]


def test_a_single_draw_that_does_not_fit_leaves_the_model_as_it_was(device: Device) -> None:
    before = device.model.batching.limit
    device.room = 0
    with pytest.raises(torch.OutOfMemoryError):
        measure_batches(device.model)
    assert device.model.batching.limit == before


def test_each_part_of_a_fingerprint_changes_with_its_own_files(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path)
    model = registry.load(folder, {})
    before = fingerprint_parts(folder, model)
    assert set(before) == {"weights"}
    assert len(before["weights"]) == 16
    (folder / "config.json").write_text("{}")
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    more = fingerprint_parts(folder, model)
    assert set(more) == {"weights", "config", "preprocessing", "tokenizer"}
    assert more["weights"] == before["weights"]
    weights = load_file(folder / "model.safetensors")
    weights["0.bias"][0] += 1
    save_file(weights, folder / "model.safetensors")
    after = fingerprint_parts(folder, model)
    assert {name for name in more if more[name] != after[name]} == {"weights"}


def draws_of(start: int, many: int) -> Draws:
    """A range of draws of one empty input, each tail holding its draw's own number."""
    prepared = PreparedInput(torch.zeros(3, 1, 1), torch.zeros(0, dtype=torch.int64), np.zeros(1, dtype=np.int64))
    tails = np.arange(start, start + many, dtype=np.int64)[:, None, None, None]
    return Draws(prepared, "s", 0.5, start, start + many, tails)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5), st.integers(1, 700))
def test_whatever_is_cut_off_nothing_is_lost_doubled_or_moved(lengths: list[int], most: int) -> None:
    starts = np.cumsum([0, *lengths])
    pending = [draws_of(int(start), length) for start, length in zip(starts, lengths, strict=False)]
    numbers: list[int] = []
    for _ in count():
        if not pending:
            break
        part, pending = take(pending, most)
        assert 1 <= size(part) <= most
        for draws in part:
            assert draws.tails[:, 0, 0, 0].tolist() == list(range(draws.start, draws.stop))
            numbers += range(draws.start, draws.stop)
    assert numbers == list(range(sum(lengths)))


def test_a_clock_counts_each_stage_from_the_mark_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 100.0, 104.0])
    monkeypatch.setattr("holdfast_worker.models.stages.time", SimpleNamespace(perf_counter=lambda: next(times)))
    clock = StageClock(torch.device("cpu"), ("noise", "vision"))
    clock.begin()
    clock.mark("noise")
    clock.mark("vision")
    clock.begin()
    clock.mark("pooling")
    assert clock.seconds == {"noise": 0.0, "vision": 0.0}
    clock.settle()
    clock.settle()
    assert clock.seconds == {"noise": 1.0, "vision": 2.0, "pooling": 4.0}
