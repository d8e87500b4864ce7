"""The numbers of an answer against their formulas in fifty digits, and against what is known of them.

Only the Unsafe side is spelled out: test_answer_laws has Safe as Unsafe of the opposite guard.
"""

import json
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
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
    answer,
    any_time_lower,
    clopper_pearson_lower,
)
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.noise.kernels import mask_probability
from tests.certificates import oracle
from tests.certificates.asking import PLENTY, asked, counted, plenty, pooled

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


CELLS = [(0, 0), (50, 50), (40, 13), (700, 1)]


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_every_cell_has_an_equal_share_of_half_the_risk(bound: Bound) -> None:
    found = answer(asked(alpha=0.04, bound=bound), counted(*CELLS))
    assert found.lower == tuple(LIMITS[bound](unsafe, draws, 0.005) for draws, unsafe in CELLS)
    safe = [LIMITS[bound](draws - unsafe, draws, 0.005) for draws, unsafe in CELLS]
    assert found.upper == pytest.approx([1 - q for q in safe], abs=1e-15)


def test_a_natural_cell_has_half_and_the_strata_the_other() -> None:
    found = answer(asked(alpha=0.04, method="auto", natural=True, sides=("unsafe",)), counted(*CELLS, (90, 80)))
    assert found.lower == (*(any_time_lower(k, n, 0.005) for n, k in CELLS), any_time_lower(80, 90, 0.02))


def test_a_single_wanted_cell_has_all_of_it_and_nothing_is_known_of_the_others() -> None:
    question = asked(alpha=0.04, strata=2, max_tokens=2, wanted=(2,), target=(2, 0.1))
    found = answer(question, counted((0, 0), (0, 0), (40, 39)))
    assert found.lower == (0.0, 0.0, any_time_lower(39, 40, 0.02))
    assert found.upper[:2] == (1.0, 1.0)


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
    slots = len(misses) - 1
    question = asked(
        kernel=kernel, beta=beta, alphabets=(3,), slots=slots, sigma=sigma, epsilons=(shift * sigma,), text="suffix"
    )
    found = answer(question, counted(*((1000, 1000 - miss) for miss in misses)))
    for row in found.worst_case:
        exact = by_strata(masked_exactly(question), found.lower, row.tokens, row.epsilon / sigma)
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
        kernel=kernel, beta=beta, alphabets=(size,), strata=0, method="neyman_pearson", epsilons=SHIFTS, max_tokens=2
    )
    found = answer(question, counted((1000, unsafe)))
    for row in found.worst_case:
        exact = by_one_number(found.lower[0], pairs_of(question, size, row.tokens), row.epsilon)
        assert just_below(row.at_least, exact)


@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize(("kernel", "beta", "size"), [RATES[0], RATES[3]])
def test_a_row_of_auto_is_the_better_of_both_on_one_event(kernel: str, beta: float, size: int, natural: bool) -> None:
    question = asked(
        kernel=kernel, beta=beta, alphabets=(size,), slots=2, method="auto", natural=natural, epsilons=SHIFTS
    )
    cells = [(900, 895), (500, 480), (400, 399), (2000, 1996)]
    found = answer(question, counted(*cells[: 3 + natural]))
    strata, masked = found.lower[:3], masked_exactly(question)
    clean = max([by_strata(masked, strata, 0, 0.0), *(mp.mpf(one) for one in found.lower[3:])])
    for row in found.worst_case:
        pairs = pairs_of(question, size, row.tokens)
        one, other = by_strata(masked, strata, row.tokens, row.epsilon), by_one_number(clean, pairs, row.epsilon)
        assert just_below(row.at_least, max(one, other))


FIELDS = (2, 3, 5)


@pytest.mark.parametrize(("kernel", "beta"), [("absorbing", 0.6), ("uniform", 0.4), ("uniform", 0.7)])
@pytest.mark.parametrize("unsafe", [620, 990])
def test_a_row_of_fields_by_one_number_is_the_least_over_all_sets_of_fields(
    kernel: str, beta: float, unsafe: int
) -> None:
    # At .7 the fields stand on both sides of (V-1)/V, where the harder field is another one.
    question = asked(
        kernel=kernel, beta=beta, alphabets=FIELDS, text="l0", tabular=True, method="neyman_pearson", epsilons=SHIFTS
    )
    found = answer(question, counted((1000, unsafe)))
    for row in found.worst_case:
        least = min(
            by_one_number(found.lower[0], _product(question, chosen), row.epsilon)
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
        max_tokens=3, alpha=0.08, epsilons=SHIFTS,
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
    assert found.lower[0] == pytest.approx(float(values[0, 0.0]), rel=1e-9)


@pytest.mark.parametrize("table", ["uniform", "absorbing"])
def test_no_served_radius_is_above_its_golden_one_and_many_draws_all_but_meet_it(table: str) -> None:
    met = 0
    for row in json.loads((GOLDEN / f"{table}.json").read_text("utf-8"))[::3]:
        question = asked(
            kernel=row["kernel"], beta=row["beta"], alphabets=(row["V"] or 2,), slots=8, strata=0, max_tokens=row["d"],
            sigma=row["sigma"], tau=row["tau"], method="neyman_pearson", sides=("unsafe",), epsilons=(),
        )  # fmt: skip
        radius, exact = answer(question, plenty([row["pA"]])).frontier[-1].radius, Decimal(row["r_star"])
        assert Decimal(radius or 0) <= exact, row
        met += radius is not None and Decimal(radius) >= exact * Decimal("0.995")
    assert met >= 20


def test_few_values_favour_one_number_and_many_the_masks() -> None:
    few = asked(kernel="uniform", beta=0.3, alphabets=(3,), slots=2, method="auto")
    many = asked(kernel="uniform", beta=0.25, alphabets=(30000,), slots=2, method="auto", tau=0.01)
    methods = [[point.method for point in answer(one, counted(*[(5000, 4990)] * 3)).frontier] for one in (few, many)]
    assert methods == [["stratified", "neyman_pearson", "neyman_pearson"], ["stratified"] * 3]


def test_one_number_needs_no_cells_where_the_kernel_has_none() -> None:
    question = asked(
        kernel="uniform", beta=1.0, alphabets=(30000,), slots=8, strata=0, tau=4.6e-5, method="neyman_pearson"
    )
    radii = [point.radius for point in answer(question, counted((1000, 950))).frontier]
    assert None not in radii
    assert radii == sorted(radii, key=lambda radius: radius or 0.0, reverse=True)


def test_the_image_certificate_is_the_shift_of_one_cell() -> None:
    found = answer(asked(text="none", sigma=0.5, tau=0.5), counted((1000, 990)))
    (point,) = found.frontier
    assert point.radius == pytest.approx(0.5 * norm.ppf(found.lower[0]), rel=1e-9)


def test_without_image_noise_budgets_are_certified_at_no_shift_or_not_at_all() -> None:
    found = answer(asked(sigma=0.0, tau=0.4, epsilons=(0.0,)), counted(*[(1000, 1000)] * 4))
    assert [point.radius for point in found.frontier] == [0.0, 0.0, None, None]
    assert [row.at_least > 0.4 for row in found.worst_case] == [True, True, False, False]


@pytest.mark.parametrize("changes", [{}, {"method": "auto"}, {"text": "l0", "max_tokens": 4}, {"per_budget": True}])
def test_no_draws_certify_nothing_and_bound_nothing(changes: dict[str, Any]) -> None:
    question = asked(**changes)
    l0 = question.text == "l0"
    counts = pooled(np.zeros((0, 5), bool), np.zeros(0, bool)) if l0 else counted(*[(0, 0)] * len(question.wanted))
    found = answer(question, counts)
    assert (found.verdict, found.max_tokens) == ("abstained", None)
    assert {(row.at_least, row.at_most, row.passes_to_detect) for row in found.worst_case} == {(0.0, 1.0, None)}


def test_more_tokens_than_positions_are_all_positions() -> None:
    masks, unsafe = pool(4, 300, [0.5, 0.5], 0.9)
    found = answer(asked(text="l0", max_tokens=5, tau=0.01), pooled(masks, unsafe))
    radii = [point.radius for point in found.frontier]
    assert radii[1] > radii[2] == radii[3] == radii[5] is not None  # type: ignore[operator]
    nothing = answer(asked(text="l0", max_tokens=1, tau=0.01), pooled(masks[:, :0], unsafe))
    assert nothing.frontier[0].radius == nothing.frontier[1].radius


def test_budgets_of_too_many_covers_are_left_to_one_number() -> None:
    masks, unsafe = pool(5, 200, [0.9] * 130, 1.0)
    shared: dict[str, Any] = {"beta": 0.9, "text": "l0", "max_tokens": 3, "tau": 0.01, "epsilons": ()}
    covered, better = (
        answer(asked(**shared, method=method), pooled(masks, unsafe)) for method in ("stratified", "auto")
    )
    assert [point.radius is None for point in covered.frontier] == [False, False, False, True]
    assert [point.method for point in better.frontier][::3] == ["stratified", "neyman_pearson"]


def test_cells_of_certainty_are_bounded_below_certainty() -> None:
    found = answer(asked(slots=1, tau=0.9), counted((PLENTY, PLENTY), (PLENTY, PLENTY)))
    assert all(1 - 1e-6 < lower < 1.0 for lower in found.lower)
    assert found.frontier[0].radius is not None
    assert found.frontier[0].radius < 10.0
