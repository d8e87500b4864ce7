import math
from fractions import Fraction
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from holdfast.certificates.features.averages import mean_of_draws_lower
from holdfast.certificates.shifts.mixtures import Law
from holdfast.certificates.shifts.scores import score_law
from tests.certificates import encoders
from tests.certificates.shifted import law

NEVER = 1e-6


def exact_quantile(values: list[float], masses: list[Fraction], draws: int, alpha: float) -> Fraction:
    """Largest s with P[sum < s] <= alpha, from all tuples of draws, in rationals; as an inner product."""
    masses_of: dict[Fraction, Fraction] = {}
    for rows in product(zip(values, masses, strict=True), repeat=draws):
        total = sum((Fraction(value) for value, _ in rows), Fraction(0))
        mass = math.prod((Fraction(mass) for _, mass in rows), start=Fraction(1))
        masses_of[total] = masses_of.get(total, Fraction(0)) + mass
    below = Fraction(0)
    for total in sorted(masses_of):
        below += masses_of[total]
        if below > Fraction(alpha):
            return 2 * total / draws - 1
    raise AssertionError


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=3, unique=True),
    on_grid=st.booleans(),
    survival=st.lists(st.floats(0.05, 0.999), min_size=3, max_size=3),
    draws=st.integers(1, 4),
    alpha=st.floats(1e-6, 0.6),
)
def test_the_bound_is_just_below_the_exact_quantile(
    values: list[float], on_grid: bool, survival: list[float], draws: int, alpha: float
) -> None:
    values = np.unique(np.rint(4096 * np.array(values)) / 4096 if on_grid else values).tolist()
    curve = law(values, sorted(survival, reverse=True)[: len(values)])
    kept = [1.0, *curve.survival_at(0.5), 0.0]
    masses = [Fraction(high) - Fraction(low) for high, low in pairwise(kept)]
    lower = Fraction(mean_of_draws_lower(curve, draws=draws, t=0.5, alpha=alpha))
    assert lower <= exact_quantile([0.0, *values], masses, draws, alpha)
    loss = Fraction(1, 10**12) if on_grid else Fraction(2, 4096)
    assert lower >= exact_quantile([0.0, *values], masses, draws, alpha * (1 - 1e-6)) - loss


@pytest.mark.parametrize(
    ("value", "survival", "draws"), [(0.849853515625, 0.999, 5), (0.2579365079365079, 1.0, 65), (0.7, 1.0, 3)]
)
def test_not_even_the_last_rounding_lifts_the_bound_above_an_atom(value: float, survival: float, draws: int) -> None:
    curve = law([value], [survival])
    lower = mean_of_draws_lower(curve, draws=draws, t=0.0, alpha=1e-3)
    full = int(Fraction(survival) ** draws >= Fraction(999, 1000))
    assert Fraction(lower) <= 2 * Fraction(value) * (draws - 1 + full) / draws - 1


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["rare_misses", "many_levels", "concentrated"])
def test_a_mean_of_draws_under_attack_falls_below_the_bound_with_at_most_both_risks(name: str, t: float) -> None:
    # 200 curves, each against 50 attacks. Wrong curves are at most Binomial(200, 0.05), other failures at most
    # Binomial(10^4, 0.05): both pass their limits with probability 1e-6 at most.
    encoder, rng, wrong = encoders.ENCODERS[name], np.random.default_rng(7), 0
    for _ in range(200):
        lower = mean_of_draws_lower(score_law(encoder.scores(rng, 200), 0.05), draws=8, t=t, alpha=0.05)
        means = encoder.features(rng, 50 * 8, t).reshape(50, 8, 2).mean(axis=1)
        below = means[:, 0] < lower
        assert np.all(below | (lower <= 0) | (means[:, 0] / np.linalg.norm(means, axis=1) >= lower))
        wrong += int(below.sum())
    assert wrong <= binom.isf(NEVER / 2, 10**4, 0.05) + 50 * binom.isf(NEVER / 2, 200, 0.05)


def test_at_the_exact_law_the_worst_encoder_meets_the_bound() -> None:
    # It fails on 5 % of the attacks, but for the steps of its scores: between Binomial quantiles of 1e-6.
    encoder, rng = encoders.beta_law(0.969, 0.02, 4096), np.random.default_rng(8)
    lower = mean_of_draws_lower(Law(encoder.levels, encoder.survival), draws=8, t=1.0, alpha=0.05)
    products = 2 * encoder.scores(rng, 8 * 10**4, 1.0).reshape(-1, 8).mean(axis=1) - 1
    assert binom.ppf(NEVER, 10**4, 0.045) <= np.sum(products < lower) <= binom.isf(NEVER, 10**4, 0.05)


def test_eight_draws_of_a_concentrated_score_keep_most_of_their_reference() -> None:
    # Beta scores of mean .969 and deviation .02, 10^4 draws, risks .001 and .05.
    encoder = encoders.beta_law(0.969, 0.02, 4096)
    curve = score_law(encoder.scores(np.random.default_rng(9), 10000), 0.001)
    kept = [mean_of_draws_lower(curve, draws=8, t=t, alpha=0.05) for t in (0.5, 1.0)]
    assert kept == pytest.approx([0.865, 0.645], abs=0.01)


def test_a_single_draw_keeps_the_curves_own_quantile() -> None:
    curve = law([0.25, 0.5, 1.0], [0.99, 0.9, 0.5])
    kept = [mean_of_draws_lower(curve, draws=1, t=0.0, alpha=alpha) for alpha in (0.005, 0.05, 0.2, 0.6)]
    assert kept == pytest.approx([-1.0, -0.5, 0.0, 1.0], abs=1e-15)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(t=st.floats(0.0, 4.0), further=st.floats(0.0, 2.0), draws=st.integers(1, 20))
def test_a_further_attack_never_keeps_more(t: float, further: float, draws: int) -> None:
    curve = law([0.3, 0.9, 0.97], [0.999, 0.99, 0.7])
    near, far = (mean_of_draws_lower(curve, draws=draws, t=shift, alpha=0.05) for shift in (t, t + further))
    assert -1.0 <= far <= near < 1.0


@pytest.mark.parametrize("draws", [1, 8, 100, 2048])
def test_a_risk_below_the_transforms_rounding_proves_nothing(draws: int) -> None:
    curve = law([0.9], [0.999999])
    assert mean_of_draws_lower(curve, draws=draws, t=0.0, alpha=1e-15) == -1.0


def test_many_draws_come_close_to_the_curves_mean() -> None:
    curve = law([0.5, 1.0], [0.999, 0.9])
    lower = mean_of_draws_lower(curve, draws=2048, t=0.0, alpha=0.05)
    mean = 2 * curve.shift.at(0.0) - 1
    assert mean - 0.05 < lower < mean


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 0}, "draws=0 must be at least 1"),
        ({"draws": 2049}, "draws=2049 must be at most 2048; lower draws"),
        ({"draws": 8.0}, "draws=8.0 must be an integer"),
        ({"t": -1.0}, "t=-1.0 must be at least 0"),
        ({"alpha": 0.0}, "alpha=0.0 must lie strictly"),
    ],
)
def test_averages_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"draws": 8, "t": 0.5, "alpha": 0.05} | change
    with pytest.raises(ValueError, match=message):
        mean_of_draws_lower(law([0.9], [0.99]), **arguments)


def test_a_sum_of_draws_that_is_no_float_when_divided_is_rounded_down() -> None:
    # Two scores of the grid, each half of the time: 2 a + b is passed with probability 7/8, the next sum with 1/2.
    for low, high in product(range(2500, 2512), range(3000, 3012)):
        lower = mean_of_draws_lower(law([low / 4096, high / 4096], [1.0, 0.5]), draws=3, t=0.0, alpha=0.3)
        exact = Fraction(2 * (2 * low + high), 3 * 4096) - 1
        assert exact * (1 - Fraction(1, 10**15)) <= Fraction(lower) <= exact
