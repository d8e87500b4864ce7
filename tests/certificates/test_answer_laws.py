"""Laws that every answer obeys, whatever is asked and whatever was drawn."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from holdfast.certificates import Answer, Counts, Question, answer
from holdfast.certificates.guard.sides import passes_to_detect, safe_threshold
from tests.certificates.asking import asked, counted, pooled

pytestmark = pytest.mark.slow

ROUNDING = 1e-9  # relative; numbers found by different searches agree no better
POOL = 60
KINDS: dict[str, dict[str, Any]] = {
    "suffix": {},
    "few strata": {"strata": 1, "method": "auto"},
    "auto": {"method": "auto"},
    "auto with a natural cell": {"method": "auto", "natural": True},
    "neyman_pearson": {"method": "neyman_pearson", "strata": 0},
    "per budget": {"per_budget": True},
    "per budget by neyman_pearson": {"per_budget": True, "method": "neyman_pearson"},
    "image only": {"text": "none"},
    "text only": {"sigma": 0.0, "epsilons": (0.0,), "method": "auto"},
    "l0": {"text": "l0", "max_tokens": 3},
    "l0, auto": {"text": "l0", "max_tokens": 3, "method": "auto"},
    "tabular": {"text": "l0", "tabular": True, "alphabets": (2, 3, 5), "method": "auto"},
}

ONE_GUARD = tuple(kind for kind in KINDS if "per budget" not in kind)


@st.composite
def questions(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> Question:
    """A question of any of these kinds; rates have a latent form."""
    changes = KINDS[draw(st.sampled_from(kinds))]
    kernel = draw(st.sampled_from(["absorbing", "uniform"]))
    alphabets = changes.get("alphabets", (draw(st.sampled_from([2, 3, 900])),))
    most = 0.99 if kernel == "absorbing" else 0.99 * (min(alphabets) - 1) / min(alphabets)
    return asked(
        kernel=kernel,
        beta=draw(st.sampled_from([0.3, 0.9])) * most,
        tau=draw(st.sampled_from([1e-4, 0.2, 0.5, 0.7])),
        alpha=draw(st.sampled_from([1e-3, 0.05, 0.3])),
        bound=draw(st.sampled_from(["any_time", "clopper_pearson"])),
        **{"sigma": 0.5, "alphabets": alphabets, **changes},
    )


@st.composite
def evidence(draw: st.DrawFn, question: Question) -> Counts:
    """Counts of a guard that leans one way, or none, in every cell; of a pool where masks matter."""
    if question.text == "l0":
        rng = np.random.default_rng(draw(st.integers(0, 10**6)))
        rate = draw(st.sampled_from([0.0, 0.05, 0.5, 0.97, 1.0]))
        return pooled(rng.random((POOL, 3)) < draw(st.sampled_from([0.5, 0.9])), rng.random(POOL) < rate)
    lean, cells = draw(st.sampled_from(["unsafe", "safe", "torn"])), list[tuple[int, int]]()
    for _ in question.wanted:
        draws = draw(st.sampled_from([0, 1, 7, 40, 400, 3000]))
        other = min(draws // 8, draw(st.sampled_from([0, 0, 1, 5, 300])))
        cells.append((draws, {"unsafe": draws - other, "safe": other, "torn": draws // 2 + other}[lean]))
    return counted(*cells)


@st.composite
def asked_and_drawn(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> tuple[Question, Counts]:
    question = draw(questions(kinds))
    return question, draw(evidence(question))


Asked = tuple[Question, Counts]
law = settings(derandomize=True, max_examples=120, deadline=None)


def leaning(found: Answer) -> list[float]:
    """Every number so that it rises as more speaks for Unsafe: bounds, and radii below 0 where they are of Safe."""
    sign = {"unsafe": 1.0, "safe": -1.0, "abstained": 0.0}[found.verdict]
    radii = [0.0 if point.radius is None else sign * (1.0 + point.radius) for point in found.frontier]
    rows = [number for row in found.worst_case for number in (row.at_least, row.at_most)]
    return [*found.lower, *found.upper, *radii, *rows]


def at_most(some: list[float], others: list[float]) -> bool:
    return all(one <= other + ROUNDING * max(1.0, abs(other)) for one, other in zip(some, others, strict=True))


def sure(found: Answer, side: str) -> list[float]:
    """What speaks for one verdict, larger where more is claimed."""
    if side == "unsafe":
        return [*found.lower, *(row.at_least for row in found.worst_case)]
    return [*(1 - upper for upper in found.upper), *(1 - row.at_most for row in found.worst_case)]


def radii(found: Answer, verdict: str) -> list[float]:
    """The radii of this verdict, -1 where it is not certified."""
    mine = found.verdict == verdict
    return [point.radius if mine and point.radius is not None else -1.0 for point in found.frontier]


@law
@given(given=asked_and_drawn())
def test_bounds_are_probabilities_in_order_and_passes_stand_where_a_bound_is_positive(given: Asked) -> None:
    found = answer(*given)
    assert all(0.0 <= lower <= upper <= 1.0 for lower, upper in zip(found.lower, found.upper, strict=True))
    for row in found.worst_case:
        assert 0.0 <= row.at_least <= row.at_most <= 1.0
        assert row.passes_to_detect == (passes_to_detect(row.at_least) if row.at_least > 0.0 else None)
    for point in found.frontier:
        assert (point.radius is None) == (point.native_radius is None) == (point.method is None)
        assert point.radius is None or point.radius > 0.0 or given[0].sigma == 0.0


@law
@given(given=asked_and_drawn(ONE_GUARD))
def test_a_stronger_attacker_is_promised_no_less_and_certified_no_further(given: Asked) -> None:
    found, epsilons = answer(*given), given[0].epsilons
    grid = {(row.tokens, row.epsilon): row for row in found.worst_case}
    for (tokens, epsilon), row in grid.items():
        stronger = [(tokens + 1, epsilon), *((tokens, more) for more in epsilons if more > epsilon)]
        for other in (grid[one] for one in stronger if one in grid):
            assert other.at_least <= row.at_least * (1 + ROUNDING)
            assert other.at_most >= row.at_most - ROUNDING
    for side in ("unsafe", "safe"):
        assert at_most(radii(found, side)[1:], radii(found, side)[:-1])


@law
@given(given=asked_and_drawn(), data=st.data())
def test_one_more_unsafe_draw_speaks_for_unsafe_in_every_number_and_one_more_safe_draw_against(
    given: Asked, data: st.DataObject
) -> None:
    question, counts = given
    here = leaning(answer(question, counts))
    for vote in (0, 1):
        if counts.masks is not None and counts.unsafe is not None:
            masks = np.vstack([counts.masks, np.random.default_rng(vote).random((1, 3)) < 0.7])
            more = pooled(masks, np.append(counts.unsafe, bool(vote)))
        else:
            cell = data.draw(st.sampled_from(question.wanted))
            more = counted(*((n + (k == cell), u + vote * (k == cell)) for k, (n, u) in enumerate(counts.cells)))
        there = leaning(answer(question, more))
        assert at_most(here, there) if vote else at_most(there, here)


@law
@given(given=asked_and_drawn(), factor=st.floats(0.01, 0.99))
def test_less_risk_claims_less(given: Asked, factor: float) -> None:
    question, counts = given
    bold, careful = answer(question, counts), answer(replace(question, alpha=question.alpha * factor), counts)
    for side in ("unsafe", "safe"):
        assert at_most(sure(careful, side), sure(bold, side))
        assert at_most(radii(careful, side), radii(bold, side))


@law
@given(given=asked_and_drawn(), higher=st.floats(0.71, 0.99))
def test_a_higher_threshold_certifies_less_unsafe_and_more_safe(given: Asked, higher: float) -> None:
    question, counts = given
    low, high = answer(question, counts), answer(replace(question, tau=higher), counts)
    assert at_most(radii(high, "unsafe"), radii(low, "unsafe"))
    assert at_most(radii(low, "safe"), radii(high, "safe"))
    assert high.worst_case == low.worst_case


@law
@given(given=asked_and_drawn())
def test_safe_is_unsafe_of_the_opposite_guard(given: Asked) -> None:
    question, counts = given
    opposite = Counts(
        tuple((draws, draws - unsafe) for draws, unsafe in counts.cells),
        counts.masks,
        None if counts.unsafe is None else ~counts.unsafe,
    )
    here = answer(question, counts)
    there = answer(replace(question, tau=safe_threshold(question.tau)), opposite)
    assert sure(here, "unsafe") == pytest.approx(sure(there, "safe"), abs=1e-15)
    assert radii(here, "unsafe") == pytest.approx(radii(there, "safe"), rel=ROUNDING)


@law
@given(given=asked_and_drawn())
def test_both_verdicts_cost_half_the_risk_each_and_never_both_hold(given: Asked) -> None:
    question, counts = given
    both = answer(question, counts)
    alone = {
        side: answer(replace(question, sides=(side,), alpha=question.alpha / 2), counts) for side in question.sides
    }
    for side, one in alone.items():
        assert sure(one, side) == sure(both, side)
        assert both.verdict != side or one.frontier == both.frontier
        other = "safe" if side == "unsafe" else "unsafe"
        assert not any(sure(one, other))
        assert one.verdict in (side, "abstained")
    assert "abstained" in {one.verdict for one in alone.values()}


@law
@given(given=asked_and_drawn())
def test_a_radius_is_where_the_bound_passes_the_threshold(given: Asked) -> None:
    question, counts = given
    found = answer(question, counts)
    assume(found.verdict != "abstained" and question.sigma > 0.0)
    safe, reached = found.verdict == "safe", [point for point in found.frontier if point.radius is not None]
    within = tuple(point.radius for point in reached if point.radius is not None)
    beyond = tuple(radius * (1 + 1e-7) + 1e-7 for radius in within)
    near, far = (answer(replace(question, epsilons=shifts), counts) for shifts in (within, beyond))
    for at, point in enumerate(reached):
        inside, outside = (one.worst_case[point.tokens * len(within) + at] for one in (near, far))
        assert inside.at_most < question.tau if safe else inside.at_least > question.tau
        assert outside.at_most >= question.tau if safe else outside.at_least <= question.tau


@law
@given(given=asked_and_drawn(), epsilon=st.sampled_from([0.0, 0.1, 0.5]), data=st.data())
def test_a_target_is_certified_exactly_where_its_row_passes_the_threshold(
    given: Asked, epsilon: float, data: st.DataObject
) -> None:
    question, counts = given
    target = (data.draw(st.integers(0, question.max_tokens)), epsilon if question.sigma else 0.0)
    found = answer(replace(question, target=target, epsilons=(target[1],)), counts)
    row = found.worst_case[target[0]]
    passed = {"unsafe": row.at_least > question.tau, "safe": row.at_most < question.tau}
    assert found.target == next((side for side, yes in passed.items() if yes), None)
    assert answer(question, counts).target is None


@law
@given(given=asked_and_drawn(("auto", "few strata", "l0, auto", "tabular", "text only")))
def test_the_better_of_two_methods_is_never_below_either(given: Asked) -> None:
    question, counts = given
    auto = answer(question, counts)
    strata = answer(
        replace(
            question,
            method="stratified",
            max_tokens=min(question.max_tokens, len(question.cells) - 1 - question.natural),
        ),
        counts,
    )
    if question.text == "l0":
        strata = answer(replace(question, method="stratified"), counts)
    for side in ("unsafe", "safe"):
        whole = range(len(strata.worst_case))
        assert all(
            one.at_least >= other.at_least and one.at_most <= other.at_most
            for one, other in zip([auto.worst_case[k] for k in whole], strata.worst_case, strict=True)
        )
        assert at_most(radii(strata, side), radii(auto, side)[: len(strata.frontier)])
    named = [point for point in auto.frontier if point.method == "stratified" and point.tokens < len(strata.frontier)]
    assert all(point.radius == strata.frontier[point.tokens].radius for point in named)


@law
@given(given=asked_and_drawn(("auto", "text only")))
def test_knowing_the_masks_never_proves_less_than_one_number_where_masks_are_all_that_is_seen(given: Asked) -> None:
    question, counts = given
    found = answer(replace(question, token_kernel="absorbing"), counts)
    assert {point.method for point in found.frontier} <= {"stratified", None}


@law
@given(given=asked_and_drawn(), factor=st.sampled_from([0.25, 2.0, 3.0]), norm=st.sampled_from([0.5, 1.0, 1.7]))
def test_radii_scale_with_sigma_and_native_ones_with_the_resize(given: Asked, factor: float, norm: float) -> None:
    question, counts = given
    unit = answer(question, counts)
    scaled = answer(replace(question, sigma=question.sigma * factor, operator_norm=norm), counts)
    for one, other in zip(unit.frontier, scaled.frontier, strict=True):
        assert (one.radius is None) == (other.radius is None)
        if one.radius is not None and other.radius is not None and other.native_radius is not None:
            assert other.radius == pytest.approx(one.radius * factor, rel=ROUNDING)
            assert other.native_radius * norm <= other.radius * (1 + 1e-15)
            assert other.native_radius == pytest.approx(other.radius / norm, rel=1e-9)


REFUSED: dict[str, tuple[dict[str, Any], Callable[[], Counts], str]] = {
    "more Unsafe than draws": ({}, lambda: counted((5, 6), (5, 5), (5, 5), (5, 5)), "successes=6 must be at most"),
    "a rate without latent form": ({"kernel": "uniform", "beta": 0.8}, lambda: counted(*[(5, 5)] * 4), r"beta=0\.8"),
    "a threshold of 1": ({"tau": 1.0}, lambda: counted(*[(5, 5)] * 4), r"tau=1\.0 must lie strictly"),
    "no risk": ({"alpha": 0.0}, lambda: counted(*[(5, 5)] * 4), "alpha=.* must lie strictly"),
    "a shift below 0": ({"epsilons": (-0.1,)}, lambda: counted(*[(5, 5)] * 4), "epsilon=-0.1 must be at least 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_question_or_counts_that_make_no_sense_are_refused(name: str) -> None:
    changes, drawn, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        answer(asked(**changes), drawn())
