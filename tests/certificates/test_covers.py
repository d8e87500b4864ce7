"""The l0 threat's public frontier; test_answer_* have its theorems."""

import math
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast.certificates import (
    AbsorbingKernel,
    UniformKernel,
    answer,
    any_time_lower,
    l0_frontier,
    neyman_pearson_radius,
)
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.bounds.means import kl_lower
from holdfast.certificates.guard.sides import Side
from holdfast.certificates.noise.kernels import mask_probability
from holdfast.certificates.shifts import covers
from holdfast.certificates.shifts.covers import cover_shifts
from holdfast.certificates.shifts.mixtures import Mixture, event_mixture
from holdfast.certificates.shifts.shift import Least, Shift
from tests.certificates.asking import asked, pooled

Pool = tuple[NDArray[np.bool_], NDArray[np.bool_]]
Pair = tuple[float, float]


def pool(seed: int, draws: int, positions: int, chance: float, rate: float = 0.6) -> Pool:
    rng = np.random.default_rng(seed)
    return rng.random((draws, positions)) < chance, rng.random(draws) < rate


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), rate=st.sampled_from([0.02, 0.5, 0.99]), alpha=st.floats(1e-4, 0.4),
    verdict=st.sampled_from(["unsafe", "safe"]),
)  # fmt: skip
def test_it_is_the_answers_own_frontier(seed: int, rate: float, alpha: float, verdict: Side) -> None:
    masks, unsafe = pool(seed, 120, 4, 0.8, rate)
    question = asked(beta=0.8, sigma=0.5, tau=0.4, alpha=alpha, text="l0", max_tokens=2, tails=1, sides=(verdict,))
    found = answer(question, pooled(masks, unsafe)).frontier
    asks: dict[str, Any] = {"sigma": 0.5, "tau": 0.4, "alpha": alpha, "max_tokens": 2}
    frontier = l0_frontier(masks, unsafe, kernel=AbsorbingKernel(0.8), verdict=verdict, **asks)
    assert frontier == [point.radius for point in found]


def test_a_mean_guard_is_certified_at_three_tokens_where_one_number_certifies_none() -> None:
    kernel = UniformKernel(0.25, 30000)
    masks = pool(1, 10_000, 20, mask_probability(kernel))[0]
    unsafe = np.arange(10_000) % 5 < 3
    frontier = l0_frontier(masks, unsafe, kernel=kernel, sigma=1.0, tau=4.6e-5, alpha=0.01, max_tokens=3)
    assert all(radius is not None and radius > 1.5 for radius in frontier)
    assert neyman_pearson_radius(0.6, tokens=0, kernel=kernel, sigma=1.0, tau=4.6e-5) is not None
    assert neyman_pearson_radius(0.6, tokens=1, kernel=kernel, sigma=1.0, tau=4.6e-5) is None


def test_a_budget_of_too_many_covers_is_certified_by_a_larger_one_of_few_or_not_at_all() -> None:
    masks, unsafe = pool(2, 3000, 6, 0.9, 1.0)
    asks: dict[str, Any] = {"sigma": 1.0, "tau": 0.2, "alpha": 0.01, "max_covers": 6}
    whole = l0_frontier(masks, unsafe, kernel=AbsorbingKernel(0.9), max_tokens=6, **asks)
    assert whole[2] == whole[3] == whole[4] == whole[5] is not None
    ranks = [radius or 0.0 for radius in whole]
    assert ranks[0] > ranks[1] > ranks[2] > 0.0
    some = l0_frontier(masks, unsafe, kernel=AbsorbingKernel(0.9), max_tokens=4, **asks)
    assert [radius is None for radius in some] == [False, False, True, True, True]


def covers_by_hand(masks: NDArray[np.bool_], hits: NDArray[np.bool_], chances: list[float], d: int) -> list[Pair]:
    """Probability of every set of d positions to be masked, and the any-time bound of its own draws."""
    sets = list(combinations(range(masks.shape[1]), d))
    share = 0.1 / (masks.shape[1] + 1) / len(sets)
    pairs = []
    for cover in sets:
        covered = masks[:, cover].all(axis=1)
        lower = any_time_lower(int(hits[covered].sum()), int(covered.sum()), share)
        pairs.append((math.prod(chances[k] for k in cover), lower))
    return pairs


def parts_of(shift: Shift) -> list[Pair]:
    """Of each part the weight, and how much of it is left where nothing is shifted."""
    assert isinstance(shift, Least)
    assert all(isinstance(part, Mixture) for part in shift.parts)
    return [(float(part.weights[0]), part.at(0.0)) for part in shift.parts if isinstance(part, Mixture)]


def front_by_hand(pairs: list[Pair]) -> list[Pair]:
    """The pairs of which no other one is at most as large in both, each once, by ascending probability."""
    distinct = sorted({(round(mass, 13), lower) for mass, lower in pairs})
    beaten = [any(a <= mass and b <= low and (a, b) != (mass, low) for a, b in distinct) for mass, low in distinct]
    return [pair for pair, lost in zip(distinct, beaten, strict=True) if not lost]


CHANCES = {
    "alike": [0.6] * 5,
    "unlike": [0.9, 0.35, 0.7, 0.5, 0.8],
    "two kinds": [0.5, 0.8, 0.5, 0.8, 0.8],
    "never masked": [0.6, 1e-12, 0.7, 0.5, 0.8],
    "last never masked": [0.6, 0.7, 0.9, 0.8, 1e-12],
    "only one": [0.7],
}


@pytest.mark.parametrize("draws", [20, 400])
@pytest.mark.parametrize("name", CHANCES)
def test_every_budget_is_that_of_its_covers_one_by_one(name: str, draws: int) -> None:
    rng, chances = np.random.default_rng(draws), CHANCES[name]
    masks = rng.random((draws, len(chances))) < chances
    hits = rng.random(draws) < 0.5 + 0.4 * masks[:, 0]
    shifts = cover_shifts(masks, hits, mask_probability=chances, alpha=0.1, max_tokens=len(chances))
    assert len(shifts) == len(chances) + 1
    for d, shift in enumerate(shifts):
        pairs = covers_by_hand(masks, hits, chances, d)
        front = front_by_hand(pairs)
        assert np.ravel(parts_of(shift)) == pytest.approx(np.ravel([(m, m * low) for m, low in front]), rel=1e-12)
        for t in (0.0, 0.5, 2.0):
            assert shift.at(t) == pytest.approx(min(event_mixture(*pair).at(t) for pair in pairs), rel=1e-12)


def scores_by_hand(masks: NDArray[np.bool_], hits: NDArray[np.bool_], cover: tuple[int, ...]) -> list[Fraction]:
    """Of every draw with a tail whose mask covers these positions: the share of hits among such tails."""
    covering = masks[:, :, list(cover)].all(axis=2)
    counts = zip((hits & covering).sum(axis=1).tolist(), covering.sum(axis=1).tolist(), strict=True)
    return [Fraction(hit, some) for hit, some in counts if some]


@pytest.mark.parametrize(("tails", "draws"), [(2, 30), (3, 300), (8, 12)])
@pytest.mark.parametrize("name", ["alike", "unlike", "never masked"])
def test_several_tails_of_a_draw_are_scored_by_those_that_a_cover_leaves(name: str, tails: int, draws: int) -> None:
    rng, chances = np.random.default_rng(tails), CHANCES[name]
    masks = rng.random((draws, tails, 5)) < chances
    hits = rng.random((draws, tails)) < 0.5 + 0.4 * masks[:, :, 0]
    shifts = cover_shifts(masks, hits, mask_probability=chances, alpha=0.1, max_tokens=5)
    for d, shift in enumerate(shifts):
        pairs = []
        for cover in combinations(range(5), d):
            scores = scores_by_hand(masks, hits, cover)
            lower = any_time_lower(float(sum(scores)), len(scores), 0.1 / 6 / math.comb(5, d))
            pairs.append((math.prod(chances[k] for k in cover), lower))
        for t in (0.0, 0.5, 2.0):
            assert shift.at(t) == pytest.approx(min(event_mixture(*pair).at(t) for pair in pairs), rel=1e-8, abs=1e-280)


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_an_axis_of_one_tail_changes_no_number(bound: Bound) -> None:
    masks, hits = pool(4, 200, 5, 0.7)
    asks: dict[str, Any] = {"mask_probability": 0.7, "alpha": 0.1, "max_tokens": 3, "bound": bound}
    flat, one = cover_shifts(masks, hits, **asks), cover_shifts(masks[:, None], hits[:, None], **asks)
    assert [parts_of(shift) for shift in flat] == [parts_of(shift) for shift in one]


def test_a_fixed_number_of_draws_of_several_tails_has_the_bound_that_needs_their_sum_alone() -> None:
    rng = np.random.default_rng(9)
    masks, hits = rng.random((80, 3, 4)) < 0.8, rng.random((80, 3)) < 0.9
    shift = cover_shifts(masks, hits, mask_probability=0.8, alpha=0.1, max_tokens=1, bound="clopper_pearson")[1]
    lowers = [kl_lower(list(map(float, scores_by_hand(masks, hits, (k,)))), 0.1 / 2 / 4) for k in range(4)]
    assert shift.at(0.0) == pytest.approx(0.8 * min(lowers), rel=1e-7)


def test_tails_are_counted_alike_however_many_draws_are_taken_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(10)
    masks, hits = rng.random((50, 3, 6)) < 0.8, rng.random((50, 3)) < 0.9
    whole = cover_shifts(masks, hits, mask_probability=0.8, alpha=0.1, max_tokens=4)
    monkeypatch.setattr(covers, "_TABLE", 7 * 36)
    parts = cover_shifts(masks, hits, mask_probability=0.8, alpha=0.1, max_tokens=4)
    assert [parts_of(shift) for shift in whole] == [parts_of(shift) for shift in parts]


def test_tails_of_the_wrong_shape_or_too_many_are_refused() -> None:
    asks: dict[str, Any] = {"mask_probability": 0.8, "alpha": 0.1, "max_tokens": 1}
    with pytest.raises(ValueError, match=r"unsafe of bool \(5,\) must be bool \(5, 2\), one per draw or tail"):
        cover_shifts(np.zeros((5, 2, 3), dtype=bool), np.zeros(5, dtype=bool), **asks)
    with pytest.raises(ValueError, match="masks of 17 tails a draw must have at most 16; draw more images instead"):
        cover_shifts(np.zeros((5, 17, 3), dtype=bool), np.zeros((5, 17), dtype=bool), **asks)


def test_without_draws_no_budget_is_known_but_every_one_is_asked() -> None:
    none = np.zeros((0, 4), dtype=bool), np.zeros(0, dtype=bool)
    shifts = cover_shifts(*none, mask_probability=[0.5, 0.6, 0.7, 0.8], alpha=0.1, max_tokens=4)
    assert [shift.at(0.0) for shift in shifts] == [0.0] * 5
    # Equal bounds: of all covers the least probable is the worst, and the only one that is kept.
    assert np.ravel([parts_of(shift) for shift in shifts]) == pytest.approx(
        np.ravel([(1.0, 0.0), (0.5, 0.0), (0.3, 0.0), (0.21, 0.0), (0.168, 0.0)]), rel=1e-12
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.zeros((5, 3))}, r"masks of float64 \(5, 3\) must be bool \(draws, positions\)"),
        ({"unsafe": np.zeros(4, dtype=bool)}, r"unsafe of bool \(4,\) must be bool \(5,\), one per draw"),
        ({"alpha": 0.0}, "alpha=0.0 must lie strictly between 0 and 1; raise alpha"),
        ({"max_tokens": -1}, "max_tokens=-1 must be at least 0"),
        ({"max_covers": 0}, "max_covers=0 must be at least 1"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0"),
        ({"tau": 1.0}, "tau=1.0 must lie strictly between 0 and 1"),
        ({"bound": "hoeffding"}, "bound='hoeffding' must be one of any_time, clopper_pearson"),
        ({"verdict": "unsure"}, "verdict='unsure' must be one of unsafe, safe"),
        ({"kernel": UniformKernel(1.0, 9)}, r"beta=1.0 must be at most \(V-1\)/V"),
    ],
)
def test_values_outside_their_range_are_refused(change: dict[str, Any], message: str) -> None:
    question: dict[str, Any] = {
        "masks": np.zeros((5, 3), dtype=bool), "unsafe": np.zeros(5, dtype=bool), "kernel": AbsorbingKernel(0.5),
        "sigma": 1.0, "tau": 0.1, "alpha": 0.1, "max_tokens": 1,
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=message):
        l0_frontier(question.pop("masks"), question.pop("unsafe"), **question)
