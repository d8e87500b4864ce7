import math
from fractions import Fraction
from itertools import pairwise
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from holdfast import certificates
from holdfast.certificates import UniformKernel, answer, any_time_lower, suffix_frontier
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.guard.sides import Side, passes_to_detect
from tests.certificates.asking import asked, counted

Cells = list[tuple[int, int]]

SETTING: dict[str, Any] = {"kernel": UniformKernel(0.25, 30000), "sigma": 1.0, "tau": 4.6e-5, "alpha": 0.01}
BOUNDS: list[Bound] = ["any_time", "clopper_pearson"]


def rank(radius: float | None) -> float:
    return -1.0 if radius is None else radius


def test_twenty_passes_a_cell_certify_six_tokens_and_a_thousand_seven() -> None:
    twenty = suffix_frontier([(20, 20)] * 9, bound="clopper_pearson", **SETTING)
    thousand = suffix_frontier([(1000, 1000)] * 9, bound="clopper_pearson", **SETTING)
    assert twenty[6] == pytest.approx(1.442, abs=1e-3)
    assert twenty[7:] == [None, None]
    assert thousand[7] == pytest.approx(1.783, abs=1e-3)
    assert thousand[8] is None


# The published frontier at these settings, d = 0..5, from 10,000 all-Unsafe passes for each d ([H], default protocol).
PUBLISHED = [7.22, 6.47, 5.62, 4.65, 3.46, 1.75, -1.0, -1.0]


def test_nine_hundred_passes_outreach_eighty_thousand_from_four_tokens_on() -> None:
    for bound in BOUNDS:
        found = [rank(radius) for radius in suffix_frontier([(100, 100)] * 9, bound=bound, **SETTING)]
        assert all(found[d] > PUBLISHED[d] for d in (4, 5, 6, 7))


def test_nine_thousand_passes_outreach_them_from_two_tokens_on() -> None:
    found = [rank(radius) for radius in suffix_frontier([(1000, 1000)] * 9, bound="clopper_pearson", **SETTING)]
    assert all(found[d] > PUBLISHED[d] for d in range(2, 8))
    assert found[0] >= 0.88 * PUBLISHED[0]
    stopped = [rank(radius) for radius in suffix_frontier([(1000, 1000)] * 9, bound="any_time", **SETTING)]
    assert all(stopped[d] > PUBLISHED[d] for d in range(3, 8))
    assert stopped[0] >= 0.87 * PUBLISHED[0]


@pytest.mark.parametrize("bound", BOUNDS)
def test_half_the_passes_unsafe_still_certify_six_tokens(bound: Bound) -> None:
    assert suffix_frontier([(1000, 500)] * 9, bound=bound, **SETTING)[6] is not None


COUNTS = st.lists(
    st.integers(0, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=9
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    cells=st.integers(0, 500).flatmap(
        lambda n: st.lists(st.tuples(st.just(n), st.integers(0, n)), min_size=1, max_size=9)
    ),
    bound=st.sampled_from(BOUNDS),
    verdict=st.sampled_from(["unsafe", "safe"]),
    tau=st.floats(0.01, 0.9),
)
def test_of_one_tail_a_draw_it_is_the_stratified_answers_frontier(
    cells: Cells, bound: Bound, verdict: Side, tau: float
) -> None:
    question = asked(
        kernel="uniform", beta=0.6, alphabets=(50,), slots=len(cells) - 1, sigma=0.5, tau=tau, alpha=0.05, bound=bound,
        sides=(verdict,), method="stratified", tails=1,
    )  # fmt: skip
    found = answer(question, counted(*cells)).frontier
    noise: dict[str, Any] = {"kernel": UniformKernel(0.6, 50), "sigma": 0.5, "tau": tau, "alpha": 0.05}
    assert suffix_frontier(cells, bound=bound, verdict=verdict, **noise) == [point.radius for point in found]


@pytest.mark.parametrize("bound", BOUNDS)
@settings(derandomize=True, max_examples=100, deadline=None)
@given(cells=COUNTS, data=st.data(), alpha=st.floats(1e-6, 0.5), tau=st.floats(1e-6, 0.9))
def test_the_frontier_falls_with_tokens_and_rises_with_successes_and_risk(
    bound: Bound, cells: Cells, data: st.DataObject, alpha: float, tau: float
) -> None:
    def frontier(cells: Cells, alpha: float, tau: float) -> list[float]:
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
def test_more_draws_at_one_rate_widen_the_frontier(bound: Bound) -> None:
    frontiers = [
        [rank(r) for r in suffix_frontier([(10 * n, 9 * n)] * 5, bound=bound, **SETTING)]
        for n in (1, 2, 5, 20, 100, 1000)
    ]
    assert all(low <= high for row, then in pairwise(frontiers) for low, high in zip(row, then, strict=True))
    assert frontiers[0][0] < frontiers[-1][0]


def test_a_radius_is_never_zero_and_nothing_certified_is_none() -> None:
    assert suffix_frontier([(0, 0)] * 3, **SETTING) == [None, None, None]
    assert suffix_frontier([(100, 0)] * 3, **SETTING) == [None, None, None]


def test_one_cell_is_the_image_certificate_at_the_full_risk() -> None:
    (radius,) = suffix_frontier([(500, 490)], **SETTING)
    assert radius == pytest.approx(norm.ppf(any_time_lower(490, 500, 0.01)) - norm.ppf(4.6e-5), rel=1e-9)


@pytest.mark.parametrize("p", [1e-5, 4.6e-5, 0.0117, 0.3, 0.5, 0.9, 0.99, 0.999, 1.0])
def test_passes_to_detect_is_the_fewest_that_see_one_with_99_percent(p: float) -> None:
    n = passes_to_detect(p)
    miss = 1 - Fraction(p)
    if n < 1000:
        assert miss**n <= Fraction(1, 100)
        assert n == 1 or miss ** (n - 1) > Fraction(1, 100)
    else:
        assert n == pytest.approx(math.log(0.01) / math.log1p(-p), abs=1)


def test_the_smallest_probabilities_still_have_a_number_of_passes() -> None:
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
def test_values_outside_their_range_are_refused_with_value_rule_and_remedy(
    change: dict[str, Any], message: str
) -> None:
    question: dict[str, Any] = {"cells": [(5, 5), (5, 4)], "bound": "any_time"} | SETTING | change
    with pytest.raises(ValueError, match=message):
        suffix_frontier(question.pop("cells"), **question)


def test_every_public_name_is_there_and_documented() -> None:
    for name in certificates.__all__:
        public = getattr(certificates, name)
        assert not isinstance(public, type | FunctionType) or public.__doc__, name
