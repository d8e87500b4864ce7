import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import binom

from holdfast.certificates import (
    AbsorbingKernel,
    CoverBounds,
    UniformKernel,
    cover_bounds,
    cover_radii,
    cover_value,
    fields_neyman_pearson_radius,
    fields_neyman_pearson_value,
    mask_probability,
    neyman_pearson_radius,
    neyman_pearson_value,
    product_groups,
    ratio_groups,
    tabular_frontier,
)
from tests.certificates import oracle, worlds

NEVER = 1e-9
SIZES = (2, 3, 5)
KERNELS = tuple(UniformKernel(0.4, size) for size in SIZES)
CHANCES = tuple(mask_probability(kernel) for kernel in KERNELS)
MIXED = (UniformKernel(0.3, 4), UniformKernel(0.7, 9), AbsorbingKernel(0.5), UniformKernel(1.0, 2))
MASKED = (AbsorbingKernel(0.8), AbsorbingKernel(0.3))
TURNED = (UniformKernel(0.7, 9), UniformKernel(0.7, 2))  # one on each side of (V-1)/V


def rank(radius):
    return -1.0 if radius is None else radius


def of_one_set(p, kernels, shift):
    """The value of one set of fields, from every string of (same, attacker's, other) per field."""
    pairs = [(oracle.mp.mpf(1), oracle.mp.mpf(1))]
    for kernel in kernels:
        size = getattr(kernel, "alphabet_size", None)
        field = oracle.token_pairs(kernel.beta, size, 1)
        pairs = [(clean * p, attacked * a) for (clean, attacked), (p, a) in product(pairs, field)]
    return oracle.neyman_pearson(p, [pair for pair in pairs if any(pair)], shift)


@pytest.mark.parametrize("fields", [0, 1, 2, 4])
@pytest.mark.parametrize("kernels", [KERNELS, MIXED, MASKED, TURNED])
@pytest.mark.parametrize("p", [0.55, 0.97])
def test_the_value_is_the_least_over_all_sets_of_fields(kernels, fields, p):
    for shift in (0.2, 1.1):
        exact = min(
            of_one_set(p, chosen, shift)
            for d in range(min(fields, len(kernels)) + 1)
            for chosen in combinations(kernels, d)
        )
        value = fields_neyman_pearson_value(p, kernels=kernels, fields=fields, epsilon=shift, sigma=1.0)
        assert exact * (1 - oracle.mp.mpf("1e-9")) - 1e-15 <= value <= exact


@pytest.mark.parametrize("kernel", [UniformKernel(0.3, 7), AbsorbingKernel(0.6)])
def test_equal_fields_are_tokens(kernel):
    for d in range(4):
        value = fields_neyman_pearson_value(0.9, kernels=[kernel] * 3, fields=d, epsilon=0.4, sigma=1.0)
        assert value == neyman_pearson_value(0.9, kernel=kernel, tokens=d, epsilon=0.4, sigma=1.0)
        radius = fields_neyman_pearson_radius(0.9, kernels=[kernel] * 3, fields=d, sigma=0.5, tau=0.01)
        assert radius == neyman_pearson_radius(0.9, kernel=kernel, tokens=d, sigma=0.5, tau=0.01)


def test_group_products_are_the_groups_of_more_tokens():
    kernel = UniformKernel(0.3, 7)
    assert product_groups([ratio_groups(kernel, 1)] * 3).clean == ratio_groups(kernel, 3).clean
    mixed = product_groups(ratio_groups(kernel, 1) for kernel in MIXED)
    assert sum(mixed.clean) == sum(mixed.adversarial) == 1
    assert list(mixed.log_ratio) == sorted(mixed.log_ratio)


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_rewrite_of_any_fields_beats_covers_or_neyman_pearson(seed, safe):
    rng, verdict = np.random.default_rng(seed), "safe" if safe else "unsafe"
    here = worlds.random_worlds(rng, count=150, sizes=SIZES, chances=CHANCES, absorbing=False)
    clean = np.clip(1 - here.covered(()) if safe else here.covered(()), 0.0, 1.0 - 1e-16)
    sign = -1.0 if safe else 1.0
    for d, epsilon in product(range(4), (0.0, 0.5, 1.5)):
        sets = list(combinations(range(3), d))
        masses = tuple(math.prod(CHANCES[i] for i in chosen) for chosen in sets)
        exact = np.stack([here.covered(chosen) for chosen in sets], axis=1)
        exact = np.clip(1 - exact if safe else exact, 0.0, 1.0 - 1e-16)
        covers = np.array([cover_value(CoverBounds(d, masses, tuple(q)), epsilon, 1.0, verdict) for q in exact])
        reach = {"kernels": KERNELS, "fields": d, "epsilon": epsilon, "sigma": 1.0, "verdict": verdict}
        single = np.array([fields_neyman_pearson_value(p, **reach) for p in clean])
        assert (sign * covers <= sign * here.extreme_l0(d, epsilon, safe) + 1e-12).all()
        assert (sign * single <= sign * here.extreme_l0(d, epsilon, safe, outside=False) + 1e-12).all()


def test_the_radius_is_where_the_value_passes_the_threshold():
    for kernels, fields, p in product((KERNELS, MIXED), range(5), (0.6, 0.99)):
        question = {"kernels": kernels, "fields": fields, "sigma": 2.0}
        radius = fields_neyman_pearson_radius(p, tau=0.05, **question)
        if radius is None:
            assert fields_neyman_pearson_value(p, epsilon=0.0, **question) <= 0.05
        else:
            assert fields_neyman_pearson_value(p, epsilon=radius, **question) > 0.05
            assert fields_neyman_pearson_value(p, epsilon=radius * (1 + 1e-8), **question) <= 0.05


def evidence(seed, draws, rate, kernels=KERNELS):
    rng = np.random.default_rng(seed)
    masks = rng.random((draws, len(kernels))) < [mask_probability(kernel) for kernel in kernels]
    return masks, rng.random(draws) < rate


@pytest.mark.parametrize("verdict", ["unsafe", "safe"])
@pytest.mark.parametrize("rate", [0.02, 0.5, 0.999, 1.0])
def test_the_frontier_is_the_better_of_both_methods(rate, verdict):
    masks, unsafe = evidence(3, 2000, rate)
    question = {"sigma": 1.0, "tau": 0.3, "verdict": verdict}
    found = tabular_frontier(masks, unsafe, kernels=KERNELS, alpha=0.01, max_fields=3, **question)
    bounds = cover_bounds(masks, unsafe, mask_probability=CHANCES, alpha=0.01, max_tokens=3, verdict=verdict)
    covers, p = cover_radii(bounds, 1.0, 0.3, verdict), bounds[0].lower[0] * (1 - 2**-39)
    for d, (radius, method) in enumerate(found):
        single = fields_neyman_pearson_radius(p, kernels=KERNELS, fields=d, **question)
        assert rank(radius) >= max(rank(covers[d]), rank(single) - 1e-9)
        assert (method is None) == (radius is None)
        assert method != "stratified" or radius == covers[d]
    assert [rank(radius) for radius, _ in found] == sorted((rank(radius) for radius, _ in found), reverse=True)


def test_neyman_pearson_takes_over_where_covers_are_capped():
    masks, unsafe = evidence(4, 5000, 1.0)
    found = tabular_frontier(masks, unsafe, kernels=KERNELS, sigma=1.0, tau=0.3, alpha=0.01, max_fields=2, max_covers=1)
    assert found[0].method == "stratified"
    assert found[1].method == "neyman_pearson"


def test_the_whole_frontier_exceeds_the_true_one_with_at_most_its_risk():
    # 200 frontiers fail at most as often as Binomial(200, 0.3): the limit is passed with probability below 1e-9.
    rng, alpha = np.random.default_rng(6), 0.3
    patterns, by_mask = worlds.all_masks(3), rng.uniform(0.3, 0.95, size=8)
    weights = np.prod(np.where(patterns, CHANCES, 1 - np.array(CHANCES)), axis=1)
    exact = []
    for d in range(3):
        sets = [list(chosen) for chosen in combinations(range(3), d)]
        rows = [patterns[:, chosen].all(axis=1) for chosen in sets]
        lower = tuple(np.average(by_mask[row], weights=weights[row]) for row in rows)
        exact.append(CoverBounds(d, tuple(math.prod(CHANCES[i] for i in chosen) for chosen in sets), lower))
    covers, p = cover_radii(exact, 1.0, 0.02), exact[0].lower[0]
    single = [fields_neyman_pearson_radius(p, kernels=KERNELS, fields=d, sigma=1.0, tau=0.02) for d in range(3)]
    truth, failures = [max(rank(a), rank(b)) for a, b in zip(covers, single, strict=True)], 0
    for _ in range(200):
        drawn = rng.choice(8, p=weights, size=60)
        unsafe = rng.random(60) < by_mask[drawn]
        question = {"kernels": KERNELS, "sigma": 1.0, "tau": 0.02, "alpha": alpha, "max_fields": 2}
        found = tabular_frontier(patterns[drawn], unsafe, **question)
        failures += any(rank(radius) > true for (radius, _), true in zip(found, truth, strict=True))
    assert failures <= binom.isf(NEVER, 200, alpha)


def test_too_many_rates_are_refused_and_one_rate_never():
    many = [UniformKernel(0.2 + 0.01 * i, 5) for i in range(16)]
    with pytest.raises(ValueError, match=r"fields=8 of kernels with 16 different rates make more than 1000 sets"):
        fields_neyman_pearson_value(0.9, kernels=many, fields=8, epsilon=0.1, sigma=1.0)
    alike = [UniformKernel(0.2, 5 + i) for i in range(40)]
    assert fields_neyman_pearson_value(0.999, kernels=alike, fields=4, epsilon=0.1, sigma=1.0) > 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": -1}, "fields=-1 must be at least 0"),
        ({"epsilon": -1.0}, "epsilon=-1.0 must be at least 0"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0"),
        ({"verdict": "no"}, "verdict='no' must be one of unsafe, safe"),
    ],
)
def test_values_outside_their_range_are_refused(change, message):
    question = {"kernels": KERNELS, "fields": 1, "epsilon": 0.1, "sigma": 1.0} | change
    with pytest.raises(ValueError, match=message):
        fields_neyman_pearson_value(0.9, **question)
