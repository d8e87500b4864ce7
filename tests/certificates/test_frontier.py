import math
from fractions import Fraction
from itertools import pairwise
from types import FunctionType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from holdfast import certificates
from holdfast.certificates import (
    AbsorbingKernel,
    UniformKernel,
    any_time_lower,
    cell_lower_bounds,
    clopper_pearson_lower,
    passes_to_detect,
    suffix_frontier,
    suffix_radii,
    suffix_value,
    worst_case,
)

SETTING = {"kernel": UniformKernel(0.25, 30000), "sigma": 1.0, "tau": 4.6e-5, "alpha": 0.01}
BOUNDS = ["any_time", "clopper_pearson"]
NEVER = 1e-9


def rank(radius):
    return -1.0 if radius is None else radius


def test_twenty_passes_a_cell_certify_six_tokens_and_a_thousand_seven():
    twenty = suffix_frontier([(20, 20)] * 9, bound="clopper_pearson", **SETTING)
    thousand = suffix_frontier([(1000, 1000)] * 9, bound="clopper_pearson", **SETTING)
    assert twenty[6] == pytest.approx(1.442, abs=1e-3)
    assert twenty[7:] == [None, None]
    assert thousand[7] == pytest.approx(1.783, abs=1e-3)
    assert thousand[8] is None


# The published frontier at these settings, d = 0..5, from 10,000 all-Unsafe passes for each d ([H], default protocol).
PUBLISHED = [7.22, 6.47, 5.62, 4.65, 3.46, 1.75, -1.0, -1.0]


def test_nine_hundred_passes_outreach_eighty_thousand_from_four_tokens_on():
    for bound in BOUNDS:
        found = [rank(radius) for radius in suffix_frontier([(100, 100)] * 9, bound=bound, **SETTING)]
        assert all(found[d] > PUBLISHED[d] for d in (4, 5, 6, 7))


def test_nine_thousand_passes_outreach_them_from_two_tokens_on():
    found = [rank(radius) for radius in suffix_frontier([(1000, 1000)] * 9, bound="clopper_pearson", **SETTING)]
    assert all(found[d] > PUBLISHED[d] for d in range(2, 8))
    assert found[0] >= 0.88 * PUBLISHED[0]
    stopped = [rank(radius) for radius in suffix_frontier([(1000, 1000)] * 9, bound="any_time", **SETTING)]
    assert all(stopped[d] > PUBLISHED[d] for d in range(3, 8))
    assert stopped[0] >= 0.87 * PUBLISHED[0]


@pytest.mark.parametrize("bound", BOUNDS)
def test_half_the_passes_unsafe_still_certify_six_tokens(bound):
    assert suffix_frontier([(1000, 500)] * 9, bound=bound, **SETTING)[6] > 0


def test_the_risk_is_shared_by_all_cells():
    cells = [(50, 50), (40, 13), (7, 0)]
    for bound, function in [("any_time", any_time_lower), ("clopper_pearson", clopper_pearson_lower)]:
        shared = [function(unsafe, draws, 0.03 / 3) for draws, unsafe in cells]
        assert cell_lower_bounds(cells, 0.03, bound) == pytest.approx(shared, rel=1e-12)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_frontier_exceeds_the_true_one_with_at_most_its_risk(bound):
    # 400 frontiers fail at most as often as Binomial(400, 0.3): the limit is passed with probability below 1e-9.
    rng, kernel = np.random.default_rng(4), AbsorbingKernel(0.5)
    exact = np.array([0.97, 0.8, 0.5, 0.3])
    truth = [rank(radius) for radius in suffix_radii(exact, kernel=kernel, sigma=1.0, tau=0.01)]
    failures = 0
    for counts in rng.binomial(12, exact, size=(400, 4)):
        cells = [(12, int(unsafe)) for unsafe in counts]
        radii = suffix_frontier(cells, kernel=kernel, sigma=1.0, tau=0.01, alpha=0.3, bound=bound)
        failures += any(rank(radius) > true for radius, true in zip(radii, truth, strict=True))
    assert failures <= binom.isf(NEVER, 400, 0.3)


COUNTS = st.lists(
    st.integers(0, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=9
)


@pytest.mark.parametrize("bound", BOUNDS)
@settings(derandomize=True, max_examples=100, deadline=None)
@given(cells=COUNTS, data=st.data(), alpha=st.floats(1e-6, 0.5), tau=st.floats(1e-6, 0.9))
def test_the_frontier_falls_with_tokens_and_rises_with_successes_and_risk(bound, cells, data, alpha, tau):
    def frontier(cells, alpha, tau):
        kernel = UniformKernel(0.6, 50)
        radii = suffix_frontier(cells, kernel=kernel, sigma=0.5, tau=tau, alpha=alpha, bound=bound)
        return [rank(radius) for radius in radii]

    here, k = frontier(cells, alpha, tau), data.draw(st.integers(0, len(cells) - 1))
    more = [(n + (i == k), unsafe + (i == k)) for i, (n, unsafe) in enumerate(cells)]
    fewer = [(n + (i == k), unsafe) for i, (n, unsafe) in enumerate(cells)]
    assert here == sorted(here, reverse=True)
    for weaker in (frontier(fewer, alpha, tau), frontier(cells, alpha / 2, tau), frontier(cells, alpha, tau * 1.01)):
        assert all(low <= high for low, high in zip(weaker, here, strict=True))
    assert all(low <= high for low, high in zip(here, frontier(more, alpha, tau), strict=True))


@pytest.mark.parametrize("bound", BOUNDS)
def test_more_draws_at_one_rate_widen_the_frontier(bound):
    frontiers = [
        [rank(r) for r in suffix_frontier([(10 * n, 9 * n)] * 5, bound=bound, **SETTING)]
        for n in (1, 2, 5, 20, 100, 1000)
    ]
    assert all(low <= high for row, then in pairwise(frontiers) for low, high in zip(row, then, strict=True))
    assert frontiers[0][0] < frontiers[-1][0]


def test_a_radius_is_never_zero_and_nothing_certified_is_none():
    assert suffix_frontier([(0, 0)] * 3, **SETTING) == [None, None, None]
    assert suffix_frontier([(100, 0)] * 3, **SETTING) == [None, None, None]


def test_one_cell_is_the_image_certificate_at_the_full_risk():
    single = suffix_frontier([(500, 490)], **SETTING)
    assert single == suffix_radii([any_time_lower(490, 500, 0.01)], kernel=SETTING["kernel"], sigma=1.0, tau=4.6e-5)


def test_the_worst_case_grid_has_every_budget_in_order():
    lower, noise = [0.9, 0.8, 0.7], {"kernel": AbsorbingKernel(0.5), "sigma": 0.5}
    grid = worst_case(lower, epsilons=[0, 0.25], **noise)
    assert [row[:2] for row in grid] == [(d, e) for d in range(3) for e in (0, 0.25)]
    for tokens, epsilon, value in grid:
        assert value == suffix_value(lower, tokens=tokens, epsilon=epsilon, **noise)


@pytest.mark.parametrize("p", [1e-5, 4.6e-5, 0.0117, 0.3, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_passes_to_detect_is_the_fewest_that_see_one_with_99_percent(p):
    n = passes_to_detect(p)
    miss = 1 - Fraction(p)
    if n < 1000:
        assert miss**n <= Fraction(1, 100)
        assert n == 1 or miss ** (n - 1) > Fraction(1, 100)
    else:
        assert n == pytest.approx(math.log(0.01) / math.log1p(-p), abs=1)


def test_the_smallest_probabilities_still_have_a_number_of_passes():
    assert passes_to_detect(1e-300) == pytest.approx(4.605170185988091e300, rel=1e-9)
    for p in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"probability=.* must"):
            passes_to_detect(p)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": []}, r"cells=\[\] must hold"),
        ({"cells": [(5, 6)]}, r"cells\[0\].unsafe=6 must be at most cells\[0\].draws=5; count each draw once"),
        ({"cells": [(5, 5), (-1, 0)]}, r"cells\[1\].draws=-1 must be at least 0"),
        ({"cells": [(5, -1)]}, r"cells\[0\].unsafe=-1 must be at least 0"),
        ({"cells": [(5.0, 1)]}, r"cells\[0\].draws=5.0 must be an integer"),
        ({"cells": [(5, True)]}, r"cells\[0\].unsafe=True must be an integer"),
        ({"cells": [(5, 1, 2)]}, r"cells\[0\] has 3 entries, must be \(draws, unsafe\)"),
        ({"sigma": 0}, "sigma=0.0 must be above 0; raise sigma"),
        ({"sigma": math.nan}, "sigma=nan must be a finite real number"),
        ({"tau": 0.0}, "tau=0.0 must lie strictly between 0 and 1; raise tau"),
        ({"tau": 1}, "tau=1.0 must lie strictly between 0 and 1; lower tau"),
        ({"tau": "0.5"}, "tau='0.5' must be a finite real number"),
        ({"alpha": 0.0}, "alpha=0.0 must lie strictly between 0 and 1; raise alpha"),
        ({"alpha": math.inf}, "alpha=inf must be a finite real number"),
        ({"bound": "hoeffding"}, "bound='hoeffding' must be one of any_time, clopper_pearson"),
        ({"kernel": UniformKernel(1.0, 100)}, r"beta=1.0 must be at most \(V-1\)/V=0.99 .*; lower beta"),
    ],
)
def test_values_outside_their_range_are_refused_with_value_rule_and_remedy(change, message):
    question = {"cells": [(5, 5), (5, 4)], "bound": "any_time"} | SETTING | change
    with pytest.raises(ValueError, match=message):
        suffix_frontier(question.pop("cells"), **question)


def test_every_public_name_is_there_and_documented():
    for name in certificates.__all__:
        public = getattr(certificates, name)
        assert not isinstance(public, type | FunctionType) or public.__doc__, name
