"""What a deployed verdict finds: never said to be likelier than it is, and the least share that exceeds τ."""

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.certificates import detection_probability, flags_above
from tests.certificates.oracle import mp

SETTING: dict[str, Any] = {"epsilon": 0.3, "sigma": 0.5, "passes": 20, "flags": 5}


def enumerated(probability: Any, passes: int, flags: int) -> Any:
    """P[at least so many flags], over every outcome of the passes one by one."""
    total = 0 * probability
    for outcome in itertools.product((False, True), repeat=passes):
        if sum(outcome) >= flags:
            total += math.prod((probability if unsafe else 1 - probability) for unsafe in outcome)
    return total


@pytest.mark.parametrize("lower", [1e-12, 0.001, 0.25, 0.5, 0.93, 1 - 1e-9])
@pytest.mark.parametrize("passes", [1, 2, 7])
def test_where_the_image_stays_it_is_just_below_the_tail_over_every_outcome(lower: float, passes: int) -> None:
    for flags in range(1, passes + 1):
        exact = enumerated(Fraction(lower), passes, flags)
        said = detection_probability(lower, epsilon=0.0, sigma=0.5, passes=passes, flags=flags)
        assert Fraction(said) <= exact
        assert said >= float(exact) * (1 - 1e-9)


@given(
    lower=st.floats(1e-6, 1 - 1e-12),
    epsilon=st.floats(0.0, 4.0),
    sigma=st.floats(0.05, 2.0),
    passes=st.integers(1, 5),
    data=st.data(),
)
def test_where_the_image_moves_it_is_just_below_what_the_hardest_guard_gives(
    lower: float, epsilon: float, sigma: float, passes: int, data: st.DataObject
) -> None:
    """A guard that is a half-space loses exactly so much, so no larger number would be sound."""
    flags = data.draw(st.integers(1, passes))
    quantile = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(lower) - 1)
    kept = mp.ncdf(quantile - mp.mpf(epsilon) / mp.mpf(sigma))
    exact = enumerated(kept, passes, flags)
    said = detection_probability(lower, epsilon=epsilon, sigma=sigma, passes=passes, flags=flags)
    assert said <= exact
    assert said >= exact * (1 - 1e-7) or exact < 1e-190


@given(
    lowers=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    epsilons=st.tuples(st.floats(0, 3), st.floats(0, 3)),
    passes=st.integers(1, 200),
    data=st.data(),
)
def test_a_better_bound_a_smaller_shift_and_fewer_flags_never_detect_less(
    lowers: tuple[float, float], epsilons: tuple[float, float], passes: int, data: st.DataObject
) -> None:
    flags = sorted(data.draw(st.tuples(st.integers(1, passes), st.integers(1, passes))))
    worse, better = (
        detection_probability(lower, epsilon=epsilon, sigma=0.5, passes=passes, flags=c)
        for lower, epsilon, c in zip(sorted(lowers), sorted(epsilons)[::-1], flags[::-1], strict=True)
    )
    assert worse <= better * (1 + 1e-9)


def test_within_the_certified_radius_more_passes_detect_surely_and_at_its_end_every_other_time() -> None:
    lower, tau, sigma = 0.9, 0.3, 0.5
    radius = sigma * float(mp.sqrt(2) * (mp.erfinv(2 * lower - 1) - mp.erfinv(2 * tau - 1)))
    found = {
        (share, passes): detection_probability(
            lower, epsilon=share * radius, sigma=sigma, passes=passes, flags=flags_above(tau, passes)
        )
        for share in (0.8, 1.0, 1.2)
        for passes in (64, 4096)
    }
    assert found[0.8, 64] > 0.9
    assert found[0.8, 4096] > 1 - 1e-9
    assert found[1.0, 4096] == pytest.approx(0.5, abs=0.02)
    assert found[1.2, 4096] < 1e-12


def test_what_never_fails_is_found_at_any_distance_and_what_never_succeeds_at_none() -> None:
    assert detection_probability(1.0, **SETTING | {"epsilon": 1e300}) == 1.0
    assert detection_probability(0.0, **SETTING) == 0.0
    assert detection_probability(0.5, **SETTING | {"epsilon": 1e300}) == 0.0


@given(tau=st.floats(1e-6, 1 - 1e-6), passes=st.integers(1, 10**6))
def test_the_flags_are_the_least_number_whose_share_exceeds_the_threshold(tau: float, passes: int) -> None:
    flags = flags_above(tau, passes)
    assert Fraction(flags, passes) > Fraction(tau) >= Fraction(flags - 1, passes)


def test_a_share_that_is_the_threshold_itself_does_not_exceed_it() -> None:
    assert (flags_above(0.25, 64), flags_above(0.3, 64), flags_above(4.6e-5, 64)) == (17, 20, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": 1.5}, r"lower=1.5 must lie in \[0, 1\]"),
        ({"epsilon": -0.1}, "epsilon=-0.1 must be at least 0; raise epsilon"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0; raise sigma"),
        ({"passes": 0}, "passes=0 must be at least 1; raise passes"),
        ({"flags": 0}, "flags=0 must be at least 1; raise flags"),
        ({"flags": 21}, "flags=21 must be at most passes=20; lower flags or raise passes"),
    ],
)
def test_values_outside_their_range_are_refused_with_value_rule_and_remedy(
    change: dict[str, Any], message: str
) -> None:
    asked = {"lower": 0.9} | SETTING | change
    with pytest.raises(ValueError, match=message):
        detection_probability(asked.pop("lower"), **asked)
