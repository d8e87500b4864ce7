import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from holdfast.certificates import any_time_lower, clopper_pearson_lower
from tests.certificates import oracle

Lower = Callable[[Any, Any, float], float]

BOUNDS = [any_time_lower, clopper_pearson_lower]
COUNTS = [(1, 1), (1, 20), (10, 20), (19, 20), (20, 20), (3, 500), (250, 500), (499, 500), (500, 500)]
RISKS = [0.5, 0.05, 0.01 / 9, 1e-6]
NEVER = 1e-9


@pytest.mark.parametrize(("successes", "draws"), COUNTS)
@pytest.mark.parametrize("alpha", RISKS)
def test_clopper_pearson_is_just_below_the_exact_bound(successes: int, draws: int, alpha: float) -> None:
    lower = clopper_pearson_lower(successes, draws, alpha)
    assert oracle.binomial_tail(successes, draws, lower) <= Fraction(alpha)
    assert oracle.binomial_tail(successes, draws, lower * (1 + 1e-9)) > Fraction(alpha)


@pytest.mark.parametrize(("successes", "draws"), [*COUNTS, (9995, 10000), (10000, 10000), (10**6 // 3, 10**6)])
@pytest.mark.parametrize("alpha", RISKS)
def test_the_any_time_bound_is_just_below_the_exact_one(successes: int, draws: int, alpha: float) -> None:
    lower, needed = any_time_lower(successes, draws, alpha), -oracle.mp.log(alpha)
    assert oracle.log_mixture(successes, draws, oracle.mp.mpf(lower)) >= needed
    above = oracle.mp.mpf(lower) * (1 + oracle.mp.mpf("1e-9"))
    assert oracle.log_mixture(successes, draws, above) < needed


@pytest.mark.parametrize("draws", [10**5, 10**7])
def test_many_draws_keep_both_bounds_below_the_exact_ones(draws: int) -> None:
    for successes in (1, draws // 2, draws):
        lower = any_time_lower(successes, draws, 0.01)
        assert oracle.log_mixture(successes, draws, oracle.mp.mpf(lower)) >= -oracle.mp.log(0.01)
    power = oracle.mp.mpf(clopper_pearson_lower(draws, draws, 0.01)) ** draws
    assert 0.01 * (1 - 1e-9 * draws) < power <= 0.01


def test_stopping_at_any_time_costs_little_near_one() -> None:
    assert clopper_pearson_lower(10000, 10000, 0.01) == pytest.approx(0.99954, abs=5e-6)
    assert any_time_lower(10000, 10000, 0.01) == pytest.approx(0.99942, abs=5e-6)


@pytest.mark.parametrize("bound", BOUNDS)
def test_no_success_proves_nothing(bound: Lower) -> None:
    assert bound(0, 0, 0.01) == bound(0, 1, 0.01) == bound(0, 10**6, 0.5) == 0.0


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("successes", "draws", "alpha"),
    [
        (-1, 5, 0.1),
        (6, 5, 0.1),
        (1, -1, 0.1),
        (math.nan, 5, 0.1),
        (-0.5, 5, 0.1),
        (5.0000001, 5, 0.1),
        (True, 5, 0.1),
        (1, 5.5, 0.1),
        (1, 5, 0.0),
        (1, 5, 1.0),
        (1, 5, math.nan),
        (1, 5, -0.1),
        (1, 5, True),
        (None, 5, 0.1),
    ],
)
def test_counts_and_risks_that_make_no_sense_are_refused(
    bound: Lower, successes: int, draws: int, alpha: float
) -> None:
    with pytest.raises(ValueError, match=r"(successes|draws|alpha)=.* must"):
        bound(successes, draws, alpha)


def test_only_counts_have_a_fixed_sample_bound() -> None:
    with pytest.raises(ValueError, match=r"successes=1\.0 must be an integer"):
        clopper_pearson_lower(1.0, 5, 0.1)  # type: ignore[arg-type]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(share=st.floats(0.0, 1.0), draws=st.integers(1, 10**6), alpha=st.floats(1e-9, 0.5))
def test_the_any_time_bound_of_a_sum_of_scores_is_just_below_the_exact_one(
    share: float, draws: int, alpha: float
) -> None:
    total = share * draws
    lower, needed = any_time_lower(total, draws, alpha), -oracle.mp.log(alpha)
    if lower:
        assert oracle.log_mixture(total, draws, oracle.mp.mpf(lower)) >= needed
    if total >= 1.0:
        assert oracle.log_mixture(total, draws, oracle.mp.mpf(lower) * (1 + oracle.mp.mpf("1e-6"))) < needed


@settings(derandomize=True, max_examples=150, deadline=None)
@given(share=st.floats(0.0, 1.0), less=st.floats(0.0, 1.0), draws=st.integers(1, 10**4), alpha=st.floats(1e-9, 0.5))
def test_the_any_time_bound_rises_with_a_sum_of_scores(share: float, less: float, draws: int, alpha: float) -> None:
    total = share * draws
    assert any_time_lower(less * total, draws, alpha) <= any_time_lower(total, draws, alpha)


@pytest.mark.parametrize("total", [5e-324, 1e-300, 1e-289, 1e-12, 1.0 - 2**-53, 5.0 - 2**-50, 5.0])
def test_sums_of_scores_at_the_ends_of_the_range_have_a_bound_below_their_mean(total: float) -> None:
    assert 0.0 <= any_time_lower(total, 5, 0.01) <= total / 5
    assert any_time_lower(float(round(total)), 5, 0.01) == any_time_lower(round(total), 5, 0.01)


@pytest.mark.parametrize("law", [(0.5, 0.5), (0.02, 0.05), (20.0, 0.4)])
def test_the_any_time_bound_of_scores_fails_anywhere_along_a_path_with_at_most_its_risk(
    law: tuple[float, float],
) -> None:
    # 400 paths of 60 Beta scores fail at most as often as Binomial(400, 0.3); the worst law, all or nothing, is above.
    sums = np.cumsum(np.random.default_rng(3).beta(*law, size=(400, 60)), axis=1)
    mean = law[0] / sum(law)
    failed = [any(any_time_lower(float(k), n + 1, 0.3) > mean for n, k in enumerate(path)) for path in sums]
    assert sum(failed) <= binom.isf(NEVER, 400, 0.3)


@pytest.mark.parametrize("bound", BOUNDS)
def test_numpy_counts_are_counts(bound: Lower) -> None:
    assert bound(np.int64(18), np.int32(20), np.float64(0.05)) == bound(18, 20, 0.05)


@pytest.mark.parametrize("bound", BOUNDS)
@settings(derandomize=True, max_examples=200, deadline=None)
@given(data=st.data(), draws=st.integers(1, 2000), alpha=st.floats(1e-9, 0.9))
def test_bounds_rise_with_successes_and_risk_and_fall_with_failures(
    bound: Lower, data: st.DataObject, draws: int, alpha: float
) -> None:
    successes = data.draw(st.integers(0, draws))
    lower = bound(successes, draws, alpha)
    assert 0.0 <= lower < 1.0
    assert lower <= successes / draws or bound is clopper_pearson_lower
    assert bound(successes, draws + 1, alpha) <= lower <= bound(successes + 1, draws + 1, alpha)
    assert bound(successes, draws, alpha / 2) <= lower


@pytest.mark.parametrize("p", [0.02, 0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("alpha", [0.3, 0.01])
def test_clopper_pearson_fails_with_at_most_its_risk(p: float, alpha: float) -> None:
    for draws in (1, 7, 60):
        wrong = [k for k in range(draws + 1) if clopper_pearson_lower(k, draws, alpha) > p]
        assert np.sum(binom.pmf(wrong, draws, p)) <= alpha


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95, 0.999])
def test_the_any_time_bound_fails_anywhere_along_a_path_with_at_most_its_risk(p: float) -> None:
    assert oracle.prefix_failure(lambda k, n: any_time_lower(k, n, 0.1), p, 150) <= 0.1


def test_a_fixed_sample_bound_fails_more_often_than_its_risk_along_a_path() -> None:
    failure = oracle.prefix_failure(lambda k, n: clopper_pearson_lower(k, n, 0.1), 0.5, 150)
    assert failure > 0.2


def test_the_running_maximum_of_the_any_time_bound_covers_in_simulation() -> None:
    # 1,000 paths fail at most as often as Binomial(1000, 0.1): the limit is passed with probability below 1e-9.
    rng, bound = np.random.default_rng(20), lru_cache(None)(any_time_lower)
    paths = np.cumsum(rng.random((1000, 200)) < 0.8, axis=1)
    best = [max(bound(int(k), n + 1, 0.1) for n, k in enumerate(path)) for path in paths]
    assert sum(lower > 0.8 for lower in best) <= binom.isf(NEVER, 1000, 0.1)
