"""What a guard announces of its draws: the band of ties, the tails, the cost, and how many draws that allows."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contract.models import Cost
from holdfast_worker.models import registry
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.announced import TIE_BANDS, tails_worth
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.sampling.cost import measured_cost
from holdfast_worker.sampling.guard import example
from holdfast_worker.sampling.kinds import kind_of, measure
from tests.workers.builders import table_folder


def cost(draw_s: float, guard: Any) -> Cost:
    """A cost at which a default draw of the guard takes so long, half of it up to the tails."""
    spec = example(guard, 0).spec
    positions = spec.draw_passes * (spec.slots + 4)
    return Cost(prefill_s=draw_s / 2, position_s=draw_s / 2 / positions, closing=4, room=7)


def with_cost(guard: LlavaGuard, draw_s: float) -> LlavaGuard:
    guard.cost = cost(draw_s, guard)
    return guard


@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_tails_are_as_many_as_cost_about_half_a_prefill_and_one_to_eight(prefill: int, tail: int) -> None:
    tails = tails_worth(prefill, tail)
    assert 1 <= tails <= 8
    if 2 * tail <= prefill <= 16 * tail:
        assert abs(tails * tail - prefill / 2) <= tail / 2


def test_the_published_seven_billion_guard_has_six_tails() -> None:
    assert tails_worth(1300, 9 * 12) == 6


def test_tails_follow_from_positions_unless_the_folder_says_how_many(base_folder: Path) -> None:
    derived = load_guard(base_folder, load_config(GuardConfig, base_folder, {}))
    spec, inputs = example(derived, 0).spec, derived.inputs
    assert derived.info.defaults.tails == tails_worth(inputs.prefill, len(spec.cells) * (spec.slots + inputs.closing))
    said = load_guard(base_folder, load_config(GuardConfig, base_folder, {"defaults": {"tails": 5}}))
    assert said.info.defaults.tails == 5
    assert said.fingerprint == derived.fingerprint


def test_a_policy_that_is_read_once_for_all_draws_is_no_prefill_of_a_draw(base_folder: Path) -> None:
    usual, first = (
        load_guard(base_folder, load_config(GuardConfig, base_folder, {"layout": layout}))
        for layout in ("published", "policy_first")
    )
    assert first.inputs.prefill < usual.inputs.prefill


def test_no_measurement_changes_the_tails(guard: LlavaGuard) -> None:
    before = guard.info.defaults.tails
    assert [with_cost(guard, draw_s).info.defaults.tails for draw_s in (1e-6, 0.02, 30.0)] == [before] * 3


@pytest.mark.parametrize(
    ("draw_s", "draws"), [(0.001, 1000), (0.0099, 1000), (0.02, 500), (0.05, 200), (0.4, 25), (2.0, 20), (60.0, 20)]
)
def test_a_slow_guard_announces_ten_device_seconds_of_draws(guard: LlavaGuard, draw_s: float, draws: int) -> None:
    announced = with_cost(guard, draw_s).info
    assert announced.cost == guard.cost
    assert abs(announced.defaults.max_draws - draws) <= 1


def test_draws_that_the_folder_names_are_announced_however_long_they_take(base_folder: Path) -> None:
    settings = {"defaults": {"max_draws": 300}}
    guard = load_guard(base_folder, load_config(GuardConfig, base_folder, settings))
    assert with_cost(guard, 0.5).info.defaults.max_draws == 300


def test_before_anything_was_measured_no_cost_is_announced(guard: LlavaGuard) -> None:
    assert (guard.info.cost, guard.info.defaults.max_draws) == (None, 1000)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_band_of_ties_goes_by_the_number_type_unless_the_settings_say(base_folder: Path, dtype: str) -> None:
    usual, own = (
        load_guard(base_folder, load_config(GuardConfig, base_folder, {"dtype": dtype, **settings}))
        for settings in ({}, {"tie_band": 0.125})
    )
    assert usual.info.tie_band == TIE_BANDS[getattr(torch, dtype)]
    assert own.info.tie_band == 0.125
    assert own.fingerprint == usual.fingerprint


def test_a_wider_band_of_ties_leaves_what_was_measured_of_the_guard() -> None:
    settings = {"tie_band": 0.01, "device": "cpu"}
    assert registry.require_guard(registry.load("reference-guard", settings)).info.false_flag is not None


def test_a_measured_cost_is_of_finite_positive_numbers_and_names_the_pass_it_fills(guard: LlavaGuard) -> None:
    ready = example(guard, 0)
    found = measured_cost(guard, ready)
    draw_s = found.draw_s(tails=ready.spec.draw_passes, slots=ready.spec.slots)
    assert 0 < draw_s < math.inf
    assert found.closing == guard.inputs.closing
    assert found.room == guard.room(ready.prepared, tails=ready.spec.draw_passes)


def test_names_of_one_model_announce_one_cost(base_folder: Path) -> None:
    known = dict[str, Cost]()
    first, second = (
        load_guard(base_folder, load_config(GuardConfig, base_folder, {"name": name})) for name in ("one", "two")
    )
    for guard in (first, second):
        measure(kind_of(guard), known)
    assert first.info.cost == second.info.cost == known[first.fingerprint]
    assert list(known) == [first.fingerprint]


def test_a_tabular_guard_announces_what_a_pass_costs(tmp_path: Path) -> None:
    guard = registry.require_guard(registry.load(table_folder(tmp_path), {}))
    measure(kind_of(guard), {})
    assert guard.info.cost is not None
    assert guard.info.cost.draw_s(tails=1, slots=2) > 0
    assert guard.info.cost.room == 8192
