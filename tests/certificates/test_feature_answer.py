"""The answer as a whole: every number of it holds at one alpha, and is the public function's at its share of alpha."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from holdfast.certificates import (
    FeatureCounts,
    FeatureQuestion,
    any_time_lower,
    clopper_pearson_lower,
    feature_answer,
    feature_bound,
    feature_radius,
    margin_radius,
    sample_of_levels,
)
from holdfast.certificates.features.answer import PredictionRow, RadiusRow, feature_progress
from holdfast.certificates.features.prototypes import cap_reach, prototype_condition_reach
from holdfast.certificates.noise.space import native_radius
from holdfast.certificates.shifts.mixtures import mean_mixture
from holdfast.certificates.shifts.scores import mean_shift
from tests.certificates.half_spaces import ALL, ANY_TIME, around, holds, question, random_world, tight_world
from tests.certificates.shifted import curve_shift

Drawn = tuple[FeatureQuestion, FeatureCounts]

RUNS = 100
RISK = 0.3
MOST = binom.isf(1e-6, RUNS, RISK)  # an answer that holds with probability 1 - RISK exceeds it once in a million
WORLDS = {"tight": lambda _: tight_world(), "random": random_world}


@pytest.fixture(scope="module")
def evidence() -> Drawn:
    """A world, its question and 400 draws."""
    rng = np.random.default_rng(10)
    world = random_world(rng)
    return question(label=world.label), world.counts(rng, 400)


@pytest.mark.parametrize("kind", WORLDS)
def test_all_numbers_of_an_answer_hold_together_but_for_its_risk(kind: str) -> None:
    rng, failures = np.random.default_rng(11), 0
    for _ in range(RUNS):
        world = WORLDS[kind](rng)
        asked = question(label=world.label, alpha=RISK)
        failures += not holds(world, feature_answer(asked, world.counts(rng, 400)))
    assert 0 < failures <= MOST


@pytest.mark.parametrize("kind", WORLDS)
def test_at_any_time_they_hold_at_every_look_together(kind: str) -> None:
    rng, failures = np.random.default_rng(12), 0
    for _ in range(RUNS):
        world = WORLDS[kind](rng)
        asked = question(label=world.label, alpha=RISK, statements=ANY_TIME, fixed=False)
        quadrants = rng.choice(4, size=400, p=world.chances(np.zeros(2)))
        looks = [feature_answer(asked, world.counts_of(quadrants[:n])) for n in (10, 40, 160, 400)]
        failures += not all(holds(world, found) for found in looks)
    assert failures <= MOST


@pytest.mark.parametrize("kind", WORLDS)
def test_a_fresh_average_keeps_its_similarity_but_for_both_risks(kind: str) -> None:
    rng, draws, failures = np.random.default_rng(13), 8, 0
    for _ in range(RUNS):
        world = WORLDS[kind](rng)
        asked = question(statements=("feature_cdf",), alpha=0.03, epsilons=(0.5,), embedding=(draws, RISK - 0.03))
        (row,) = feature_answer(replace(asked, label=None), world.counts(rng, 400)).similarity
        shifts = around(row.epsilon)
        worst = shifts[np.argmin(world.smoothed(shifts) @ world.reference)]
        average = world.features[rng.choice(4, size=draws, p=world.chances(worst))].mean(axis=0)
        failures += average @ world.reference < row.inner_product
    assert 0 < failures <= MOST


def test_every_bound_on_the_feature_is_the_public_ones_at_a_sixth_of_alpha(evidence: Drawn) -> None:
    asked, counts = evidence
    found = feature_answer(asked, counts)
    for row in found.bounds:
        exact = feature_bound(counts.reference, epsilon=row.epsilon, sigma=1.0, alpha=0.01 / 6, method=row.method)
        assert exact.inner_product - 2**-36 <= row.inner_product <= exact.inner_product
        assert row.cosine == (row.inner_product if exact.cosine else None)
    for held in found.radii:
        asks: dict[str, Any] = {"cosine_floor": held.cosine_floor, "sigma": 1.0, "alpha": 0.01 / 6}
        assert held.radius == feature_radius(counts.reference, method=held.method, **asks)


def test_every_margin_is_the_public_radius_at_its_share(evidence: Drawn) -> None:
    asked, counts = evidence
    found = {row.method: row.radius for row in feature_answer(asked, counts).prediction}
    share: dict[str, Any] = {"sigma": 1.0, "alpha": 0.01 / 6}
    assert found["margin_mean"] == margin_radius(counts.margins, method="mean", **share)
    assert found["margin_cdf"] == margin_radius(counts.margins, method="cdf", **share)
    assert found["clipped_cdf"] == margin_radius(counts.clipped, method="cdf", **share)


def test_the_vote_is_bounded_for_the_way_the_draws_were_stopped(evidence: Drawn) -> None:
    asked, counts = evidence
    for fixed, lower in ((True, clopper_pearson_lower), (False, any_time_lower)):
        asked = replace(asked, statements=("vote",), prototypes=False, fixed=fixed)
        (row,) = feature_answer(asked, counts).prediction
        assert row.radius == mean_mixture(lower(counts.votes or 0, 400, asked.alpha)).reach(0.5)


def test_the_condition_and_the_cap_take_the_better_shift_at_no_share_of_their_own(evidence: Drawn) -> None:
    asked, counts = evidence
    found = {row.method: row.radius for row in feature_answer(asked, counts).prediction}
    shifts = [shift(counts.reference, 0.01 / 6) for shift in (mean_shift, curve_shift)]
    assert counts.cosines is not None
    assert counts.distances is not None
    assert asked.label is not None
    reaches = [prototype_condition_reach(shift, counts.cosines, asked.label) or 0.0 for shift in shifts]
    assert found["prototype_condition"] == max(reaches)
    reaches = [cap_reach(shift, counts.cosines, counts.distances, asked.label) or 0.0 for shift in shifts]
    assert found["cap"] == max(reaches) >= found["prototype_condition"]


def test_rows_come_in_the_order_of_the_contract(evidence: Drawn) -> None:
    found = feature_answer(*evidence)
    both = ("mean", "cdf")
    assert [(row.epsilon, row.method) for row in found.bounds] == [(e, m) for e in (0.0, 0.25, 0.5) for m in both]
    assert [(row.cosine_floor, row.method) for row in found.radii] == [(f, m) for f in (0.0, 0.5) for m in both]
    assert tuple(row.method for row in found.prediction) == ("prototype_condition", "cap", *ALL[2:])
    assert (found.similarity, found.target) == ((), None)


def test_at_any_time_only_means_and_votes_are_stated_and_a_linear_head_has_no_cap(evidence: Drawn) -> None:
    asked, counts = evidence
    found = feature_answer(replace(asked, statements=ANY_TIME, fixed=False, prototypes=False), counts)
    assert {row.method for row in found.bounds} == {row.method for row in found.radii} == {"mean"}
    assert [row.method for row in found.prediction] == ["margin_mean", "vote"]


def test_a_target_is_certified_as_far_as_its_rows_reach(evidence: Drawn) -> None:
    asked, counts = evidence
    asked = replace(asked, statements=ANY_TIME, fixed=False)
    found = feature_answer(asked, counts)
    radius, reach = found.radii[1].radius or 0.0, max(row.radius or 0.0 for row in found.prediction)
    for target, certified in (
        ((radius * 0.999, 0.5), True), ((radius * 1.001, 0.5), False),
        ((reach, None), True), ((reach * 1.000001, None), False),
    ):  # fmt: skip
        assert feature_answer(replace(asked, target=target), counts).target is certified


def test_radii_scale_with_sigma_and_native_ones_with_the_resize(evidence: Drawn) -> None:
    asked, counts = evidence
    unit = feature_answer(asked, counts)
    scaled = feature_answer(replace(asked, sigma=0.25, operator_norm=2.5), counts)
    rows: list[tuple[RadiusRow | PredictionRow, RadiusRow | PredictionRow]] = [
        *zip(unit.radii, scaled.radii, strict=True), *zip(unit.prediction, scaled.prediction, strict=True)
    ]  # fmt: skip
    for one, other in rows:
        assert one.radius is not None
        assert other.radius == 0.25 * one.radius
        assert other.native_radius == native_radius(other.radius, 2.5)


def test_a_radius_too_small_for_a_float_is_not_certified(evidence: Drawn) -> None:
    asked, counts = evidence
    reached = feature_answer(replace(asked, cosine_floors=(0.8,)), counts).radii[1].radius
    found = feature_answer(replace(asked, sigma=5e-324, epsilons=(1.0,), cosine_floors=(0.8,)), counts)
    assert 0 < (reached or 0.0) < 0.5
    assert found.radii[1].radius is found.radii[1].native_radius is None
    assert found.bounds[0].inner_product == -1.0


def test_a_label_that_loses_is_not_certified_by_any_method(evidence: Drawn) -> None:
    asked, counts = evidence
    losing = replace(counts, margins=(*counts.margins[:1], sample_of_levels([100, 2048], [399, 1])), votes=3)
    losing = replace(losing, clipped=losing.margins, cosines=(0.1, 0.9, 0.0))
    assert [row.radius for row in feature_answer(replace(asked, label=0), losing).prediction] == [None] * 6


def test_progress_is_the_first_floors_radius_by_the_mean_or_else_the_votes(evidence: Drawn) -> None:
    asked, counts = evidence
    found = feature_answer(asked, counts)
    assert feature_progress(asked, counts) == found.radii[0].radius
    assert feature_progress(replace(asked, cosine_floors=()), counts) == found.prediction[-1].radius
    assert feature_progress(replace(asked, statements=("feature_cdf",)), counts) is None


def test_a_level_counts_a_score_rounded_down() -> None:
    found = sample_of_levels([0, 1, 4095, 4096], [1, 2, 3, 4])
    assert found.values.tolist() == [0.0, 2**-12, 1 - 2**-12, 1.0]
    assert found.size == 10
    for levels, counts in (([1, 1], [1, 1]), ([4097], [1]), ([-1], [1]), ([1], [0]), ([], []), ([1], [1, 2])):
        with pytest.raises(ValueError, match="must"):
            sample_of_levels(levels, counts)


FEW = FeatureCounts(sample_of_levels([4000], [10]))
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no statement": ({"statements": ()}, {}, "statements=()"),
    "a statement twice": ({"statements": ("vote", "vote")}, {}, "once each"),
    "an unknown statement": ({"statements": ("feature_median",)}, {}, "feature_median"),
    "fewer draws than were fixed": ({"horizon": 401}, {}, "400 draws must be the horizon=401"),
    "a curve at any time": ({"fixed": False}, {}, "any number of draws"),
    "a fixed bound at any time": (
        {"fixed": False, "statements": ANY_TIME, "mean_bound": "kl"}, {}, "mean_bound=kl with feature_mean"),
    "margins of no label": ({"label": None}, {}, "label=None"),
    "a rival left out": ({"rivals": 3}, {}, "margins of 2 rivals must be of all 3"),
    "no rival": ({"rivals": 0}, {"margins": (), "clipped": ()}, "at least 1"),
    "clipped margins left out": ({}, {"clipped": ()}, "clipped of 0 rivals"),
    "a draw left out": ({}, {"margins": (sample_of_levels([4000], [399]),) * 2}, "the reference's 400 draws"),
    "no votes": ({}, {"votes": None}, "votes=None"),
    "more votes than draws": ({}, {"votes": 401}, "successes=401"),
    "no cosines": ({}, {"cosines": None}, "two classes"),
    "a distance left out": ({}, {"distances": (0.0, 1.0)}, "distances holds 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_evidence_that_contradicts_the_question_is_refused(evidence: Drawn, name: str) -> None:
    asked, counts = evidence
    asks, has, words = REFUSED[name]
    with pytest.raises(ValueError, match="must") as refusal:
        feature_answer(replace(asked, **asks), replace(counts, **has))
    assert words in str(refusal.value)
