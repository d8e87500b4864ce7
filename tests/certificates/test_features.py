import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from holdfast.certificates import ScoreSample, feature_bound, feature_radius, margin_radius
from holdfast.certificates.features.similarity import FeatureBound, feature_radius_of
from holdfast.certificates.shifts.mixtures import mean_mixture
from holdfast.certificates.shifts.scores import ShiftMethod, mean_shift
from tests.certificates import encoders
from tests.certificates.shifted import curve_shift

METHODS: list[ShiftMethod] = ["cdf", "mean"]
NEVER = 1e-6
SHIFTS = [0.0, 0.4, 1.0, 2.0]


def published_bound(mean: float, t: float) -> float:
    """[F] Theorem 3.2 with the plain mean of the scores in place of a bound on it."""
    return 2.0 * ndtr(ndtri(mean) - t) - 1.0


@pytest.mark.parametrize("method", METHODS)
def test_where_the_published_cosine_bound_is_negative_it_is_wrong_and_ours_is_none(method: ShiftMethod) -> None:
    # f(s) = (1, 0) below 1.3338 and (-1, 0) above; x = 0, sigma = 1, epsilon = 1.5.
    below = float(ndtr(1.3338))
    encoder = encoders.steps((0.0, 1 - below), (1.0, below))
    assert published_bound(encoder.mean(), 1.5) == pytest.approx(-0.132, abs=5e-4)
    assert encoder.cosine(1.5) == -1.0
    bound = feature_bound(
        encoder.scores(np.random.default_rng(1), 5000), epsilon=1.5, sigma=1, alpha=0.01, method=method
    )
    assert bound.cosine is None
    assert -1.0 <= bound.inner_product <= encoder.feature(1.5)[0]


@pytest.mark.parametrize("method", METHODS)
def test_features_that_are_not_normalised_per_draw_certify_a_lie_and_normalised_ones_do_not(
    method: ShiftMethod,
) -> None:
    # f' = u with probability .99 and -1000 u with .01; [F] Eq. 15 scores the direction of every draw.
    features = np.repeat([1.0, -1000.0], [9900, 100])
    assert features.mean() < 0.0
    published = published_bound(np.mean((1.0 + np.sign(features)) / 2.0), 0.0)
    assert published == pytest.approx(0.98)
    unit = features / np.abs(features)
    bound = feature_bound((1.0 + unit) / 2.0, epsilon=0.0, sigma=1, alpha=0.01, method=method)
    assert 0.97 < (bound.cosine or 0.0) <= unit.mean()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["half_space", "rare_misses", "many_levels", "concentrated"])
def test_a_feature_bound_fails_with_at_most_its_risk(method: ShiftMethod, name: str) -> None:
    # 1,000 samples fail somewhere at most as often as Binomial(1000, 0.1).
    encoder, rng = encoders.ENCODERS[name], np.random.default_rng(2)
    products, cosines = [encoder.feature(t)[0] for t in SHIFTS], [encoder.cosine(t) for t in SHIFTS]

    def fails() -> bool:
        scores = encoder.scores(rng, 100)
        bounds = [feature_bound(scores, epsilon=t / 4, sigma=0.25, alpha=0.1, method=method) for t in SHIFTS]
        return any(
            bound.inner_product > product or (bound.cosine or -1.0) > cosine
            for bound, product, cosine in zip(bounds, products, cosines, strict=True)
        )

    assert sum(fails() for _ in range(1000)) <= binom.isf(NEVER, 1000, 0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_feature_radius_is_too_large_with_at_most_its_risk(method: ShiftMethod) -> None:
    encoder, rng = encoders.ENCODERS["concentrated"], np.random.default_rng(3)
    far = next(t for t in np.arange(0, 9, 1e-3) if encoder.cosine(t) < 0.8)
    radii = (
        feature_radius(encoder.scores(rng, 100), cosine_floor=0.8, sigma=1, alpha=0.1, method=method)
        for _ in range(1000)
    )
    assert sum((radius or 0.0) > far for radius in radii) <= binom.isf(NEVER, 1000, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_margin_radius_is_too_large_with_at_most_its_risk(method: ShiftMethod) -> None:
    rivals = [encoders.steps((0.0, 0.1), (1.0, 0.9)), encoders.beta_law(0.7, 0.1), encoders.beta_law(0.8, 0.3)]
    rng, grid = np.random.default_rng(4), np.arange(0, 5, 1e-3)
    far = min(next(t for t in grid if rival.mean(t) <= 0.5) for rival in rivals)
    tables = (np.stack([rival.scores(rng, 100) for rival in rivals]) for _ in range(1000))
    wrong = sum((margin_radius(table, sigma=1, alpha=0.1, method=method) or 0.0) > far for table in tables)
    assert wrong <= binom.isf(NEVER, 1000, 0.1)


def test_the_whole_law_certifies_much_further_than_its_mean() -> None:
    # Beta scores of mean .969 and deviation .03: what the published mean bounds of CLIP at sigma = .25 imply.
    encoder = encoders.beta_law(0.969, 0.03, 4096)
    scores = encoder.scores(np.random.default_rng(12), 10000)
    plug_in = mean_mixture(encoder.mean()).reach(0.75)
    radius = {
        method: feature_radius(scores, cosine_floor=0.5, sigma=1, alpha=0.001, method=method) for method in METHODS
    }
    assert plug_in == pytest.approx(1.19, abs=0.01)
    assert radius["mean"] == pytest.approx(1.18, abs=0.02)
    assert radius["cdf"] == pytest.approx(2.07, abs=0.04)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(lower=st.floats(0.5, 1 - 1e-9), floor=st.floats(0.0, 0.99), sigma=st.floats(1e-3, 1e3))
def test_the_radius_is_where_the_cosine_passes_its_floor(lower: float, floor: float, sigma: float) -> None:
    shift = mean_mixture(lower)
    radius = feature_radius_of(shift, floor, sigma)
    if radius is None:
        assert (FeatureBound.at(shift, 1e-6).cosine or 0.0) <= floor + 1e-6
    else:
        assert (FeatureBound.at(shift, radius / sigma).cosine or -1.0) > floor
        assert (FeatureBound.at(shift, radius / sigma * (1 + 1e-8) + 1e-6).cosine or 0.0) <= floor


@settings(derandomize=True, max_examples=60, deadline=None)
@given(lower=st.floats(0.0, 1.0), t=st.floats(0.0, 9.0))
def test_a_cosine_is_stated_only_where_the_inner_product_is_positive(lower: float, t: float) -> None:
    bound = FeatureBound.at(mean_mixture(lower), t)
    assert -1.0 <= bound.inner_product <= 2 * ndtr(ndtri(lower) - t) - 1
    assert bound.cosine == (bound.inner_product if bound.inner_product > 0 else None)


def test_radii_scale_with_sigma_and_samples_are_draws() -> None:
    scores = encoders.ENCODERS["concentrated"].scores(np.random.default_rng(5), 500)
    sample, unit = ScoreSample.of(scores), feature_radius(scores, cosine_floor=0.5, sigma=1, alpha=0.01)
    assert unit is not None
    assert feature_radius(sample, cosine_floor=0.5, sigma=0.25, alpha=0.01) == unit / 4
    assert feature_radius_of(curve_shift(scores, 0.01), 0.5, 1) == unit
    assert margin_radius([sample, sample], sigma=1, alpha=0.02) == margin_radius(
        np.stack([scores] * 2), sigma=1, alpha=0.02
    )
    assert margin_radius([sample, sample], sigma=1, alpha=0.02) == curve_shift(scores, 0.01).reach(0.5)
    assert margin_radius([sample], sigma=1, alpha=0.01) == curve_shift(scores, 0.01).reach(0.5)
    assert margin_radius([sample], sigma=1, alpha=0.01, method="mean") == mean_shift(scores, 0.01).reach(0.5)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_certified_is_none(method: ShiftMethod) -> None:
    good, poor = [0.9] * 500, [0.5] * 500
    assert feature_radius(poor, cosine_floor=0.0, sigma=1, alpha=0.01, method=method) is None
    assert feature_radius(good, cosine_floor=0.9, sigma=1, alpha=0.01, method=method) is None
    assert margin_radius([good, poor], sigma=1, alpha=0.01, method=method) is None
    assert feature_bound(good, epsilon=1e300, sigma=1e-300, alpha=0.01, method=method) == FeatureBound(-1.0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": -0.1}, "epsilon=-0.1 must be at least 0"),
        ({"epsilon": math.nan}, "epsilon=nan must be a finite"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0"),
        ({"alpha": 1.0}, "alpha=1.0 must lie strictly"),
        ({"method": "median"}, "method='median' must be one of cdf, mean"),
        ({"scores": [1.5]}, r"scores\[0\]=1.5 must lie in \[0, 1\]"),
        ({"scores": []}, "must hold at least one number"),
    ],
)
def test_a_bound_of_parameters_that_make_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"scores": [0.9], "epsilon": 0.1, "sigma": 0.25, "alpha": 0.01} | change
    with pytest.raises(ValueError, match=message):
        feature_bound(arguments.pop("scores"), **arguments)


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_a_cosine_floor_outside_its_range_is_refused(floor: float) -> None:
    with pytest.raises(ValueError, match=r"cosine_floor=.* must"):
        feature_radius([0.9], cosine_floor=floor, sigma=1, alpha=0.01)


@pytest.mark.parametrize("rivals", [[], [0.5, 0.6], [[]], [[[0.5]]], np.zeros((0, 5))])
def test_margins_without_a_table_of_rivals_and_draws_are_refused(rivals: Any) -> None:
    with pytest.raises(ValueError, match=r"must (hold at least one|be \(rivals, draws\))"):
        margin_radius(rivals, sigma=1, alpha=0.01)
