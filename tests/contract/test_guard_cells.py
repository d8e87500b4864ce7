"""The cells in which every draw is scored (maths.md §§5 and 10): which there are, and what each is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.certificates.noise.kernels import mask_probability
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.questions import question_of
from tests.contract.asking import guard_requests
from tests.contract.served import GUARD, TABULAR, resolved

SHARED, PER_BUDGET = (
    guard_requests(GUARD, kinds=["suffix"], scopes=[scope]).filter(
        lambda asked: asked["target"] is None and asked["method"] != "neyman_pearson"
    )
    for scope in ("shared", "per_budget")
)
THRESHOLDS = st.floats(1e-6, 0.999)


def meant(asked: dict[str, Any]) -> GuardSpec:
    return resolve(CertificationRequest.model_validate(asked), TABULAR if asked["model"] == "table" else GUARD)


def whole(beta: float, slots: int = 4, **more: Any) -> GuardSpec:
    """Suffix slots that are each masked at this rate."""
    noise = {"beta": beta, "token_kernel": "absorbing", **more.pop("noise", {})}
    return resolved(threat={"text": {"slots": slots}}, noise=noise, **more)


@pytest.mark.parametrize(
    ("spec", "cells"),
    [
        (whole(0.5, decision={"tau": 0.2}), [(4, 0, False), (4, 1, False), (4, 2, True)]),
        (whole(0.5, decision={"tau": 0.2}, method="joint"), [(4, 0, False), (4, 1, False), (4, 2, True)]),
        (whole(0.5, decision={"tau": 0.2}, method="stratified"), [(4, 0, False), (4, 1, False), (4, 2, True)]),
        (whole(0.5, decision={"tau": 0.2}, method="neyman_pearson"), [(4, 0, True)]),
        (whole(1.0, 2, decision={"tau": 0.2}), [(2, 0, False), (2, 1, False), (2, 2, True)]),
        (whole(0.5, decision={"tau": 0.5}), [(4, 0, True)]),
        (whole(0.5, target={"tokens": 1}), [(4, 1, True)]),
        (whole(0.5, target={"tokens": 0}), [(4, 0, True)]),
        (whole(0.5, target={"tokens": 1}, method="neyman_pearson"), [(4, 0, True)]),
        (whole(0.5, 2, noise={"scope": "per_budget"}), [(0, 0, True), (1, 1, True), (2, 2, True)]),
        (whole(0.5, 2, noise={"scope": "per_budget"}, method="neyman_pearson"),
         [(0, 0, True), (1, 0, True), (2, 0, True)]),
        (whole(0.5, 2, noise={"scope": "per_budget"}, target={"tokens": 1}), [(1, 1, True)]),
        (resolved(threat={"text": {"kind": "none"}}), [(0, 0, True)]),
        (resolved(threat={"text": {"kind": "append"}}, decision={"verdict": "unsafe"}), [(0, 0, True)]),
        (resolved(threat={"text": {"kind": "l0"}}), [(0, 0, True)]),
        (resolved(TABULAR), [(3, 0, True)]),
    ],
)  # fmt: skip
def test_the_cells_are_those_of_the_mathematics(spec: GuardSpec, cells: list[tuple[int, int, bool]]) -> None:
    assert [tuple(cell) for cell in spec.cells] == cells


@given(guard_requests(GUARD) | guard_requests(TABULAR))
def test_no_cell_is_there_twice_and_every_tail_of_a_draw_is_a_pass_in_each(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    assert len(set(spec.cells)) == len(spec.cells)
    assert spec.draw_passes == spec.tails * len(spec.cells)


@given(guard_requests(GUARD) | guard_requests(TABULAR))
def test_without_noise_on_the_text_all_tails_of_a_draw_are_one(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    assert spec.tails == 1 if spec.text in ("none", "append") else spec.tails >= 1


@given(SHARED)
def test_every_draw_falls_into_exactly_one_stratum(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    for masked in range(spec.slots + 1):
        held = [
            cell
            for cell in spec.cells
            if (masked >= cell.leading_masked if cell.at_least else masked == cell.leading_masked)
        ]
        assert len(held) == 1


@given(SHARED)
def test_strata_are_as_fine_as_thresholds_allow_and_no_finer(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    masked = mask_probability(question_of(spec).kernels[0])
    least = {"unsafe": spec.tau, "safe": 1 - spec.tau, "both": min(spec.tau, 1 - spec.tau)}[spec.verdict]
    assert spec.strata == 0 or masked**spec.strata > least * (1 - 1e-12)
    assert spec.strata == spec.slots or masked ** (spec.strata + 1) < least * (1 + 1e-12)


@given(THRESHOLDS, THRESHOLDS, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(1, 16))
def test_strata_fall_with_the_threshold_and_grow_with_the_rate_of_masks(
    one: float, other: float, rate: float, another: float, slots: int
) -> None:
    (low, high), (rare, often) = sorted((one, other)), sorted((rate, another))
    unsafe = {"verdict": "unsafe"}
    assert whole(rare, slots, decision={**unsafe, "tau": high}).strata <= (
        whole(often, slots, decision={**unsafe, "tau": low}).strata
    )
    safe = {"verdict": "safe"}
    assert whole(rare, slots, decision={**safe, "tau": low}).strata <= (
        whole(often, slots, decision={**safe, "tau": high}).strata
    )


@given(THRESHOLDS, st.floats(0.01, 1), st.integers(1, 16))
def test_trying_for_both_verdicts_is_as_fine_as_the_finer_of_the_two(tau: float, beta: float, slots: int) -> None:
    alone = [whole(beta, slots, decision={"tau": tau, "verdict": verdict}).strata for verdict in ("unsafe", "safe")]
    assert whole(beta, slots, decision={"tau": tau}).strata == max(alone)


@given(PER_BUDGET)
def test_each_budget_has_a_cell_of_its_own_smoothed_guard(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    assert [cell.slots for cell in spec.cells] == list(range(spec.max_tokens + 1))
    assert {cell.leading_masked for cell in spec.cells} <= {cell.slots for cell in spec.cells}
    assert all(cell.at_least for cell in spec.cells)


@given(st.floats(0.01, 100 / 101), st.integers(1, 16), THRESHOLDS)
def test_uniform_noise_is_cut_as_absorbing_noise_of_its_mask_rate_is(beta: float, slots: int, tau: float) -> None:
    uniform = whole(beta, slots, noise={"token_kernel": "uniform"}, decision={"tau": tau})
    absorbing = whole(min(1.0, beta * 101 / 100), slots, decision={"tau": tau})
    assert uniform.cells == absorbing.cells
