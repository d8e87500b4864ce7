import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom

from holdfast.certificates import ScoreSample, betting_lower
from holdfast.certificates.bounds.means import (
    MeanBound,
    empirical_bernstein_lower,
    hoeffding_lower,
    kl_lower,
    mean_lower,
    standing_lower,
)
from tests.certificates import encoders, oracle

Floats = NDArray[np.float64]
Lower = Callable[..., float]

BOUNDS = [betting_lower, empirical_bernstein_lower, kl_lower, hoeffding_lower, standing_lower]
MONOTONE = [betting_lower, kl_lower, hoeffding_lower, standing_lower]
# Beyond it a search gives up no more than this share of the exact bound.
LOOSE = 1e-8
# Unsound bounds are missed, and sound ones reported, with at most this probability per simulation.
NEVER = 1e-6
scores_of_any_kind = st.lists(
    st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.25, 1.0, 1e-300])), min_size=1, max_size=60
)


def beta_scores(mean: float, deviation: float, draws: int) -> Floats:
    """Equally spaced quantiles of the Beta law of these two moments."""
    size = mean * (1 - mean) / deviation**2 - 1
    return beta(mean * size, (1 - mean) * size).ppf((np.arange(draws) + 0.5) / draws)


@pytest.mark.slow
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("name", ["half_space", "rare_misses", "concentrated"])
def test_a_bound_on_the_mean_fails_with_at_most_its_risk(bound: Lower, name: str) -> None:
    # 2,000 samples fail at most as often as Binomial(2000, 0.05); that passes the limit with probability 1e-6.
    encoder, rng = encoders.ENCODERS[name], np.random.default_rng(5)
    truth = encoder.mean()
    wrong = sum(bound(encoder.scores(rng, 50), 0.05) > truth for _ in range(2000))
    assert wrong <= binom.isf(NEVER, 2000, 0.05)


@pytest.mark.parametrize("p", [0.3, 0.8, 0.97])
def test_the_betting_bound_fails_anywhere_along_a_path_with_at_most_its_risk(p: float) -> None:
    def lower(successes: int, draws: int) -> float:
        return betting_lower(np.repeat([1.0, 0.0], [successes, draws - successes]), 0.1, horizon=60)

    assert oracle.prefix_failure(lower, p, 60) <= 0.1


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8])
def test_the_standing_bound_fails_anywhere_along_a_path_with_at_most_its_risk(p: float) -> None:
    def lower(successes: int, draws: int) -> float:
        return standing_lower(np.repeat([1.0, 0.0], [successes, draws - successes]), 0.3)

    assert 0.03 < oracle.prefix_failure(lower, p, 40) <= 0.3


@settings(derandomize=True, max_examples=100, deadline=None)
@given(scores=scores_of_any_kind, alpha=st.floats(1e-9, 0.9), share=st.floats(1e-3, 1.0))
def test_the_standing_bound_fails_at_a_smaller_risk_only_where_it_fails_at_a_larger_one(
    scores: list[float], alpha: float, share: float
) -> None:
    assert standing_lower(scores, share * alpha) <= standing_lower(scores, alpha)


def test_a_bound_for_one_number_of_draws_fails_more_often_than_its_risk_along_a_path() -> None:
    def lower(successes: int, draws: int) -> float:
        return kl_lower(np.repeat([1.0, 0.0], [successes, draws - successes]), 0.1)

    assert oracle.prefix_failure(lower, 0.5, 60) > 0.13


@pytest.mark.slow
def test_the_highest_betting_bound_of_a_path_of_scores_covers_in_simulation() -> None:
    # 300 paths fail at most as often as Binomial(300, 0.1).
    encoder, rng = encoders.ENCODERS["many_levels"], np.random.default_rng(6)
    looks, truth = range(1, 201, 8), encoder.mean()
    paths = (encoder.scores(rng, 200) for _ in range(300))
    wrong = sum(max(betting_lower(path[:n], 0.1, horizon=200) for n in looks) > truth for path in paths)
    assert wrong <= binom.isf(NEVER, 300, 0.1)


@pytest.mark.parametrize(("bound", "width"), [*zip(BOUNDS, [0.00120, 0.00295, 0.00852, 0.01859, 0.00117], strict=True)])
def test_widths_at_ten_thousand_concentrated_scores(bound: Lower, width: float) -> None:
    scores = beta_scores(0.95, 0.03, 10000)
    assert scores.mean() - bound(scores, 0.001) == pytest.approx(width, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.05, 1e-6])
@pytest.mark.parametrize("name", ["half_space", "rare_misses", "concentrated", "narrow_margin"])
def test_the_betting_bound_is_just_below_the_exact_one(name: str, alpha: float) -> None:
    scores = encoders.ENCODERS[name].scores(np.random.default_rng(1), 400)
    lower, needed = mp.mpf(betting_lower(scores, alpha, horizon=500)), -mp.log(alpha)
    assert encoders.wealth(scores, lower, alpha, 500) >= needed
    assert encoders.wealth(scores, lower * (1 + LOOSE), alpha, 500) < needed


@pytest.mark.parametrize("scores", [[1.0] * 50, [0.0] * 49 + [1.0], [0.5], [1e-200, 1.0], [1.0 - 2**-53] * 7])
def test_extreme_scores_keep_the_betting_bound_below_the_exact_one(scores: list[float]) -> None:
    lower = mp.mpf(betting_lower(scores, 0.01))
    assert encoders.wealth(scores, lower, 0.01, len(scores)) >= -mp.log(0.01)
    assert encoders.wealth(scores, lower * (1 + LOOSE), 0.01, len(scores)) < -mp.log(0.01)


@pytest.mark.parametrize("alpha", [0.5, 1e-6])
@pytest.mark.parametrize("name", ["half_space", "many_levels", "concentrated"])
def test_the_kl_bound_is_just_below_the_exact_one(name: str, alpha: float) -> None:
    scores = encoders.ENCODERS[name].scores(np.random.default_rng(2), 700)
    mean = sum(map(mp.mpf, scores.tolist())) / 700
    lower, allowed = mp.mpf(kl_lower(scores, alpha)), -mp.log(mp.mpf(alpha)) / 700
    assert encoders.divergence(mean, lower) >= allowed
    assert encoders.divergence(mean, lower * (1 + LOOSE)) < allowed


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 1e-6])
@pytest.mark.parametrize("draws", [2, 700, 10**5])
def test_the_closed_forms_are_just_below_their_exact_values(draws: int, alpha: float) -> None:
    scores = encoders.ENCODERS["concentrated"].scores(np.random.default_rng(3), draws)
    exact = [mp.mpf(score) for score in scores.tolist()]
    mean = mp.fsum(exact) / draws
    variance, twice = mp.fsum((x - mean) ** 2 for x in exact) / (draws - 1), mp.log(2 / mp.mpf(alpha))
    bernstein = mean - mp.sqrt(2 * variance * twice / draws) - 7 * twice / (3 * (draws - 1))
    hoeffding = mean - mp.sqrt(-mp.log(mp.mpf(alpha)) / (2 * draws))
    for bound, truth in ((empirical_bernstein_lower, bernstein), (hoeffding_lower, hoeffding)):
        assert max(truth, 0) - 1e-12 <= bound(scores, alpha) <= max(truth, 0)


@pytest.mark.parametrize("bound", BOUNDS)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(scores=scores_of_any_kind, alpha=st.floats(1e-9, 0.9))
def test_a_bound_lies_below_the_mean_and_ignores_the_order_of_the_draws(
    bound: Lower, scores: list[float], alpha: float
) -> None:
    lower = bound(scores, alpha)
    assert 0.0 <= lower < 1.0
    assert lower <= math.fsum(scores) / len(scores)
    assert lower == bound(scores[::-1], alpha) == bound(ScoreSample.of(scores), alpha)


@pytest.mark.parametrize("bound", MONOTONE)
@settings(derandomize=True, max_examples=60, deadline=None)
@given(scores=scores_of_any_kind, raised=st.floats(0.0, 1.0), alpha=st.floats(1e-6, 0.5))
def test_a_larger_score_never_lowers_a_bound_that_ignores_the_spread(
    bound: Lower, scores: list[float], raised: float, alpha: float
) -> None:
    higher = [max(scores[0], raised), *scores[1:]]
    assert bound(higher, alpha) >= bound(scores, alpha) * (1 - LOOSE)


def test_every_name_has_its_bound_and_the_betting_bound_comes_first() -> None:
    scores = beta_scores(0.9, 0.1, 100)
    names: list[MeanBound] = ["betting", "empirical_bernstein", "kl", "hoeffding"]
    assert [mean_lower(scores, 0.01, bound=name) for name in names] == [bound(scores, 0.01) for bound in BOUNDS[:4]]
    assert mean_lower(scores, 0.01, horizon=1000) == betting_lower(scores, 0.01, horizon=1000)
    with pytest.raises(ValueError, match=r"bound='bootstrap' must be one of betting, .*; name one"):
        mean_lower(scores, 0.01, bound="bootstrap")  # type: ignore[arg-type]


@pytest.mark.parametrize("bound", BOUNDS)
def test_one_draw_and_draws_of_nothing_prove_little(bound: Lower) -> None:
    assert bound([0.0] * 9, 0.01) == bound([5e-324], 0.01) == 0.0
    assert bound([1.0], 0.3) <= 0.3


def test_a_sample_holds_distinct_scores_and_how_often_each_came() -> None:
    sample = ScoreSample.of(np.array([0.5, 0.25, 0.5], dtype=np.float32))
    assert sample.values.tolist() == [0.25, 0.5]
    assert sample.counts.tolist() == [1, 2]
    assert sample.size == 3
    assert ScoreSample.of(sample) is sample
    with pytest.raises(ValueError, match="read-only"):
        sample.values[0] = 1.0


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], r"scores=\[\] must hold at least one number"),
        ([0.5, 1.25], r"scores\[1\]=1.25 must lie in \[0, 1\]"),
        ([-1e-9], r"scores\[0\]=-1e-09 must lie"),
        ([0.5, math.nan], r"scores\[1\]=nan must lie"),
        ([math.inf], r"scores\[0\]=inf must lie"),
        ([[0.5]], r"shape \(1, 1\) must be one-dimensional"),
        (0.5, r"shape \(\) must be one-dimensional"),
        ([True], "type bool must be real numbers"),
        (["a"], "must be real numbers"),
    ],
)
def test_scores_that_make_no_sense_are_refused_with_the_first_of_them(scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        betting_lower(scores, 0.01)


@pytest.mark.parametrize(
    ("values", "counts", "message"),
    [
        ([0.5, 0.5], [1, 1], "distinct and ascending"),
        ([0.5, 0.2], [1, 1], "distinct and ascending"),
        ([0.5, 0.7], [1, 0], "counts=0 must be at least 1; leave out"),
        ([0.5], [1.0], "one integer per value"),
        ([0.5], [1, 2], "one integer per value"),
        ([1.5], [1], r"values\[0\]=1.5 must lie"),
    ],
)
def test_samples_that_make_no_sense_are_refused(values: Any, counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreSample(np.array(values), np.array(counts))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_a_risk_outside_its_range_is_refused(bound: Lower, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha=.* must"):
        bound([0.5], alpha)


@pytest.mark.parametrize("horizon", [0, 2.5, True])
def test_a_horizon_that_is_no_number_of_draws_is_refused(horizon: Any) -> None:
    with pytest.raises(ValueError, match=r"horizon=.* must"):
        betting_lower([0.5], 0.01, horizon=horizon)
