import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm

from holdfast.certificates import AbsorbingKernel, ScoreSample
from holdfast.certificates.bounds.means import MeanBound, mean_lower
from holdfast.certificates.shifts.mixtures import Law, event_mixture, mean_mixture, suffix_mixtures
from holdfast.certificates.shifts.scores import mean_shift, rank_shares, score_law
from holdfast.certificates.shifts.shift import Greatest, Least, Shift
from tests.certificates import encoders
from tests.certificates.encoders import StepEncoder
from tests.certificates.shifted import curve_shift, law

NEVER = 1e-6
SHIFTS = [0.0, 0.3, 1.0, 2.0, 4.0]
scores_of_any_kind = st.lists(
    st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.25, 1.0])), min_size=1, max_size=80
)


def exact_curve(encoder: StepEncoder) -> Law:
    return Law(encoder.levels, encoder.survival)


@pytest.mark.parametrize("lower", [1e-12, 0.3, 0.5, 0.969, 1 - 1e-9, 1 - 2**-53])
@pytest.mark.parametrize("t", [0.0, 1e-9, 0.7, 3.0, 12.0])
def test_a_shifted_mean_is_just_below_its_exact_value(lower: float, t: float) -> None:
    with mp.workdps(60):
        quantile = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(lower) - 1)
        exact = mp.ncdf(quantile - t)
        assert exact * (1 - mp.mpf("1e-11")) <= mean_mixture(lower).at(t) <= exact


@pytest.mark.parametrize("lower", [0.51, 0.969, 1 - 1e-9])
@pytest.mark.parametrize("level", [0.01, 0.5])
def test_the_reach_of_a_mean_is_just_below_the_exact_one(lower: float, level: float) -> None:
    with mp.workdps(60):
        exact = mp.sqrt(2) * (mp.erfinv(2 * mp.mpf(lower) - 1) - mp.erfinv(2 * mp.mpf(level) - 1))
        assert exact * (1 - mp.mpf("1e-8")) <= mean_mixture(lower).reach(level) <= exact


@pytest.mark.parametrize("name", ["half_space", "rare_misses", "many_levels", "concentrated", "narrow_margin"])
@pytest.mark.parametrize("t", SHIFTS)
def test_the_curve_of_an_exact_law_meets_the_worst_encoder_from_below(name: str, t: float) -> None:
    encoder = encoders.ENCODERS[name]
    assert encoder.mean(t) * (1 - 1e-10) <= exact_curve(encoder).shift.at(t) <= encoder.mean(t) * (1 + 1e-14)


@pytest.mark.parametrize("name", ["half_space", "rare_misses", "many_levels", "concentrated", "narrow_margin"])
@pytest.mark.parametrize("t", SHIFTS)
def test_at_exact_laws_the_curve_is_never_below_the_mean(name: str, t: float) -> None:
    encoder = encoders.ENCODERS[name]
    assert exact_curve(encoder).shift.at(t) >= mean_mixture(encoder.mean()).at(t) * (1 - 1e-11)


@pytest.mark.parametrize("shift", [curve_shift, mean_shift])
@pytest.mark.parametrize("name", ["half_space", "rare_misses", "many_levels", "concentrated", "narrow_margin"])
def test_a_shift_fails_at_any_distance_with_at_most_its_risk(shift: Callable[..., Shift], name: str) -> None:
    # 1,000 samples fail somewhere at most as often as Binomial(1000, 0.1).
    encoder, rng = encoders.ENCODERS[name], np.random.default_rng(8)
    truths = [encoder.mean(t) for t in SHIFTS]
    proved = (shift(encoder.scores(rng, 100), 0.1) for _ in range(1000))
    wrong = sum(any(one.at(t) > truth for t, truth in zip(SHIFTS, truths, strict=True)) for one in proved)
    assert wrong <= binom.isf(NEVER, 1000, 0.1)


@pytest.mark.parametrize("name", ["half_space", "many_levels", "narrow_margin"])
def test_no_level_of_the_curve_is_reached_less_often_than_it_says(name: str) -> None:
    encoder, rng = encoders.ENCODERS[name], np.random.default_rng(9)

    def fails() -> bool:
        curve = score_law(encoder.scores(rng, 100), 0.1)
        return bool(np.any(curve.survival > encoder.survival[np.searchsorted(encoder.levels, curve.values)]))

    assert sum(fails() for _ in range(2000)) <= binom.isf(NEVER, 2000, 0.1)


@pytest.mark.parametrize("draws", [1, 7, 60])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_ties_cost_the_curve_none_of_its_risk(draws: int, p: float) -> None:
    wrong = [k for k in range(1, draws + 1) if curve_of_counts(k, draws).survival[-1] > p]
    assert np.sum(binom.pmf(wrong, draws, p)) <= 0.1


def curve_of_counts(successes: int, draws: int) -> Law:
    return score_law(np.repeat([1.0, 0.0], [successes, draws - successes]), 0.1)


@pytest.mark.parametrize("draws", [1, 10, 300, 10000])
def test_the_ranks_share_the_whole_risk_and_no_more(draws: int) -> None:
    # P[S >= v] at the i-th lowest of n distinct scores has the law Beta(n-i+1, i) when the scores are continuous.
    curve = score_law(np.arange(1, draws + 1) / draws, 0.05)
    ranks = np.rint(curve.values * draws)
    assert 0.05 * (1 - 1e-6) <= np.sum(beta.cdf(curve.survival, draws - ranks + 1, ranks)) <= 0.05


def test_ranks_and_their_risks_do_not_depend_on_the_scores() -> None:
    rng = np.random.default_rng(10)
    first, second = (score_law(rng.random(500) ** power, 0.01) for power in (1, 9))
    assert first.survival.tolist() == second.survival.tolist()


@settings(derandomize=True, max_examples=80, deadline=None)
@given(scores=scores_of_any_kind, alpha=st.floats(1e-6, 0.5), t=st.floats(0.0, 8.0), further=st.floats(0.0, 3.0))
def test_a_further_shift_never_keeps_more(scores: list[float], alpha: float, t: float, further: float) -> None:
    for shift in (curve_shift(scores, alpha), mean_shift(scores, alpha)):
        assert shift.at(t + further) <= shift.at(t) <= math.fsum(scores) / len(scores)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(scores=scores_of_any_kind, alpha=st.floats(1e-3, 0.5), level=st.floats(0.01, 0.95))
def test_the_reach_is_where_the_value_passes_the_level(scores: list[float], alpha: float, level: float) -> None:
    for shift in (curve_shift(scores, alpha), mean_shift(scores, alpha)):
        reach = shift.reach(level)
        assert (reach is not None) == (shift.at(1e-7) > level) or shift.at(0.0) - level < 1e-6
        if reach is not None:
            assert shift.at(reach) > level
            assert shift.at(reach * (1 + 1e-8) + 1e-7) <= level


@settings(derandomize=True, max_examples=80, deadline=None)
@given(scores=scores_of_any_kind, raised=st.floats(0.0, 1.0), t=st.floats(0.0, 3.0))
def test_a_larger_score_never_lowers_the_curve(scores: list[float], raised: float, t: float) -> None:
    higher = [max(scores[0], raised), *scores[1:]]
    assert curve_shift(higher, 0.05).at(t) >= curve_shift(scores, 0.05).at(t) * (1 - 1e-12)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(scores=scores_of_any_kind, t=st.floats(0.0, 3.0))
def test_a_curve_ignores_the_order_of_the_draws(scores: list[float], t: float) -> None:
    at = curve_shift(scores, 0.05).at(t)
    assert at == curve_shift(scores[::-1], 0.05).at(t) == curve_shift(ScoreSample.of(scores), 0.05).at(t)


def test_a_curve_serves_the_tail_and_the_middle_of_ten_thousand_scores() -> None:
    rng = np.random.default_rng(11)
    concentrated, narrow = encoders.beta_law(0.969, 0.03, 4096), encoders.beta_law(0.55, 0.1, 4096)
    assert curve_shift(concentrated.scores(rng, 10000), 0.001).reach(0.75) == pytest.approx(2.07, abs=0.04)
    assert curve_shift(narrow.scores(rng, 10000), 0.001).reach(0.5) == pytest.approx(0.38, abs=0.03)


def test_nothing_certified_is_none_and_certainty_reaches_everywhere() -> None:
    assert mean_mixture(0.5).reach(0.5) is None
    assert mean_mixture(0.0).reach(0.01) is None
    assert curve_shift([0.4] * 1000, 0.01).reach(0.5) is None
    assert law([0.6], [1.0]).shift.reach(0.5) == mean_mixture(1.0).reach(0.5) == math.inf
    assert mean_mixture(1.0).at(1e300) > 1 - 1e-11


def test_a_certain_part_and_an_uncertain_one_reach_as_far_as_both() -> None:
    curve = law([0.3, 1.0], [1.0, 0.5]).shift
    exact = -math.sqrt(2) * mp.erfinv(2 * (mp.mpf("0.31") - mp.mpf("0.3")) / mp.mpf("0.7") - 1)
    assert curve.reach(0.31) == pytest.approx(float(exact), rel=1e-8)


def test_survival_at_a_shift_is_that_of_every_level() -> None:
    encoder = encoders.ENCODERS["many_levels"]
    masses = encoder.law(1.5)
    assert exact_curve(encoder).survival_at(1.5) == pytest.approx(np.cumsum(masses[::-1])[::-1], rel=1e-10)


def test_a_bound_that_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lower=1.5 must lie in \[0, 1\]"):
        mean_mixture(1.5)


def test_a_mean_is_shifted_from_the_bound_that_was_named() -> None:
    scores = np.repeat([1.0, 0.5], 50)
    width = math.sqrt(math.log(20.0) / 200.0)
    assert mean_shift(scores, 0.05, bound="hoeffding").at(0.0) == pytest.approx(0.75 - width, rel=1e-12)
    names: tuple[MeanBound, ...] = ("betting", "empirical_bernstein", "kl", "hoeffding")
    lowers = [mean_lower(scores, 0.05, bound=name) for name in names]
    assert len(set(lowers)) == 4
    assert [mean_shift(scores, 0.05, bound=name).at(0.0) for name in names] == pytest.approx(lowers, rel=1e-12)


def test_a_shifted_mean_bets_for_the_horizon_that_was_named() -> None:
    scores = np.repeat([1.0, 0.0], [95, 5])
    lower = mean_lower(scores, 0.05, horizon=10**6)
    assert lower < mean_lower(scores, 0.05) * (1 - 1e-6)
    assert mean_shift(scores, 0.05, horizon=10**6).at(0.0) == pytest.approx(lower, rel=1e-12)


@pytest.mark.parametrize("prove", [score_law, mean_shift])
@pytest.mark.parametrize(("alpha", "remedy"), [(0.0, "raise alpha"), (1.0, "lower alpha")])
def test_a_risk_that_is_none_is_refused_by_name(prove: Callable[..., object], alpha: float, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"^alpha={alpha} must lie strictly between 0 and 1; {remedy}$"):
        prove([0.5, 0.9], alpha)


@pytest.mark.parametrize("draws", [2, 40, 5000])
def test_the_lowest_rank_has_the_largest_share_of_the_risk_and_the_jth_a_jth_of_it(draws: int) -> None:
    curve = score_law(np.arange(1, draws + 1) / draws, 0.05)
    ranks = np.rint(curve.values * draws)
    shares = beta.cdf(curve.survival, draws - ranks + 1, ranks)
    harmonic = math.fsum(1 / j for j in range(1, len(ranks) + 1))
    exact = [0.05 / harmonic / j for j in range(1, len(ranks) + 1)]
    assert shares == pytest.approx(exact, rel=1e-5)
    assert rank_shares(0.05, len(ranks)) == pytest.approx(exact, rel=1e-12)


SUFFIX = (0.2, 0.5, 0.9)


@pytest.mark.parametrize("t", [0.0, 0.7, 2.0])
def test_a_budget_of_the_suffix_threat_keeps_the_cells_that_mask_at_least_as_many(t: float) -> None:
    # Cells of weights 3/4, 3/16 and 1/16; those of fewer masks than the budget are lost whole.
    kept = [w * norm.cdf(norm.ppf(q) - t) for w, q in zip((0.75, 0.1875, 0.0625), SUFFIX, strict=True)]
    found = [shift.at(t) for shift in suffix_mixtures(AbsorbingKernel(0.25), SUFFIX)]
    assert found == pytest.approx([sum(kept), kept[1] + kept[2], kept[2]], rel=1e-12)


def test_cells_without_a_bound_or_with_one_that_is_no_probability_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^lower=\[\] must hold one bound per cell; pass at least one$"):
        suffix_mixtures(AbsorbingKernel(0.25), [])
    with pytest.raises(ValueError, match=r"^lower\[1\]=1.5 must lie in \[0, 1\]; pass a probability$"):
        suffix_mixtures(AbsorbingKernel(0.25), [0.5, 1.5, 0.5])


def test_the_attacker_takes_the_least_of_several_shifts_and_a_budget_the_greatest() -> None:
    # The parts cross: .9 of a half against .6 of everything, and a third that reaches nowhere.
    often, rare, none = mean_mixture(0.6), event_mixture(0.5, 0.99), mean_mixture(0.1)
    assert Least([often, rare]).at(0.0) == rare.at(0.0) < often.at(0.0)
    assert Least([often, rare]).at(2.0) == often.at(2.0) < rare.at(2.0)
    assert Greatest([often, rare]).at(0.0) == often.at(0.0)
    assert Greatest([often, rare]).at(2.0) == rare.at(2.0)
    reaches = [often.reach(0.3), rare.reach(0.3)]
    assert reaches == pytest.approx([norm.ppf(0.6) - norm.ppf(0.3), norm.ppf(0.99) - norm.ppf(0.6)], rel=1e-8)
    assert [Least([often, rare]).reach(0.3), Greatest([often, rare]).reach(0.3)] == sorted(
        reaches, key=lambda r: r or 0
    )
    assert Greatest([none, rare, none]).reach(0.3) == reaches[1]
    assert Greatest([none, none]).reach(0.3) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_where_one_attack_is_answered_by_nothing_none_of_them_is(place: int) -> None:
    parts = [mean_mixture(0.9), mean_mixture(0.8)]
    parts.insert(place, mean_mixture(0.2))
    assert Least(parts).reach(0.3) is None
    assert Least(parts).at(0.0) == mean_mixture(0.2).at(0.0)


def test_of_no_shift_nothing_is_known() -> None:
    assert Greatest(()).at(0.0) == 0.0
    assert Greatest(()).reach(0.1) is None
