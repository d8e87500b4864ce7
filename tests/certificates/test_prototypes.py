import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

from holdfast.certificates import clopper_pearson_lower
from holdfast.certificates.features.prototypes import cap_reach, prototype_condition_reach, vote_reach
from holdfast.certificates.shifts.mixtures import mean_mixture
from holdfast.certificates.shifts.scores import mean_shift
from holdfast.certificates.shifts.shift import Shift
from tests.certificates import encoders
from tests.certificates.shifted import curve_shift

Floats = NDArray[np.float64]

NEVER = 1e-6
seeds = st.integers(0, 2**32 - 1)


def unit_vectors(rng: np.random.Generator, rows: int, size: int) -> Floats:
    vectors = rng.standard_normal((rows, size))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def scene(seed: int, classes: int = 4, size: int = 3, near: float = 1.0) -> tuple[Floats, Floats, Floats, Floats]:
    """A reference and prototypes, the label's drawn towards the reference; cosines and distances to the label's."""
    rng = np.random.default_rng(seed)
    vectors = unit_vectors(rng, classes + 1, size)
    reference, prototypes = vectors[0], vectors[1:]
    prototypes[0] += near * reference
    prototypes[0] /= np.linalg.norm(prototypes[0])
    return reference, prototypes, prototypes @ reference, np.linalg.norm(prototypes - prototypes[0], axis=1)


def flip_angle(reference: Floats, prototypes: Floats) -> float:
    """Exact angle from the reference to the nearest direction where a rival draws level with the label 0."""
    normals = prototypes[0] - prototypes[1:]
    sines = normals @ reference / np.linalg.norm(normals, axis=1)
    return float(np.min(np.arcsin(sines)))


def angle(shift: Shift, reach: float | None) -> float:
    assert reach is not None
    return math.acos(2.0 * shift.at(reach) - 1.0)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(seed=seeds, near=st.floats(0.0, 20.0), size=st.integers(2, 6), classes=st.integers(2, 5))
def test_no_reach_goes_beyond_the_nearest_change_of_label(seed: int, near: float, size: int, classes: int) -> None:
    reference, prototypes, cosines, distances = scene(seed, classes, size, near)
    shift, flip = mean_mixture(1 - 1e-9), flip_angle(reference, prototypes)
    for reach in (prototype_condition_reach(shift, cosines, 0), cap_reach(shift, cosines, distances, 0)):
        assert reach is None or angle(shift, reach) <= flip


@settings(derandomize=True, max_examples=300, deadline=None)
@given(seed=seeds, near=st.floats(0.0, 20.0), size=st.integers(2, 6), classes=st.integers(2, 5))
def test_the_cap_is_never_weaker_than_the_published_condition(seed: int, near: float, size: int, classes: int) -> None:
    _, _, cosines, distances = scene(seed, classes, size, near)
    for shift in (mean_mixture(0.97), mean_mixture(1 - 1e-9)):
        published, cap = prototype_condition_reach(shift, cosines, 0), cap_reach(shift, cosines, distances, 0)
        assert (cap or 0.0) >= (published or 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_cap_reaches_the_nearest_change_of_label_up_to_single_precision(seed: int) -> None:
    reference, prototypes, cosines, distances = scene(seed, near=5.0)
    shift = mean_mixture(1 - 1e-9)
    reached = angle(shift, cap_reach(shift, cosines, distances, 0))
    assert flip_angle(reference, prototypes) - 3e-5 <= reached <= flip_angle(reference, prototypes)


def test_the_cap_reaches_further_where_the_reference_is_off_the_plane_of_the_prototypes() -> None:
    # Cosines .75 and .5 to prototypes 60 degrees apart.
    shift, cosines, distances = mean_mixture(0.999), [0.75, 0.5], [0.0, 1.0]
    half, cap = (math.acos(0.5) - math.acos(0.75)) / 2, math.asin(0.25)
    expected = [ndtri(0.999) - ndtri((1 + math.cos(angle)) / 2) for angle in (half, cap)]
    reaches = [prototype_condition_reach(shift, cosines, 0) or 0.0, cap_reach(shift, cosines, distances, 0) or 0.0]
    assert reaches == pytest.approx(expected, abs=1e-3)
    assert reaches[1] > 1.4 * reaches[0]


def test_the_published_lemma_is_false_without_its_clips() -> None:
    # u.v >= gamma allows v = p, whose product with p is 1; [F] A.3.1 gives .83 as the most.
    a, gamma = 0.9, 0.5
    reference, prototype = np.array([1.0, 0.0]), np.array([a, math.sqrt(1 - a**2)])
    assert reference @ prototype >= gamma
    assert prototype @ prototype > gamma * a + math.sqrt(1 - gamma**2) * math.sqrt(1 - a**2) + 0.15


@settings(derandomize=True, max_examples=300, deadline=None)
@given(seed=seeds, size=st.integers(2, 5), spread=st.floats(0.0, 3.0))
def test_the_clipped_interval_holds_every_direction_of_the_cap(seed: int, size: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    reference, prototype, away = unit_vectors(rng, 3, size)
    direction = reference + spread * away
    direction /= np.linalg.norm(direction)
    from_prototype, cap = np.arccos(np.clip([reference @ prototype, reference @ direction], -1, 1))
    low, high = math.cos(min(math.pi, from_prototype + cap)), math.cos(max(0.0, from_prototype - cap))
    assert low - 1e-7 <= direction @ prototype <= high + 1e-7


@pytest.mark.parametrize("shift", [curve_shift, mean_shift])
@pytest.mark.parametrize("name", ["rare_misses", "concentrated"])
def test_a_prediction_changes_within_its_reach_with_at_most_its_risk(shift: Callable[..., Shift], name: str) -> None:
    # 1,000 samples fail at most as often as Binomial(1000, 0.1). The rival lies where the attack drives the feature.
    encoder, rng = encoders.ENCODERS[name], np.random.default_rng(4)
    prototypes = np.array([[1.0, 0.0], [math.cos(1.1), math.sin(1.1)]])
    distances = np.linalg.norm(prototypes - prototypes[0], axis=1)
    margins = ((t, np.subtract(*(prototypes @ encoder.feature(t)))) for t in np.arange(0, 9, 1e-3))
    far = next(t for t, margin in margins if margin <= 0)
    proved = (shift(encoder.scores(rng, 100), 0.1) for _ in range(1000))
    wrong = sum((cap_reach(one, prototypes[:, 0], distances, 0) or 0.0) > far for one in proved)
    assert wrong <= binom.isf(NEVER, 1000, 0.1)


def test_rounded_cosines_and_distances_reach_no_further_than_exact_ones() -> None:
    shift = mean_mixture(1 - 1e-9)
    for seed in range(200):
        reference, prototypes, cosines, distances = scene(seed, near=9.0)
        stated = cosines.astype(np.float32) + np.float32(1e-6) * np.where(np.arange(4), -1, 1)
        for reach in (
            prototype_condition_reach(shift, stated, 0),
            cap_reach(shift, stated, distances.astype(np.float32), 0),
        ):
            assert reach is None or angle(shift, reach) <= flip_angle(reference, prototypes)


@pytest.mark.parametrize(
    ("cosines", "distances"), [([0.5, 0.5], [0, 1.0]), ([0.2, 0.9], [0, 1.0]), ([0.5, 0.5], [0, 0])]
)
def test_a_label_that_is_not_ahead_is_not_certified(cosines: list[float], distances: list[float]) -> None:
    shift = mean_mixture(0.99)
    assert prototype_condition_reach(shift, cosines, 0) is None
    assert cap_reach(shift, cosines, distances, 0) is None


def test_a_feature_far_from_its_reference_certifies_no_label() -> None:
    assert cap_reach(mean_mixture(0.6), [0.8, 0.7], [0.0, 0.5], 0) is None
    assert (cap_reach(mean_mixture(0.6), [1.0, -1.0], [0.0, 2.0], 0) or 0.0) > 0.2


def test_a_vote_reaches_as_far_as_half_of_it_is_left() -> None:
    lower = mp.mpf(clopper_pearson_lower(990, 1000, 0.001))
    exact = mp.sqrt(2) * mp.erfinv(2 * lower - 1)
    fixed = vote_reach(990, 1000, 0.001, "clopper_pearson") or 0.0
    assert exact * (1 - mp.mpf("1e-8")) <= fixed <= exact
    assert 0.0 < (vote_reach(990, 1000, 0.001) or 0.0) < fixed
    assert vote_reach(500, 1000, 0.001) is None
    assert vote_reach(0, 1, 0.1) is None


@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
def test_a_vote_reaches_too_far_with_at_most_its_risk(p: float) -> None:
    far = ndtri(p)
    wrong = [k for k in range(101) if (vote_reach(k, 100, 0.1, "clopper_pearson") or 0.0) > far]
    assert np.sum(binom.pmf(wrong, 100, p)) <= 0.1


@pytest.mark.parametrize(
    ("cosines", "distances", "label", "message"),
    [
        ([0.5], [0.0], 0, "at least two classes"),
        ([0.5, 1.1], [0, 1], 0, r"cosines\[1\]=1.1 must lie in \[-1, 1\]; use unit vectors"),
        ([0.5, math.nan], [0, 1], 0, r"cosines\[1\]=nan must lie"),
        ([0.5, 0.4], [0, -1], 0, r"distances\[1\]=-1.0 must lie in \[0, 2\]"),
        ([0.5, 0.4], [0, 1, 1], 0, "distances holds 3 and must hold 2"),
        ([0.5, 0.4], [0, 1], 2, "label=2 must be below the number of classes 2"),
        ([0.5, 0.4], [0, 1], -1, "label=-1 must be at least 0"),
        ([[0.5, 0.4]], [0, 1], 0, "must be one-dimensional"),
    ],
)
def test_geometry_that_makes_no_sense_is_refused(
    cosines: list[float], distances: list[float], label: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cap_reach(mean_mixture(0.9), cosines, distances, label)


def test_counts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="successes=6 must be at most draws=5"):
        vote_reach(6, 5, 0.1)
    with pytest.raises(ValueError, match="bound='guess' must be one of"):
        vote_reach(5, 5, 0.1, "guess")  # type: ignore[arg-type]
