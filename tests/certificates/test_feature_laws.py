"""The served answer about features: no shift refutes it at exact laws, and it obeys its laws whatever was drawn."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates import FeatureAnswer, FeatureCounts, FeatureQuestion, feature_answer, sample_of_levels
from tests.certificates.half_spaces import (
    ALL,
    ANY_TIME,
    World,
    around,
    holds,
    question,
    random_world,
    tight_world,
)

PLENTY = 100_000
KINDS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "any time": {"statements": ANY_TIME, "fixed": False},
    "linear head": {"prototypes": False},
    "no head": {"statements": ALL[:2], "label": None, "prototypes": False, "rivals": 0},
    "kl": {"mean_bound": "kl"},
    "hoeffding": {"mean_bound": "hoeffding"},
    "empirical Bernstein": {"mean_bound": "empirical_bernstein"},
}


def expected(world: World, draws: int = PLENTY) -> FeatureCounts:
    """What very many draws would show: each quadrant as often as it is expected."""
    return world.counts_of(np.repeat(np.arange(4), np.rint(draws * world.chances(np.zeros(2))).astype(int)))


def fitting(asked: FeatureQuestion, counts: FeatureCounts) -> tuple[FeatureQuestion, FeatureCounts]:
    """The evidence that this question takes, and no other; the number of draws is what was planned."""
    asked = replace(asked, horizon=counts.reference.size)
    if asked.label is None:
        return asked, FeatureCounts(counts.reference)
    plain = counts if asked.prototypes else replace(counts, cosines=None, distances=None)
    return asked, plain if "clipped_cdf" in asked.statements else replace(plain, clipped=())


def radii(found: FeatureAnswer) -> list[float | None]:
    return [*(row.radius for row in found.radii), *(row.radius for row in found.prediction)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_shift_refutes_any_number_at_the_exact_law(kind: str) -> None:
    rng, certified = np.random.default_rng(21), 0
    for _ in range(12):
        world = random_world(rng)
        changes = {"label": world.label, **KINDS[kind]}
        found = feature_answer(*fitting(question(**changes), expected(world)))
        assert holds(world, found)
        certified += sum(radius is not None for radius in radii(found))
    assert certified >= 12


@pytest.mark.parametrize("kind", ["fixed", "any time"])
def test_a_half_space_is_given_all_that_it_has(kind: str) -> None:
    world = tight_world()
    found = feature_answer(*fitting(question(label=world.label, **KINDS[kind]), expected(world)))
    assert holds(world, found)
    for row in found.bounds:
        assert row.inner_product == pytest.approx(
            np.min(world.smoothed(around(row.epsilon)) @ world.reference), abs=0.04
        )


def leaning(found: FeatureAnswer) -> list[float]:
    """Every number of an answer, larger where more is claimed."""
    bounds = [row.inner_product for row in found.bounds]
    return [*bounds, *(radius or 0.0 for radius in radii(found))]


def at_most(some: list[float], others: list[float]) -> bool:
    return all(one <= other + 1e-9 * max(1.0, abs(other)) for one, other in zip(some, others, strict=True))


@st.composite
def drawn(draw: st.DrawFn) -> tuple[FeatureQuestion, FeatureCounts]:
    """A world's question of any kind, and a few hundred draws."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    world = random_world(rng)
    changes = KINDS[draw(st.sampled_from(list(KINDS)))]
    asked = question(**{"label": world.label, "alpha": draw(st.sampled_from([1e-3, 0.05, 0.3])), **changes})
    return fitting(asked, world.counts(rng, draw(st.sampled_from([60, 400]))))


Drawn = tuple[FeatureQuestion, FeatureCounts]
law = settings(derandomize=True, max_examples=40, deadline=None)


@law
@given(given=drawn(), factor=st.floats(0.01, 0.9))
def test_less_risk_claims_less(given: Drawn, factor: float) -> None:
    asked, counts = given
    careful = feature_answer(replace(asked, alpha=asked.alpha * factor), counts)
    assert at_most(leaning(careful), leaning(feature_answer(asked, counts)))


@law
@given(given=drawn(), nearer=st.floats(0.0, 2.0), further=st.floats(0.0, 2.0))
def test_a_further_shift_keeps_no_more_and_a_higher_floor_is_held_no_further(
    given: Drawn, nearer: float, further: float
) -> None:
    asked, counts = given
    shifts, floors = (nearer, nearer + further), (0.2, 0.2 + further / 4)
    found = feature_answer(replace(asked, epsilons=shifts, cosine_floors=floors), counts)
    for method in {row.method for row in found.bounds}:
        near, far = (row for row in found.bounds if row.method == method)
        low, high = (row for row in found.radii if row.method == method)
        assert -1.0 <= far.inner_product <= near.inner_product <= 1.0
        assert (high.radius or 0.0) <= (low.radius or 0.0)


@law
@given(given=drawn())
def test_a_radius_is_where_the_cosine_passes_its_floor(given: Drawn) -> None:
    asked, counts = given
    for row in feature_answer(asked, counts).radii:
        if row.radius is not None:
            shifts = (row.radius, row.radius * (1 + 1e-7) + 1e-6)
            rows = feature_answer(replace(asked, epsilons=shifts), counts).bounds
            inside, outside = (one for one in rows if one.method == row.method)
            assert inside.inner_product >= row.cosine_floor
            assert outside.inner_product <= row.cosine_floor


@law
@given(given=drawn(), data=st.data())
def test_a_higher_score_never_claims_less(given: Drawn, data: st.DataObject) -> None:
    asked, counts = given
    levels = np.rint(counts.reference.values * 4096).astype(int).tolist()
    tally = dict(zip(levels, counts.reference.counts.tolist(), strict=True))
    raised = data.draw(st.sampled_from([level for level in levels if level < 4096] or [None]))
    if raised is None:
        return
    step = data.draw(st.integers(1, 4096 - raised))
    tally[raised] -= 1
    tally[raised + step] = tally.get(raised + step, 0) + 1
    kept = sorted(level for level, count in tally.items() if count)
    better = replace(counts, reference=sample_of_levels(kept, [tally[level] for level in kept]))
    here, there = feature_answer(asked, counts), feature_answer(asked, better)
    if asked.mean_bound != "empirical_bernstein":  # a wider spread costs it more than a score can bring
        assert at_most(leaning(here), leaning(there))
    curves = [[row.inner_product for row in one.bounds if row.method == "cdf"] for one in (here, there)]
    assert at_most(*curves)


@law
@given(given=drawn())
def test_the_cap_is_never_below_the_published_condition_and_more_votes_never_reach_less_far(given: Drawn) -> None:
    asked, counts = given
    reached = {row.method: row.radius or 0.0 for row in feature_answer(asked, counts).prediction}
    assert reached.get("cap", 0.0) >= reached.get("prototype_condition", 0.0)
    if counts.votes:
        fewer = feature_answer(asked, replace(counts, votes=counts.votes - 1)).prediction
        assert all((row.radius or 0.0) <= reached[row.method] for row in fewer)
