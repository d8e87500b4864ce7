"""The numbers of an answer against their formulas in fifty digits, and against what is known of them.

Only the Unsafe side is spelled out: test_answer_laws has Safe as Unsafe of the opposite guard.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from holdfast.certificates import (
    AbsorbingKernel,
    Question,
    UniformKernel,
    Votes,
    answer,
    any_time_lower,
    clopper_pearson_lower,
)
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.bounds.means import standing_lower
from holdfast.certificates.noise.kernels import mask_probability
from holdfast.certificates.shifts.joint import LEVELS
from tests.certificates import oracle
from tests.certificates.asking import alike, asked, counted, drawn, pooled

LIMITS = {"any_time": any_time_lower, "clopper_pearson": clopper_pearson_lower}
GOLDEN = Path(__file__).parent / "golden"
SHIFTS = (0.0, 0.3, 1.1)
Pair = oracle.Pair


def just_below(value: float, exact: mp.mpf) -> bool:
    return bool(exact * (1 - mp.mpf("1e-9")) - mp.mpf("1e-15") <= value <= exact + mp.mpf("1e-24"))


def shifted(probability: float, shift: float) -> mp.mpf:
    """Phi(Phi^-1(p) - s); below 1e-25 a probability has no quantile in fifty digits, and no weight either."""
    if probability < 1e-25:
        return mp.mpf(0)
    return mp.ncdf(mp.sqrt(2) * mp.erfinv(2 * mp.mpf(probability) - 1) - mp.mpf(shift))


def by_strata(masked: mp.mpf, lower: Sequence[float], tokens: int, shift: float) -> mp.mpf:
    """Section 5 from the bounds of the cells."""
    slots = len(lower) - 1
    weights = [masked**k * (1 - masked if k < slots else 1) for k in range(slots + 1)]
    return sum((weights[k] * shifted(lower[k], shift) for k in range(tokens, slots + 1)), mp.mpf(0))


def by_one_number(p: mp.mpf | float, pairs: list[Pair], shift: float) -> mp.mpf:
    """Section 3 from one bound on the clean probability."""
    return oracle.neyman_pearson(p, pairs, shift) if shift else oracle.knapsack(p, pairs)


def masked_exactly(question: Question) -> mp.mpf:
    beta, (size, *_) = mp.mpf(question.beta), question.alphabets
    return beta if question.token_kernel == "absorbing" else beta * size / (size - 1)


def pairs_of(question: Question, size: int, tokens: int) -> list[Pair]:
    pairs: list[Pair] = oracle.token_pairs(
        question.beta, None if question.token_kernel == "absorbing" else size, tokens
    )
    return pairs


def torn(question: Question, draws: int, seed: int, rates: Sequence[float] = (0.95, 0.9, 0.97, 0.99)) -> Votes:
    """Votes that the image, the tail and the cell decide together."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(draws, 1, 1))
    here = np.array(rates[: len(question.cells)])
    own = rng.normal(size=(draws, question.tails, len(here)))
    return drawn(0.8 * image + 0.6 * own < norm.ppf(here))


def scores_of(question: Question, votes: Votes, tokens: int) -> list[Fraction]:
    """T_d of every draw, in rationals."""
    masked = Fraction(question.beta)
    if question.token_kernel == "uniform":
        masked = masked * question.alphabets[0] / (question.alphabets[0] - 1)
    last = len(question.cells) - 1
    weights = [masked**k * (1 - masked if k < last else 1) for k in range(tokens, last + 1)]
    shares = votes.unsafe[:, :, tokens:].sum(axis=1).tolist()
    whole = sum(weights) * question.tails
    return [sum(w * f for w, f in zip(weights, row, strict=True)) / whole for row in shares]


def lower_of(scores: Sequence[Fraction], share: float) -> float:
    """The bound of their mean; of scores that are 0 or 1 by nature it is that of counts."""
    if {*scores} <= {0, 1}:
        return any_time_lower(int(sum(scores)), len(scores), share)
    return standing_lower(np.array([float(score) for score in scores]), share)


def by_scores(question: Question, votes: Votes, risk: float, tokens: int, shift: float) -> mp.mpf:
    """Section 10 of one budget at this risk: the better of the mean and the law."""
    scores, mass = scores_of(question, votes, tokens), masked_exactly(question) ** tokens
    mean = shifted(lower_of(scores, risk * 3 / 4), shift)
    law, before = mp.mpf(0), mp.mpf(0)
    for level in LEVELS:
        above = sum(score >= Fraction(level) for score in scores)
        step, before = mp.mpf(level) - before, mp.mpf(level)
        law += step * shifted(any_time_lower(above, len(scores), risk / 4 / len(LEVELS)), shift)
    return mass * max(mean, law)


KERNELS = [("absorbing", 0.8, 2), ("uniform", 0.6, 50)]


@pytest.mark.parametrize("tails", [1, 3])
@pytest.mark.parametrize(("kernel", "beta", "size"), KERNELS)
def test_every_budget_has_a_fixed_share_of_half_the_risk_and_three_quarters_of_that_for_its_mean(
    kernel: str, beta: float, size: int, tails: int
) -> None:
    question = asked(kernel=kernel, beta=beta, alphabets=(size,), tails=tails, alpha=0.04)
    votes = torn(question, 300, tails)
    found, safe = answer(question, votes), drawn(~votes.unsafe)
    for score, part in zip(found.scores, (5, 1, 1, 1), strict=True):
        binary = tails == 1 and score.tokens == 3
        share = 0.02 * part / 8 * (1 if binary else 3 / 4)
        assert score.cells == tuple(range(score.tokens, 4))
        lower = lower_of(scores_of(question, votes, score.tokens), share)
        assert score.lower == pytest.approx(lower, rel=1e-9)
        upper = 1 - lower_of(scores_of(question, safe, score.tokens), share)
        assert score.upper == pytest.approx(upper, rel=1e-9)


@pytest.mark.parametrize("tails", [1, 4])
def test_every_stratum_has_an_equal_share_and_is_bounded_by_itself(tails: int) -> None:
    question = asked(method="stratified", tails=tails, alpha=0.04)
    votes = torn(question, 300, 5)
    for cell, score in enumerate(answer(question, votes).scores):
        scores = [Fraction(int(row), tails) for row in votes.unsafe[:, :, cell].sum(axis=1)]
        assert (score.tokens, score.cells) == (cell, (cell,))
        assert score.lower == pytest.approx(lower_of(scores, 0.005), rel=1e-9)


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
@pytest.mark.parametrize("changes", [
    {"target": (2, 0.1)}, {"target": (2, 0.1), "method": "stratified"}, {"target": (3, 0.1), "per_budget": True},
    {"text": "none", "method": "auto"}, {"method": "neyman_pearson"}, {"text": "append", "method": "erase_and_check"},
])  # fmt: skip
def test_a_single_score_that_is_0_or_1_has_all_of_its_sides_risk(changes: dict[str, Any], bound: Bound) -> None:
    question = asked(alpha=0.04, bound=bound, tails=1, **changes)
    (score,) = answer(question, counted((40, 39))).scores
    assert score.cells == (0,)
    assert score.tokens == (changes["target"][0] if "target" in changes else 0)
    assert score.lower == LIMITS[bound](39, 40, 0.04 / len(question.sides))


def test_a_target_of_several_tails_has_three_quarters_of_it_for_its_mean_and_by_strata_all() -> None:
    for method, part in (("joint", 3 / 4), ("stratified", 1)):
        question = asked(alpha=0.04, target=(2, 0.1), tails=4, method=method)
        votes = torn(question, 200, 6)
        scores = [Fraction(int(row), 4) for row in votes.unsafe[:, :, 0].sum(axis=1)]
        (score,) = answer(question, votes).scores
        assert score.lower == pytest.approx(lower_of(scores, 0.02 * part), rel=1e-9)


def test_guards_of_their_own_for_every_budget_share_equally() -> None:
    question = asked(alpha=0.04, per_budget=True, tails=1, slots=2)
    found = answer(question, counted((50, 49), (50, 40), (50, 50)))
    assert [score.lower for score in found.scores] == [any_time_lower(k, 50, 0.02 / 3) for k in (49, 40, 50)]
    assert [(score.tokens, score.cells) for score in found.scores] == [(0, (0,)), (1, (1,)), (2, (2,))]


@pytest.mark.parametrize("tails", [1, 4])
@pytest.mark.parametrize(("kernel", "beta", "size"), KERNELS)
@pytest.mark.parametrize("sigma", [0.25, 1.0])
def test_a_joint_row_is_just_below_the_best_formula_of_its_budget_or_a_larger_one(
    kernel: str, beta: float, size: int, tails: int, sigma: float
) -> None:
    question = asked(
        kernel=kernel, beta=beta, alphabets=(size,), tails=tails, sigma=sigma, slots=2, alpha=0.04,
        epsilons=tuple(shift * sigma for shift in SHIFTS), sides=("unsafe",),
    )  # fmt: skip
    votes = torn(question, 400, 7)
    for row in answer(question, votes).worst_case:
        exact = max(
            by_scores(question, votes, 0.04 * (5 if d == 0 else 1) / 7, d, row.epsilon / sigma)
            if d < 2 or tails > 1
            else masked_exactly(question) ** 2
            * shifted(lower_of(scores_of(question, votes, 2), 0.04 / 7), row.epsilon / sigma)
            for d in range(row.tokens, 3)
        )
        assert just_below(row.at_least, exact)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from(["absorbing", "uniform"]),
    beta=st.floats(0.01, 0.66),
    sigma=st.floats(0.05, 4.0),
    misses=st.lists(st.sampled_from([0, 1, 20, 500, 1000]), min_size=1, max_size=6),
    shift=st.floats(0.0, 8.0),
)
def test_a_row_by_strata_is_just_below_its_formula(
    kernel: str, beta: float, sigma: float, misses: list[int], shift: float
) -> None:
    question = asked(
        kernel=kernel, beta=beta, alphabets=(3,), slots=len(misses) - 1, sigma=sigma, epsilons=(shift * sigma,),
        method="stratified", tails=1,
    )  # fmt: skip
    found = answer(question, counted(*((1000, 1000 - miss) for miss in misses)))
    lower = [score.lower for score in found.scores]
    for row in found.worst_case:
        exact = by_strata(masked_exactly(question), lower, row.tokens, row.epsilon / sigma)
        assert row.at_least <= exact + mp.mpf("1e-24")
        assert row.at_least >= exact * (1 - mp.mpf("1e-9"))


RATES = [
    ("absorbing", 0.3, 2),
    ("absorbing", 0.9, 2),
    ("uniform", 0.25, 30000),
    ("uniform", 0.6, 3),
    ("uniform", 1.0, 5),
]


@pytest.mark.parametrize(("kernel", "beta", "size"), RATES)
@pytest.mark.parametrize("unsafe", [600, 997, 1000])
def test_a_row_by_one_number_is_just_below_its_formula(kernel: str, beta: float, size: int, unsafe: int) -> None:
    question = asked(
        kernel=kernel, beta=beta, alphabets=(size,), method="neyman_pearson", epsilons=SHIFTS, max_tokens=2, tails=1
    )
    found = answer(question, counted((1000, unsafe)))
    for row in found.worst_case:
        exact = by_one_number(found.scores[0].lower, pairs_of(question, size, row.tokens), row.epsilon)
        assert just_below(row.at_least, exact)


@pytest.mark.parametrize(("kernel", "beta", "size"), [RATES[0], RATES[3]])
def test_a_row_of_auto_is_the_better_of_both_on_one_event(kernel: str, beta: float, size: int) -> None:
    question = asked(kernel=kernel, beta=beta, alphabets=(size,), slots=2, method="auto", epsilons=SHIFTS)
    votes = torn(question, 900, 8, (0.995, 0.96, 0.99))
    found, joint = answer(question, votes), answer(replace(question, method="joint"), votes)
    clean = max(found.scores[0].lower, joint.worst_case[0].at_least)
    for row, one in zip(found.worst_case, joint.worst_case, strict=True):
        other = by_one_number(clean, pairs_of(question, size, row.tokens), row.epsilon)
        assert just_below(row.at_least, max(mp.mpf(one.at_least), other))


@pytest.mark.parametrize("tails", [1, 4])
def test_a_target_of_auto_may_use_one_number_from_what_its_cell_leaves_of_it(tails: int) -> None:
    question = asked(
        kernel="uniform", beta=0.45, alphabets=(2,), target=(1, 0.3), method="auto", tails=tails, epsilons=SHIFTS
    )
    votes = torn(question, 900, 9, (0.999,))
    found, joint = answer(question, votes), answer(replace(question, method="joint"), votes)
    clean = joint.worst_case[0].at_least
    for row, one in zip(found.worst_case, joint.worst_case, strict=True):
        other = by_one_number(clean, pairs_of(question, 2, row.tokens), row.epsilon)
        assert just_below(row.at_least, max(mp.mpf(one.at_least), other))


FIELDS = (2, 3, 5)


@pytest.mark.parametrize(("kernel", "beta"), [("absorbing", 0.6), ("uniform", 0.4), ("uniform", 0.7)])
@pytest.mark.parametrize("unsafe", [620, 990])
def test_a_row_of_fields_by_one_number_is_the_least_over_all_sets_of_fields(
    kernel: str, beta: float, unsafe: int
) -> None:
    # At .7 the fields stand on both sides of (V-1)/V, where the harder field is another one.
    question = asked(
        kernel=kernel,
        beta=beta,
        alphabets=FIELDS,
        text="l0",
        tabular=True,
        method="neyman_pearson",
        epsilons=SHIFTS,
        tails=1,
    )
    found = answer(question, counted((1000, unsafe)))
    for row in found.worst_case:
        least = min(
            by_one_number(found.scores[0].lower, _product(question, chosen), row.epsilon)
            for d in range(row.tokens + 1)
            for chosen in combinations(FIELDS, d)
        )
        assert just_below(row.at_least, least)


def _product(question: Question, sizes: Sequence[int]) -> list[Pair]:
    """Of every string of (same, attacker's, other) per field."""
    pairs: list[Pair] = [(mp.mpf(1), mp.mpf(1))]
    for size in sizes:
        field = pairs_of(question, size, 1)
        pairs = [(clean * p, attacked * a) for (clean, attacked), (p, a) in product(pairs, field)]
    return [pair for pair in pairs if any(pair)]


def pool(seed: int, draws: int, chances: Sequence[float], rate: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    return rng.random((draws, len(chances))) < np.array(chances), rng.random(draws) < rate


def covers(
    masks: NDArray[np.bool_], unsafe: NDArray[np.bool_], chances: Sequence[float], size: int
) -> Iterator[tuple[float, int, int]]:
    """(b(A), Unsafe draws, draws) of every set of this size."""
    for chosen in combinations(range(masks.shape[1]), size):
        rows = masks[:, list(chosen)].all(axis=1)
        yield math.prod(chances[i] for i in chosen), int(unsafe[rows].sum()), int(rows.sum())


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
@pytest.mark.parametrize(
    ("tabular", "kernel", "beta", "sizes"),
    [
        (False, "absorbing", 0.7, (9,) * 5), (False, "uniform", 0.3, (3,) * 4), (True, "uniform", 0.4, FIELDS),
        (True, "absorbing", 0.8, FIELDS),
    ],
)  # fmt: skip
def test_a_row_by_covers_is_just_below_the_hardest_cover_of_its_budget_or_a_larger_one(
    tabular: bool, kernel: str, beta: float, sizes: tuple[int, ...], bound: Bound
) -> None:
    question = asked(
        kernel=kernel, beta=beta, alphabets=sizes if tabular else sizes[:1], text="l0", tabular=tabular, bound=bound,
        max_tokens=3, alpha=0.08, epsilons=SHIFTS, tails=1,
    )  # fmt: skip
    rates = [AbsorbingKernel(beta) if kernel == "absorbing" else UniformKernel(beta, size) for size in sizes]
    chances = [mask_probability(rate) for rate in rates]
    masks, unsafe = pool(len(sizes), 400, chances, 0.8)
    found = answer(question, pooled(masks, unsafe))
    values: dict[tuple[int, float], mp.mpf] = {}
    for tokens, shift in product(range(4), SHIFTS):
        sets = list(covers(masks, unsafe, chances, min(tokens, len(sizes))))
        lower = [(mass, LIMITS[bound](hits, drawn, 0.01 / len(sets))) for mass, hits, drawn in sets]
        values[tokens, shift] = min(mp.mpf(mass) * shifted(q, shift) for mass, q in lower)
    for row in found.worst_case:
        assert just_below(row.at_least, max(values[d, row.epsilon] for d in range(row.tokens, 4)))
    assert found.scores[0].lower == pytest.approx(float(values[0, 0.0]), rel=1e-9)


@pytest.mark.parametrize("table", ["uniform", "absorbing"])
def test_no_served_radius_is_above_its_golden_one_and_many_draws_come_close_to_it(table: str) -> None:
    met, draws = 0, 100_000
    for row in json.loads((GOLDEN / f"{table}.json").read_text("utf-8"))[::3]:
        question = asked(
            kernel=row["kernel"], beta=row["beta"], alphabets=(row["V"] or 2,), slots=8, max_tokens=row["d"], tails=1,
            sigma=row["sigma"], tau=row["tau"], method="neyman_pearson", sides=("unsafe",), epsilons=(),
        )  # fmt: skip
        found = answer(question, counted((draws, math.floor(draws * row["pA"]))))
        radius, exact = found.frontier[-1].radius, Decimal(row["r_star"])
        assert Decimal(radius or 0) <= exact, row
        met += radius is not None and Decimal(radius) >= exact * Decimal("0.9")
    assert met >= 20


def test_few_values_favour_one_number_and_many_the_masks() -> None:
    few = asked(kernel="uniform", beta=0.3, alphabets=(3,), slots=2, method="auto", tails=1)
    many = asked(kernel="uniform", beta=0.25, alphabets=(30000,), slots=2, method="auto", tau=0.01, tails=1)
    methods = [[point.method for point in answer(one, counted(*[(5000, 4990)] * 3)).frontier] for one in (few, many)]
    assert methods == [["joint", "neyman_pearson", "neyman_pearson"], ["joint"] * 3]


def test_one_number_needs_no_cells_where_the_kernel_has_none() -> None:
    question = asked(
        kernel="uniform", beta=1.0, alphabets=(30000,), slots=8, tau=4.6e-5, method="neyman_pearson", tails=1
    )
    radii = [point.radius for point in answer(question, counted((1000, 950))).frontier]
    assert None not in radii
    assert radii == sorted(radii, key=lambda radius: radius or 0.0, reverse=True)


@pytest.mark.parametrize(("text", "method"), [("none", "joint"), ("append", "erase_and_check")])
def test_a_certificate_of_the_image_alone_is_the_shift_of_one_cell(text: str, method: str) -> None:
    question = asked(text=text, method=method, sigma=0.5, tau=0.2, max_tokens=0 if text == "none" else 20)
    found = answer(question, counted((1000, 990)))
    radius = 0.5 * (norm.ppf(found.scores[0].lower) - norm.ppf(0.2))
    assert [point.radius for point in found.frontier] == pytest.approx([radius] * (question.max_tokens + 1), rel=1e-9)
    assert {point.method for point in found.frontier} == {method}


def test_twenty_unsafe_passes_stand_against_everything_that_is_appended() -> None:
    asks: dict[str, Any] = {"text": "append", "method": "auto", "sigma": 0.5, "tau": 4.6e-5, "max_tokens": 20}
    radii = {}
    for bound in ("any_time", "clopper_pearson"):
        ((radii[bound], method),) = {
            (point.radius, point.method) for point in answer(asked(**asks, bound=bound), counted((20, 20))).frontier
        }
        assert method == "erase_and_check"
    assert radii == {"any_time": pytest.approx(2.31, abs=0.005), "clopper_pearson": pytest.approx(2.37, abs=0.005)}


def test_without_image_noise_budgets_are_certified_at_no_shift_or_not_at_all() -> None:
    question = asked(sigma=0.0, tau=0.4, epsilons=(0.0,))
    found = answer(question, alike(question, 1000, 1000))
    assert [point.radius for point in found.frontier] == [0.0, 0.0, None, None]
    assert [row.at_least > 0.4 for row in found.worst_case] == [True, True, False, False]


def test_without_image_noise_the_mean_has_all_of_a_budgets_share() -> None:
    question = asked(sigma=0.0, epsilons=(0.0,), alpha=0.04)
    votes = torn(question, 300, 2)
    for score, part in zip(answer(question, votes).scores, (5, 1, 1, 1), strict=True):
        lower = lower_of(scores_of(question, votes, score.tokens), 0.02 * part / 8)
        assert score.lower == pytest.approx(lower, rel=1e-9)


@pytest.mark.parametrize("changes", [
    {}, {"method": "auto"}, {"method": "stratified"}, {"method": "neyman_pearson"}, {"text": "l0", "max_tokens": 4},
    {"per_budget": True}, {"target": (1, 0.5)}, {"text": "append", "max_tokens": 9, "method": "erase_and_check"},
])  # fmt: skip
@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_no_draws_certify_nothing_and_bound_nothing(changes: dict[str, Any], bound: Bound) -> None:
    question = asked(**changes, bound=bound)
    found = answer(question, drawn(np.zeros((0, question.tails, len(question.cells)), bool)))
    assert (found.verdict, found.max_tokens, found.target) == ("abstained", None, None)
    assert {(score.lower, score.upper) for score in found.scores} == {(0.0, 1.0)}
    assert {(row.at_least, row.at_most, row.passes_to_detect) for row in found.worst_case} == {(0.0, 1.0, None)}


def test_more_tokens_than_positions_are_all_positions() -> None:
    masks, unsafe = pool(4, 300, [0.5, 0.5], 0.9)
    found = answer(asked(text="l0", max_tokens=5, tau=0.01, tails=1), pooled(masks, unsafe))
    radii = [point.radius for point in found.frontier]
    assert radii[1] > radii[2] == radii[3] == radii[5] is not None  # type: ignore[operator]
    nothing = answer(asked(text="l0", max_tokens=1, tau=0.01, tails=1), pooled(masks[:, :0], unsafe))
    assert nothing.frontier[0].radius == nothing.frontier[1].radius


def test_budgets_of_too_many_covers_are_left_to_one_number() -> None:
    masks, unsafe = pool(5, 200, [0.9] * 130, 1.0)
    shared: dict[str, Any] = {"beta": 0.9, "text": "l0", "max_tokens": 3, "tau": 0.01, "epsilons": (), "tails": 1}
    covered, better = (answer(asked(**shared, method=method), pooled(masks, unsafe)) for method in ("joint", "auto"))
    assert [point.radius is None for point in covered.frontier] == [False, False, False, True]
    assert [point.method for point in better.frontier][::3] == ["joint", "neyman_pearson"]


def test_cells_of_certainty_are_bounded_below_certainty() -> None:
    question = asked(slots=1, tau=0.9, beta=0.95)
    found = answer(question, alike(question, 200_000, 200_000))
    assert all(1 - 1e-3 < score.lower < 1.0 for score in found.scores)
    assert found.frontier[0].radius is not None
    assert found.frontier[0].radius < 10.0


def test_a_guard_whose_image_decides_little_is_certified_half_as_far_again_as_by_one_pass_in_every_stratum() -> None:
    question = asked(slots=8, beta=0.9, sigma=0.5, tails=4, sides=("unsafe",))
    rng = np.random.default_rng(4)
    image, own = rng.normal(size=(1000, 1, 1)), rng.normal(size=(1000, 4, 9))
    votes = drawn(math.sqrt(0.1) * image + math.sqrt(0.9) * own < 1.3)
    joint = answer(question, votes).frontier[0].radius
    by_strata = answer(replace(question, method="stratified", tails=1), drawn(votes.unsafe[:, :1])).frontier[0].radius
    assert joint is not None
    assert by_strata is not None
    assert joint >= 1.5 * by_strata
