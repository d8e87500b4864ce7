import math
from collections.abc import Callable
from functools import partial

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates.bounds.means import (
    ScoreSample,
    betting_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
    kl_lower,
    standing_lower,
)
from tests.certificates import balls


def counted(*rows: tuple[float, int]) -> ScoreSample:
    values, counts = zip(*rows, strict=True)
    return ScoreSample(np.array(values), np.array(counts))


SAMPLES = {
    "even": counted((0.0, 50), (1.0, 50)),
    "one zero": counted((0.0, 1), (1.0, 9999)),
    "many": counted((0.0, 500_000), (1.0, 500_000)),
    "rare": counted((0.0, 999_900), (1.0, 100)),
    "levels": counted(*((k / 8, 7 * k + 3) for k in range(9))),
    "thirds": counted((1 / 3, 4000), (2 / 3, 5000)),
    "single": counted((0.7, 1)),
    "small": counted((0.05, 30)),
    "near one": counted((1 - 2**-20, 30)),
}
RISKS = [0.5, 1e-12]


@pytest.mark.parametrize("alpha", RISKS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_kl_bound_stays_below_an_exact_one_just_below_the_grid(name: str, alpha: float) -> None:
    sample = SAMPLES[name]
    for risk in balls.hard_risks(kl_lower(sample, alpha), lambda q: balls.kl_risk(sample, q), 20):
        assert balls.kl_risk(sample, flint.arb(kl_lower(sample, risk))) <= risk


@pytest.mark.parametrize("alpha", RISKS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_betting_bound_stays_below_an_exact_one_just_below_the_grid(name: str, alpha: float) -> None:
    sample, bets = SAMPLES[name], balls.bets(alpha, SAMPLES[name].size)
    near = betting_lower(sample, alpha)
    for risk in balls.hard_risks(near, lambda m: balls.betting_risk(sample, m, bets), 8):
        assert balls.betting_risk(sample, flint.arb(betting_lower(sample, risk)), bets) <= risk


@pytest.mark.parametrize("alpha", RISKS)
@pytest.mark.parametrize("name", SAMPLES)
def test_the_standing_bound_stays_below_an_exact_one_just_below_the_grid(name: str, alpha: float) -> None:
    sample = SAMPLES[name]
    near = standing_lower(sample, alpha)
    for risk in balls.hard_risks(near, lambda m: balls.standing_risk(sample, m), 8):
        assert balls.standing_risk(sample, flint.arb(standing_lower(sample, risk))) <= risk


@pytest.mark.parametrize("share", [1e-3, 1e-9])
def test_a_risk_of_nearly_one_leaves_the_kl_bound_below_the_exact_one(share: float) -> None:
    # Near its peak the divergence is flat, and its rounding moves the bound furthest.
    for sample in (SAMPLES["even"], SAMPLES["many"], SAMPLES["thirds"]):
        for risk in balls.hard_risks(kl_lower(sample, 1.0 - share), partial(balls.kl_risk, sample), 10):
            assert balls.kl_risk(sample, flint.arb(kl_lower(sample, risk))) <= risk


scores_of_any_spread = st.lists(
    st.one_of(
        st.floats(0.0, 1.0),
        st.sampled_from([0.0, 1.0, 1e-290, 1e-100]),
        st.integers(0, 99).map(lambda k: 1 - k * 2**-53),
    ),
    min_size=1,
    max_size=40,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(scores=scores_of_any_spread, times=st.sampled_from([1, 1000]), alpha=st.floats(1e-12, 0.5))
def test_no_searched_bound_is_above_the_exact_one(scores: list[float], times: int, alpha: float) -> None:
    values, counts = np.unique(scores, return_counts=True)
    sample = ScoreSample(values, counts * times)
    kl, betting = kl_lower(sample, alpha), betting_lower(sample, alpha)
    assert kl == 0.0 or balls.kl_risk(sample, flint.arb(kl)) <= alpha
    bets = balls.bets(alpha, sample.size)
    assert betting == 0.0 or balls.betting_risk(sample, flint.arb(betting), bets) <= alpha
    standing = standing_lower(sample, alpha)
    assert standing == 0.0 or balls.standing_risk(sample, flint.arb(standing)) <= alpha


@settings(derandomize=True, max_examples=300, deadline=None)
@given(scores=scores_of_any_spread, times=st.sampled_from([1, 1000]), alpha=st.floats(1e-12, 0.5))
def test_no_closed_form_is_above_its_exact_value(scores: list[float], times: int, alpha: float) -> None:
    values, counts = np.unique(scores, return_counts=True)
    sample = ScoreSample(values, counts * times)
    assert flint.arb(hoeffding_lower(sample, alpha)) <= exact_hoeffding(sample, alpha).max(flint.arb(0))
    if sample.size > 1:
        exact = exact_bernstein(sample, alpha).max(flint.arb(0))
        assert flint.arb(empirical_bernstein_lower(sample, alpha)) <= exact


def exact_hoeffding(sample: ScoreSample, alpha: float) -> flint.arb:
    return balls.mean(sample) - (-flint.arb(alpha).log() / (2 * sample.size)).sqrt()


def exact_bernstein(sample: ScoreSample, alpha: float) -> flint.arb:
    needed, rest = (2 / flint.arb(alpha)).log(), sample.size - 1
    width = (2 * balls.variance(sample).max(flint.arb(0)) * needed / sample.size).sqrt() + 7 * needed / (3 * rest)
    return balls.mean(sample) - width


@pytest.mark.parametrize("bound", [betting_lower, kl_lower, standing_lower])
@pytest.mark.parametrize("size", [0.9e-290, 1.1e-290, 1e-280])
def test_scores_near_the_end_of_the_floats_prove_little_and_break_nothing(
    bound: Callable[[ScoreSample, float], float], size: float
) -> None:
    assert 0.0 <= bound(counted((size, 100)), 0.5) <= size
    assert 0.0 < bound(counted((size, 1), (1.0, 99)), 0.5) < 0.99


def test_a_share_of_the_smallest_scores_is_given_up_rather_than_rounded() -> None:
    assert betting_lower(counted((0.9e-290, 100)), 0.5) == kl_lower(counted((0.9e-290, 100)), 0.5) == 0.0
    assert math.isclose(betting_lower(counted((1e-280, 100)), 0.5), 1e-280, rel_tol=0.05)
