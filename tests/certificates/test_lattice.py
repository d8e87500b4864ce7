"""What the rounding to the lattice costs a certificate, and that it is enough."""

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from holdfast.certificates import FeatureCounts, answer, feature_answer, resize_norm, verify
from holdfast.certificates.noise.lattice import REACH, STEP, certified_radius, rounded_distance, rounding_shift
from tests.certificates import feature_issued, issued
from tests.certificates.asking import asked, counted
from tests.certificates.half_spaces import question, sample

SIZES = [1, 192, 3 * 64 * 64, 3 * 384 * 384]


@pytest.mark.parametrize("dimensions", SIZES)
def test_the_shift_is_just_above_a_step_in_every_dimension(dimensions: int) -> None:
    exact = Fraction(STEP) ** 2 * dimensions
    assert exact < Fraction(rounding_shift(dimensions)) ** 2 < exact * Fraction(10001, 10000)


def test_it_is_a_four_hundredth_at_the_usual_size() -> None:
    assert round(rounding_shift(3 * 384 * 384), 4) == 0.0025


@pytest.mark.parametrize("dimensions", SIZES[:3])
def test_rounding_can_take_two_images_apart_by_all_of_it_and_no_more(dimensions: int) -> None:
    half = STEP / 2
    below, above = (np.full(dimensions, 0.25 + half * side) for side in (-1 + 2**-20, 1))
    rounded = [np.floor(image / STEP + 0.5) * STEP for image in (below, above)]
    moved, before = (np.linalg.norm(b - a) for a, b in ((rounded[0], rounded[1]), (below, above)))
    assert moved > 0.99 * math.sqrt(dimensions) * STEP
    assert moved <= rounded_distance(float(before), dimensions=dimensions)


def test_a_radius_and_its_distance_are_each_others_inverse_but_for_rounding() -> None:
    for dimensions in (0, *SIZES):
        for epsilon in (1e-300, STEP, 0.25, 7.5):
            on_lattice = rounded_distance(epsilon, dimensions=dimensions)
            back = certified_radius(on_lattice, dimensions=dimensions)
            assert back is not None
            assert epsilon - 1e-15 <= back <= epsilon + 1e-15


def test_both_round_toward_caution() -> None:
    for dimensions in SIZES:
        shift = Fraction(rounding_shift(dimensions))
        for value in np.random.default_rng(0).uniform(0.1, 10, 100).tolist():
            radius = certified_radius(value, dimensions=dimensions)
            assert radius is not None
            assert Fraction(radius) <= Fraction(value) - shift
            assert Fraction(rounded_distance(value, dimensions=dimensions)) >= Fraction(value) + shift


def test_an_image_that_is_not_shifted_pays_nothing() -> None:
    assert rounded_distance(0.0, dimensions=3072) == 0.0
    assert certified_radius(1e-9, dimensions=3072) == 0.0
    assert certified_radius(0.0, dimensions=3072) == 0.0


def test_what_is_not_certified_stays_so_and_an_infinite_radius_infinite() -> None:
    assert certified_radius(None, dimensions=3072) is None
    assert certified_radius(math.inf, dimensions=3072) == math.inf


def test_no_dimensions_cost_nothing() -> None:
    assert (rounding_shift(0), certified_radius(0.5, dimensions=0), rounded_distance(0.5, dimensions=0)) == (
        0,
        0.5,
        0.5,
    )


def test_float32_has_every_point_within_reach() -> None:
    points = np.array([REACH, REACH - STEP, -REACH + STEP, 0.25 + STEP])
    np.testing.assert_array_equal(points.astype(np.float32).astype(np.float64), points)


def test_values_outside_their_range_are_refused() -> None:
    for wrong in (-1, 2.5, True):
        with pytest.raises(ValueError, match="dimensions="):
            rounding_shift(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="radius="):
        certified_radius(-0.1, dimensions=3)
    with pytest.raises(ValueError, match="epsilon="):
        rounded_distance(math.nan, dimensions=3)


DIMENSIONS = 3 * 384 * 384
GUARD = asked(strata=0, slots=0, text="none", max_tokens=0, epsilons=(0.0, 0.25, 0.5), sigma=0.5, tau=0.05)
VOTES = counted((500, 480))
ENCODER = question(epsilons=(0.0, 0.05, 0.1), sigma=0.25, cosine_floors=(0.0,))


def encoder_counts() -> FeatureCounts:
    scores = sample(np.linspace(0.95, 1.0, 400))
    margins = sample(np.linspace(0.6, 0.9, 400))
    return FeatureCounts(scores, (margins,) * 2, (margins,) * 2, 395, (0.99, 0.6, 0.0), (0.0, 0.9, 1.3))


def test_a_guards_radii_pay_for_the_lattice_and_its_rows_are_those_of_as_much_farther_attacks() -> None:
    free, paid = answer(GUARD, VOTES), answer(replace(GUARD, dimensions=DIMENSIONS), VOTES)
    assert free.frontier[0].radius is not None
    assert paid.frontier[0].radius == certified_radius(free.frontier[0].radius, dimensions=DIMENSIONS)
    farther = tuple(rounded_distance(epsilon, dimensions=DIMENSIONS) for epsilon in GUARD.epsilons)
    expected = answer(replace(GUARD, epsilons=farther), VOTES)
    assert [(row.at_least, row.at_most) for row in paid.worst_case] == [
        (row.at_least, row.at_most) for row in expected.worst_case
    ]
    assert paid.worst_case[0] == free.worst_case[0]
    assert paid.worst_case[1].at_least < free.worst_case[1].at_least


def test_a_guards_target_is_held_against_the_attack_on_the_lattice() -> None:
    reach = answer(GUARD, VOTES).frontier[0].radius
    assert reach is not None
    for epsilon, certified in ((reach - 0.003, True), (reach - 0.002, False)):
        found = answer(replace(GUARD, dimensions=DIMENSIONS, target=(0, epsilon)), VOTES)
        assert (found.target == "unsafe") is certified


def test_a_guard_that_reaches_less_than_the_lattice_costs_is_certified_where_nothing_is_shifted() -> None:
    near = replace(GUARD, tau=answer(GUARD, VOTES).scores[0].lower - 0.001)
    free = answer(near, VOTES)
    assert free.frontier[0].radius is not None
    assert 0 < free.frontier[0].radius < rounding_shift(10**10)
    paid = answer(replace(near, dimensions=10**10), VOTES)
    assert (paid.verdict, paid.frontier[0].radius, paid.frontier[0].native_radius) == ("unsafe", 0.0, 0.0)


def test_an_encoders_radii_pay_for_the_lattice_and_its_rows_are_those_of_as_much_farther_attacks() -> None:
    counts = encoder_counts()
    free, paid = feature_answer(ENCODER, counts), feature_answer(replace(ENCODER, dimensions=DIMENSIONS), counts)
    for ours, theirs in ((paid.radii, free.radii), (paid.prediction, free.prediction)):
        assert [row.radius for row in ours] == [
            certified_radius(row.radius, dimensions=DIMENSIONS) or None for row in theirs
        ]
        assert any(row.radius for row in ours)
    farther = tuple(rounded_distance(epsilon, dimensions=DIMENSIONS) for epsilon in ENCODER.epsilons)
    expected = feature_answer(replace(ENCODER, epsilons=farther), counts)
    assert [row.inner_product for row in paid.bounds] == [row.inner_product for row in expected.bounds]
    assert paid.bounds[0] == free.bounds[0]
    assert paid.bounds[-1].inner_product < free.bounds[-1].inner_product


@pytest.mark.parametrize(
    ("module", "kind", "field"), [(issued, "suffix", "frontier"), (feature_issued, "feature", "radii")]
)
def test_a_certificate_that_pays_for_a_smaller_space_than_it_names_is_not_verified(
    module: Any, kind: str, field: str
) -> None:
    certificate = dict(module.issued(kind))
    assert all(check.ok for check in verify(certificate))
    space = certificate["space"]
    own, size = (space["input_height"], space["input_width"]), (16 * space["height"], space["width"])
    larger = {"height": size[0], "native_operator_norm": resize_norm(own, size)}
    certificate |= {"space": {**space, **larger}, "signature": None}
    assert field in {check.field for check in verify(certificate) if not check.ok}
