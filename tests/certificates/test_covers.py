import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from holdfast.certificates import (
    AbsorbingKernel,
    CoverBounds,
    UniformKernel,
    any_time_lower,
    clopper_pearson_lower,
    cover_bounds,
    cover_count,
    cover_radii,
    cover_radius,
    cover_value,
    l0_frontier,
    mask_probability,
    neyman_pearson_radius,
)
from tests.certificates import oracle, worlds

NEVER = 1e-9
EPSILONS = [0.0, 0.5, 1.5]


def rank(radius):
    return -1.0 if radius is None else radius


def pool(seed, draws, positions, chance, rate=0.6):
    rng = np.random.default_rng(seed)
    return rng.random((draws, positions)) < chance, rng.random(draws) < rate


def exact_bounds(here, d, safe=False):
    """The bounds of a budget at the classifiers' exact probabilities, one entry per classifier."""
    sets = list(combinations(range(here.positions), d))
    masses = [math.prod(here.chances[i] for i in attacked) for attacked in sets]
    chances = np.stack([here.covered(attacked) for attacked in sets], axis=1)
    chances = np.clip(1 - chances if safe else chances, 0.0, 1.0 - 1e-16)
    return [CoverBounds(d, tuple(masses), tuple(row)) for row in chances]


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("absorbing", [False, True])
@pytest.mark.parametrize("chance", [0.25, 0.7, 0.95])
def test_no_rewrite_of_any_positions_beats_the_value(chance, absorbing, safe):
    rng = np.random.default_rng(11)
    here = worlds.random_worlds(rng, count=300, sizes=(3, 3, 3), chances=(chance,) * 3, absorbing=absorbing)
    for d in range(4):
        bounds = exact_bounds(here, d, safe)
        for epsilon in EPSILONS:
            truth = here.extreme_l0(d, epsilon, largest=safe)
            values = [cover_value(entry, epsilon, 1.0, "safe" if safe else "unsafe") for entry in bounds]
            assert (np.array(values) >= truth - 1e-13 if safe else np.array(values) <= truth + 1e-13).all()


def test_a_guard_that_needs_every_mask_meets_the_value():
    verdicts = np.zeros((1, 4, 4, len(worlds.BINS) - 1))
    verdicts[0, -1, -1, :4] = 1.0
    here = worlds.Worlds(verdicts, (2, 2), (0.6, 0.3), True)
    (bounds,) = exact_bounds(here, 2)
    for epsilon in EPSILONS:
        assert cover_value(bounds, epsilon, 1.0) == pytest.approx(here.extreme_l0(2, epsilon)[0], rel=1e-9)


def naive_counts(masks, unsafe, d):
    for attacked in combinations(range(masks.shape[1]), d):
        rows = masks[:, list(attacked)].all(axis=1)
        yield int(unsafe[rows].sum()), int(rows.sum())


@pytest.mark.parametrize(("positions", "chance"), [(1, 0.5), (5, 0.3), (7, 0.8)])
@pytest.mark.parametrize(("bound", "below"), [("any_time", any_time_lower), ("clopper_pearson", clopper_pearson_lower)])
def test_the_hardest_cover_of_every_budget_is_found(positions, chance, bound, below):
    masks, unsafe = pool(positions, 60, positions, chance)
    given_pool = {"mask_probability": chance, "alpha": 0.05, "max_tokens": 6, "bound": bound}
    for d, found in enumerate(cover_bounds(masks, unsafe, **given_pool)):
        size = min(d, positions)
        counts = list(naive_counts(masks, unsafe, size))
        least = min(below(k, n, 0.05 / 7 / len(counts)) for k, n in counts)
        assert found == CoverBounds(d, (pytest.approx(chance**size, rel=1e-14),), (least,))


def test_positions_of_their_own_chance_keep_every_pair_that_can_be_the_worst():
    chances = np.array([0.2, 0.5, 0.5, 0.8, 0.9])
    masks, unsafe = pool(3, 400, 5, chances)
    for d, found in enumerate(cover_bounds(masks, unsafe, mask_probability=chances, alpha=0.1, max_tokens=3)):
        counts = list(naive_counts(masks, unsafe, d))
        masses = [math.prod(chances[list(a)].tolist()) for a in combinations(range(5), d)]
        lower = [any_time_lower(k, n, 0.1 / 4 / len(counts)) for k, n in counts]
        every = CoverBounds(d, tuple(masses), tuple(lower))
        for epsilon in (0.0, 0.3, 1.0, 3.0):
            assert cover_value(found, epsilon, 1.0) == pytest.approx(cover_value(every, epsilon, 1.0), rel=1e-14)
        assert list(found.mass) == sorted(found.mass)
        assert list(found.lower) == sorted(found.lower, reverse=True)


def test_a_mean_guard_is_certified_at_three_tokens_where_one_number_certifies_none():
    kernel = UniformKernel(0.25, 30000)
    masks = pool(1, 10_000, 20, mask_probability(kernel))[0]
    unsafe = np.arange(10_000) % 5 < 3
    question = {"kernel": kernel, "sigma": 1.0, "tau": 4.6e-5}
    frontier = l0_frontier(masks, unsafe, alpha=0.01, max_tokens=3, **question)
    assert all(radius > 1.5 for radius in frontier)
    assert neyman_pearson_radius(0.6, tokens=0, **question) is not None
    assert neyman_pearson_radius(0.6, tokens=1, **question) is None


def test_the_whole_frontier_exceeds_the_true_one_with_at_most_its_risk():
    # 300 frontiers fail at most as often as Binomial(300, 0.3): the limit is passed with probability below 1e-9.
    rng, kernel, alpha = np.random.default_rng(5), AbsorbingKernel(0.6), 0.3
    patterns = worlds.all_masks(4)
    by_mask = rng.uniform(0.2, 0.95, size=len(patterns))
    weights = np.prod(np.where(patterns, 0.6, 0.4), axis=1)
    exact = []
    for d in range(4):
        rows = [patterns[:, list(a)].all(axis=1) for a in combinations(range(4), d)]
        exact.append(CoverBounds(d, (0.6**d,), (min(np.average(by_mask[r], weights=weights[r]) for r in rows),)))
    truth = [rank(radius) for radius in cover_radii(exact, 1.0, 0.01)]
    failures = 0
    for _ in range(300):
        drawn = rng.choice(len(patterns), p=weights, size=80)
        unsafe = rng.random(80) < by_mask[drawn]
        found = l0_frontier(patterns[drawn], unsafe, kernel=kernel, sigma=1.0, tau=0.01, alpha=alpha, max_tokens=3)
        failures += any(rank(radius) > true for radius, true in zip(found, truth, strict=True))
    assert failures <= binom.isf(NEVER, 300, alpha)


def test_a_capped_budget_is_not_certified_and_says_so():
    masks, unsafe = pool(2, 500, 12, 0.5, 1.0)
    bounds = cover_bounds(masks, unsafe, mask_probability=0.5, alpha=0.01, max_tokens=3, max_covers=66)
    assert [entry.capped for entry in bounds] == [False, False, False, True]
    assert cover_value(bounds[3], 0.0, 1.0) == 0.0
    assert cover_value(bounds[3], 0.0, 1.0, "safe") == 1.0
    assert cover_radius(bounds[3], 1.0, 1e-9) is None
    assert cover_radii(bounds, 1.0, 1e-3)[2] is not None


def test_a_larger_budget_certifies_the_smaller_ones():
    masks, unsafe = pool(2, 3000, 6, 0.9, 1.0)
    question = {"kernel": AbsorbingKernel(0.9), "sigma": 1.0, "tau": 0.2, "alpha": 0.01}
    frontier = l0_frontier(masks, unsafe, max_tokens=6, max_covers=6, **question)
    assert frontier[2] == frontier[3] == frontier[4] == frontier[5] > 0
    assert frontier[0] > frontier[1] > frontier[2]


def test_more_tokens_than_positions_are_all_positions():
    masks, unsafe = pool(4, 300, 2, 0.5)
    frontier = l0_frontier(masks, unsafe, kernel=AbsorbingKernel(0.5), sigma=1, tau=0.01, alpha=0.1, max_tokens=5)
    assert frontier[2] == frontier[3] == frontier[5]
    empty = np.zeros((300, 0), dtype=bool)
    nothing = l0_frontier(empty, unsafe, kernel=AbsorbingKernel(0.5), sigma=1, tau=0.01, alpha=0.1, max_tokens=1)
    assert nothing[0] == nothing[1] > frontier[0]
    assert (cover_count(64, 3), cover_count(2, 5), cover_count(0, 1)) == (41664, 1, 1)


def test_no_draws_certify_nothing():
    masks, unsafe = np.zeros((0, 5), dtype=bool), np.zeros(0, dtype=bool)
    question = {"kernel": AbsorbingKernel(0.5), "sigma": 1.0, "tau": 1e-6, "alpha": 0.1}
    assert l0_frontier(masks, unsafe, max_tokens=4, **question) == [None] * 5


def test_the_image_certificate_is_the_budget_without_tokens():
    bounds = CoverBounds(0, (1.0,), (0.97,))
    assert cover_radius(bounds, 0.5, 0.5) == pytest.approx(0.5 * norm.ppf(0.97), rel=1e-9)
    assert cover_value(bounds, 0.6, 0.5) == pytest.approx(norm.cdf(norm.ppf(0.97) - 1.2), rel=1e-10)


PAIRS = st.lists(st.tuples(st.floats(1e-6, 1.0), st.floats(0.0, 1 - 1e-9)), min_size=1, max_size=6)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(pairs=PAIRS, tau=st.floats(1e-9, 0.9), sigma=st.floats(0.05, 4.0), verdict=st.sampled_from(["unsafe", "safe"]))
def test_every_radius_is_where_the_value_passes_the_threshold(pairs, tau, sigma, verdict):
    bounds = CoverBounds(2, *zip(*pairs, strict=True))
    radius = cover_radius(bounds, sigma, tau, verdict)

    def certified(epsilon):
        value = cover_value(bounds, epsilon, sigma, verdict)
        return value < tau if verdict == "safe" else value > tau

    if radius is None:
        assert not certified(1e-7 * sigma)
    else:
        assert certified(radius)
        assert not certified(radius * (1 + 1e-7) + 1e-7 * sigma)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(pairs=PAIRS, epsilon=st.floats(0.0, 6.0))
def test_the_value_is_just_below_its_formula_in_fifty_digits(pairs, epsilon):
    mp, exact = oracle.mp, []
    for mass, lower in pairs:
        quantile = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(lower) - 1) if lower > 1e-25 else -mp.inf
        exact.append(mp.mpf(mass) * mp.ncdf(quantile - mp.mpf(epsilon)))
    value = cover_value(CoverBounds(1, *zip(*pairs, strict=True)), epsilon, 1.0)
    assert min(exact) * (1 - mp.mpf("1e-11")) <= value <= min(exact) + mp.mpf("1e-24")


@settings(derandomize=True, max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), positions=st.integers(1, 6), alpha=st.floats(1e-4, 0.4), data=st.data())
def test_the_frontier_falls_with_tokens_and_rises_with_successes_and_risk(seed, positions, alpha, data):
    masks, unsafe = pool(seed, 120, positions, 0.7, 0.8)

    def frontier(unsafe, alpha):
        kernel = AbsorbingKernel(0.7)
        radii = l0_frontier(masks, unsafe, kernel=kernel, sigma=0.5, tau=1e-3, alpha=alpha, max_tokens=3)
        return [rank(radius) for radius in radii]

    here, fewer = frontier(unsafe, alpha), unsafe.copy()
    fewer[data.draw(st.integers(0, 119))] = False
    assert here == sorted(here, reverse=True)
    for weaker in (frontier(fewer, alpha), frontier(unsafe, alpha / 2)):
        assert all(low <= high for low, high in zip(weaker, here, strict=True))


def test_safe_is_unsafe_of_the_complement():
    masks, unsafe = pool(8, 400, 4, 0.9, 0.03)
    given_pool = {"kernel": AbsorbingKernel(0.9), "sigma": 1.0, "alpha": 0.05, "max_tokens": 2}
    safe = l0_frontier(masks, unsafe, tau=0.4, verdict="safe", **given_pool)
    assert safe == l0_frontier(masks, ~unsafe, tau=0.6, **given_pool)
    assert safe[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": np.zeros((5, 3))}, r"masks of float64 \(5, 3\) must be bool \(draws, positions\)"),
        ({"unsafe": np.zeros(4, dtype=bool)}, r"unsafe of bool \(4,\) must be bool \(5,\), one per draw"),
        ({"mask_probability": 0.0}, r"mask_probability of shape \(\) must lie in \(0, 1\]"),
        ({"mask_probability": [0.5, 0.5]}, r"mask_probability of shape \(2,\) must lie in \(0, 1\], one number or 3"),
        ({"mask_probability": [0.5, math.nan, 0.5]}, r"mask_probability of shape \(3,\) must lie"),
        ({"alpha": 0.0}, "alpha=0.0 must lie strictly between 0 and 1; raise alpha"),
        ({"max_tokens": -1}, "max_tokens=-1 must be at least 0"),
        ({"max_covers": 0}, "max_covers=0 must be at least 1"),
        ({"bound": "hoeffding"}, "bound='hoeffding' must be one of any_time, clopper_pearson"),
        ({"verdict": "unsure"}, "verdict='unsure' must be one of unsafe, safe"),
    ],
)
def test_values_outside_their_range_are_refused(change, message):
    question = {
        "masks": np.zeros((5, 3), dtype=bool),
        "unsafe": np.zeros(5, dtype=bool),
        "mask_probability": 0.5,
        "alpha": 0.1,
        "max_tokens": 1,
    } | change
    with pytest.raises(ValueError, match=message):
        cover_bounds(question.pop("masks"), question.pop("unsafe"), **question)


def test_a_rate_without_latent_form_has_no_covers():
    masks, unsafe = pool(1, 10, 3, 0.5)
    with pytest.raises(ValueError, match=r"beta=1.0 must be at most \(V-1\)/V"):
        l0_frontier(masks, unsafe, kernel=UniformKernel(1.0, 9), sigma=1.0, tau=0.1, alpha=0.1, max_tokens=1)
