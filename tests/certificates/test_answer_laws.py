"""Laws that every answer obeys, whatever is asked and whatever was drawn."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from holdfast.certificates import Answer, Question, Votes, answer, doubled, hoped
from holdfast.certificates.guard.sides import passes_to_detect, safe_threshold
from tests.certificates.asking import asked, drawn

pytestmark = pytest.mark.slow

ROUNDING = 1e-9  # relative; numbers found by different searches agree no better
KINDS: dict[str, dict[str, Any]] = {
    "joint": {},
    "few strata": {"strata": 1, "method": "auto"},
    "auto": {"method": "auto"},
    "stratified": {"method": "stratified"},
    "neyman_pearson": {"method": "neyman_pearson"},
    "per budget": {"per_budget": True},
    "per budget, auto": {"per_budget": True, "method": "auto"},
    "per budget by neyman_pearson": {"per_budget": True, "method": "neyman_pearson"},
    "target": {"target": (2, 0.3)},
    "target, auto": {"target": (1, 0.3), "method": "auto"},
    "image only": {"text": "none"},
    "text only": {"sigma": 0.0, "epsilons": (0.0,), "method": "auto"},
    "append": {"text": "append", "max_tokens": 2, "method": "erase_and_check"},
    "l0": {"text": "l0", "max_tokens": 3},
    "l0, auto": {"text": "l0", "max_tokens": 3, "method": "auto"},
    "tabular": {"text": "l0", "tabular": True, "alphabets": (2, 3, 5), "method": "auto"},
}

ONE_GUARD = tuple(kind for kind in KINDS if "per budget" not in kind)
TWO_SIDED = tuple(kind for kind in KINDS if kind != "append")
NO_TARGET = tuple(kind for kind in KINDS if "target" not in kind)


@st.composite
def questions(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> Question:
    """A question of any of these kinds; rates have a latent form."""
    changes = KINDS[draw(st.sampled_from(kinds))]
    kernel = draw(st.sampled_from(["absorbing", "uniform"]))
    alphabets = changes.get("alphabets", (draw(st.sampled_from([2, 3, 900])),))
    most = 0.99 if kernel == "absorbing" else 0.99 * (min(alphabets) - 1) / min(alphabets)
    tails = {} if changes.get("text") in ("none", "append") else {"tails": draw(st.integers(1, 4))}
    return asked(
        kernel=kernel,
        beta=draw(st.sampled_from([0.3, 0.9])) * most,
        tau=draw(st.sampled_from([1e-4, 0.2, 0.5, 0.7])),
        alpha=draw(st.sampled_from([1e-3, 0.05, 0.3])),
        bound=draw(st.sampled_from(["any_time", "clopper_pearson"])),
        **{"sigma": 0.5, "alphabets": alphabets, **tails, **changes},
    )


def cast(question: Question, draws: int, lean: float, seed: int, ties: float = 0.02) -> Votes:
    """Votes of a guard that leans one way by the image, the cell and the tail, or that is the same throughout."""
    rng = np.random.default_rng(seed)
    shape = draws, question.tails, len(question.cells)
    weights = rng.uniform(0, 1.5, size=3)
    pull = rng.normal(size=(draws, 1, 1)) * weights[0] + rng.normal(size=(1, 1, shape[2])) * weights[1]
    unsafe = lean + pull + rng.normal(size=shape) * weights[2] > 0.0
    masks = rng.random((*shape[:2], 3)) < 0.7 if question.text == "l0" else None
    return drawn(unsafe, masks, rng.random(shape) < ties)


@st.composite
def evidence(draw: st.DrawFn, question: Question) -> Votes:
    draws, lean = draw(st.sampled_from([0, 1, 7, 40, 400])), draw(st.sampled_from([-9.0, -2.5, 0.0, 2.5, 9.0]))
    return cast(question, draws, lean, draw(st.integers(0, 10**6)), draw(st.sampled_from([0.0, 0.02])))


@st.composite
def asked_and_drawn(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(KINDS)) -> tuple[Question, Votes]:
    question = draw(questions(kinds))
    return question, draw(evidence(question))


Asked = tuple[Question, Votes]
law = settings(derandomize=True, max_examples=120, deadline=None)


def leaning(found: Answer) -> list[float]:
    """Every number so that it rises as more speaks for Unsafe: bounds, and radii below 0 where they are of Safe."""
    sign = {"unsafe": 1.0, "safe": -1.0, "abstained": 0.0}[found.verdict]
    radii = [0.0 if point.radius is None else sign * (1.0 + point.radius) for point in found.frontier]
    rows = [number for row in found.worst_case for number in (row.at_least, row.at_most)]
    scores = [number for score in found.scores for number in (score.lower, score.upper)]
    return [*scores, *radii, *rows]


def at_most(some: list[float], others: list[float]) -> bool:
    return all(one <= other + ROUNDING * max(1.0, abs(other)) for one, other in zip(some, others, strict=True))


def sure(found: Answer, side: str) -> list[float]:
    """What speaks for one verdict, larger where more is claimed."""
    if side == "unsafe":
        return [*(score.lower for score in found.scores), *(row.at_least for row in found.worst_case)]
    return [*(1 - score.upper for score in found.scores), *(1 - row.at_most for row in found.worst_case)]


def radii(found: Answer, verdict: str) -> list[float]:
    """The radii of this verdict, -1 where it is not certified."""
    mine = found.verdict == verdict
    return [point.radius if mine and point.radius is not None else -1.0 for point in found.frontier]


@law
@given(given=asked_and_drawn())
def test_bounds_are_probabilities_in_order_and_passes_stand_where_a_bound_is_positive(given: Asked) -> None:
    found = answer(*given)
    assert all(0.0 <= score.lower <= score.upper <= 1.0 for score in found.scores)
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
def test_a_vote_turned_to_unsafe_speaks_for_unsafe_in_every_number_and_one_near_a_tie_for_neither(
    given: Asked, data: st.DataObject
) -> None:
    question, votes = given
    assume(len(votes.unsafe))
    at = tuple(data.draw(st.integers(0, size - 1)) for size in votes.unsafe.shape)
    found = {}
    for name, unsafe, near_tie in (
        ("unsafe", True, False),
        ("safe", False, False),
        ("tie", data.draw(st.booleans()), True),
    ):
        one, tie = votes.unsafe.copy(), votes.near_tie.copy()
        one[at], tie[at] = unsafe, near_tie
        found[name] = answer(question, replace(votes, unsafe=one, near_tie=tie))
    assert at_most(leaning(found["safe"]), leaning(found["unsafe"]))
    for side in ("unsafe", "safe"):
        assert at_most(sure(found["tie"], side), sure(found[side], side))
        assert at_most(radii(found["tie"], side), radii(found[side], side))


@law
@given(given=asked_and_drawn())
def test_a_near_tie_counts_against_both_sides_whichever_way_it_fell(given: Asked) -> None:
    question, votes = given
    assert answer(question, votes) == answer(question, replace(votes, unsafe=votes.unsafe ^ votes.near_tie))


@law
@given(given=asked_and_drawn(TWO_SIDED))
def test_draws_may_come_in_any_order(given: Asked) -> None:
    question, votes = given
    order = np.random.default_rng(1).permutation(len(votes.unsafe))
    masks = None if votes.masks is None else votes.masks[order]
    assert answer(question, Votes(votes.unsafe[order], votes.near_tie[order], masks)) == answer(question, votes)


@law
@given(given=asked_and_drawn())
def test_twice_the_draws_at_the_same_rates_claim_no_less(given: Asked) -> None:
    question, votes = given
    assume(question.bound == "any_time")
    now, then = answer(question, votes), answer(question, doubled(votes))
    for side in ("unsafe", "safe"):
        assert at_most(radii(now, side), radii(then, side)) or now.verdict != side
    for one, more in zip(now.scores, then.scores, strict=True):
        assert one.lower <= more.lower
        assert one.upper >= more.upper


@law
@given(given=asked_and_drawn(), draws=st.integers(0, 60))
def test_what_a_hope_does_not_certify_no_further_draws_do(given: Asked, draws: int) -> None:
    question, votes = given
    later = cast(question, draws, 1.0, 1)
    came = Votes(
        np.concatenate([votes.unsafe, later.unsafe]),
        np.concatenate([votes.near_tie, later.near_tie]),
        None if votes.masks is None or later.masks is None else np.concatenate([votes.masks, later.masks]),
    )
    found = answer(question, came)
    for side in question.sides:
        best = answer(question, hoped(votes, side, draws))
        assert at_most(sure(found, side), sure(best, side))
        assert at_most(radii(found, side), radii(best, side))


@law
@given(given=asked_and_drawn(), factor=st.floats(0.01, 0.99))
def test_less_risk_claims_less(given: Asked, factor: float) -> None:
    question, votes = given
    bold, careful = answer(question, votes), answer(replace(question, alpha=question.alpha * factor), votes)
    for side in ("unsafe", "safe"):
        assert at_most(sure(careful, side), sure(bold, side))
        assert at_most(radii(careful, side), radii(bold, side))


@law
@given(given=asked_and_drawn(), higher=st.floats(0.71, 0.99))
def test_a_higher_threshold_certifies_less_unsafe_and_more_safe(given: Asked, higher: float) -> None:
    question, votes = given
    low, high = answer(question, votes), answer(replace(question, tau=higher), votes)
    assert at_most(radii(high, "unsafe"), radii(low, "unsafe"))
    assert at_most(radii(low, "safe"), radii(high, "safe"))
    assert high.worst_case == low.worst_case


@law
@given(given=asked_and_drawn(TWO_SIDED))
def test_safe_is_unsafe_of_the_opposite_guard(given: Asked) -> None:
    question, votes = given
    here = answer(question, votes)
    there = answer(replace(question, tau=safe_threshold(question.tau)), replace(votes, unsafe=~votes.unsafe))
    assert sure(here, "unsafe") == pytest.approx(sure(there, "safe"), abs=1e-15)
    assert radii(here, "unsafe") == pytest.approx(radii(there, "safe"), rel=ROUNDING)


@law
@given(given=asked_and_drawn(TWO_SIDED))
def test_both_verdicts_cost_half_the_risk_each_and_never_both_hold(given: Asked) -> None:
    question, votes = given
    both = answer(question, votes)
    alone = {side: answer(replace(question, sides=(side,), alpha=question.alpha / 2), votes) for side in question.sides}
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
    question, votes = given
    found = answer(question, votes)
    assume(found.verdict != "abstained" and question.sigma > 0.0)
    safe, reached = found.verdict == "safe", [point for point in found.frontier if point.radius is not None]
    within = tuple(point.radius for point in reached if point.radius is not None)
    beyond = tuple(radius * (1 + 1e-7) + 1e-7 for radius in within)
    near, far = (answer(replace(question, epsilons=shifts), votes) for shifts in (within, beyond))
    for at, point in enumerate(reached):
        inside, outside = (one.worst_case[point.tokens * len(within) + at] for one in (near, far))
        assert inside.at_most < question.tau if safe else inside.at_least > question.tau
        assert outside.at_most >= question.tau if safe else outside.at_least <= question.tau


@law
@given(given=asked_and_drawn(("target", "target, auto")), epsilon=st.sampled_from([0.0, 0.1, 0.5]))
def test_a_target_is_certified_exactly_where_its_row_passes_the_threshold(given: Asked, epsilon: float) -> None:
    question, votes = given
    tokens = question.max_tokens
    found = answer(replace(question, target=(tokens, epsilon), epsilons=(epsilon,)), votes)
    row = found.worst_case[tokens]
    passed = {"unsafe": row.at_least > question.tau, "safe": row.at_most < question.tau}
    assert found.target == next((side for side, yes in passed.items() if yes), None)


@law
@given(given=asked_and_drawn(NO_TARGET))
def test_where_none_is_asked_no_target_is_certified(given: Asked) -> None:
    assert answer(*given).target is None


@law
@given(
    given=asked_and_drawn(
        ("auto", "few strata", "per budget, auto", "target, auto", "l0, auto", "tabular", "text only")
    )
)
def test_the_better_of_two_methods_is_never_below_the_one_that_costs_all_the_risk(given: Asked) -> None:
    question, votes = given
    auto, joint = answer(question, votes), answer(replace(question, method="joint"), votes)
    assert auto.scores == joint.scores
    for side in ("unsafe", "safe"):
        assert at_most(sure(joint, side), sure(auto, side))
        assert at_most(radii(joint, side), radii(auto, side))
    named = [point for point in auto.frontier if point.method == "joint"]
    assert all(point.radius == joint.frontier[point.tokens].radius for point in named)


@law
@given(given=asked_and_drawn(), factor=st.sampled_from([0.25, 2.0, 3.0]), norm=st.sampled_from([0.5, 1.0, 1.7]))
def test_radii_scale_with_sigma_and_native_ones_with_the_resize(given: Asked, factor: float, norm: float) -> None:
    question, votes = given
    unit = answer(question, votes)
    scaled = answer(replace(question, sigma=question.sigma * factor, operator_norm=norm), votes)
    for one, other in zip(unit.frontier, scaled.frontier, strict=True):
        assert (one.radius is None) == (other.radius is None)
        if one.radius is not None and other.radius is not None and other.native_radius is not None:
            assert other.radius == pytest.approx(one.radius * factor, rel=ROUNDING)
            assert other.native_radius * norm <= other.radius * (1 + 1e-15)
            assert other.native_radius == pytest.approx(other.radius / norm, rel=1e-9)


@law
@given(given=asked_and_drawn(("append",)))
def test_what_is_appended_is_of_no_account(given: Asked) -> None:
    found = answer(*given)
    assert len({(point.radius, point.method) for point in found.frontier}) == 1
    assert found.verdict in ("unsafe", "abstained")
    assert {row.at_most for row in found.worst_case} == {1.0}


def votes_of(*shape: int) -> Votes:
    return drawn(np.ones(shape, dtype=np.bool_))


REFUSED: dict[str, tuple[dict[str, Any], Votes, str]] = {
    "a tail too few": ({}, votes_of(5, 1, 4), r"unsafe of bool \(5, 1, 4\) must be bool \(5, 2, 4\)"),
    "a cell too few": ({}, votes_of(5, 2, 3), r"must be bool \(5, 2, 4\): draws, tails, cells"),
    "ties of other votes": (
        {}, Votes(np.ones((5, 2, 4), bool), np.ones((4, 2, 4), bool)), r"near_tie of bool \(4, 2, 4\)"),
    "votes that are numbers": ({}, Votes(np.ones((5, 2, 4)), np.ones((5, 2, 4))), "unsafe of float64"),  # type: ignore[arg-type]
    "no masks": ({"text": "l0", "max_tokens": 1}, votes_of(5, 2, 1), "masks=None must be there"),
    "a rate without latent form": ({"kernel": "uniform", "beta": 0.8}, votes_of(5, 2, 4), r"beta=0\.8"),
    "a threshold of 1": ({"tau": 1.0}, votes_of(5, 2, 4), r"tau=1\.0 must lie strictly"),
    "no risk": ({"alpha": 0.0}, votes_of(5, 2, 4), "alpha=.* must lie strictly"),
    "a shift below 0": ({"epsilons": (-0.1,)}, votes_of(5, 2, 4), "epsilon=-0.1 must be at least 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_question_or_votes_that_make_no_sense_are_refused(name: str) -> None:
    changes, votes, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        answer(asked(**changes), votes)
