import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from holdfast.certificates import rounding
from tests.certificates import balls

normal_sizes = st.one_of(st.floats(1e-290, 1e290), st.floats(-1e290, -1e-290))
largest = np.finfo(np.float64).max


@settings(derandomize=True, max_examples=300, deadline=None)
@given(value=normal_sizes, ulps=st.integers(0, 2**20))
def test_a_step_is_at_least_as_long_as_it_says_and_hardly_longer(value: float, ulps: int) -> None:
    step = Fraction(2) ** -52 * abs(Fraction(value))
    for taken in (value - Fraction(rounding.down(value, ulps)), Fraction(rounding.up(value, ulps)) - Fraction(value)):
        assert ulps * step <= taken <= (ulps + 2) * step


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0 - 2**-52, 1e-290, 1e290])
def test_a_step_of_nothing_still_leaves_the_number_itself(value: float) -> None:
    assert rounding.down(value, 0) < value < rounding.up(value, 0)
    assert rounding.down(-value, 0) < -value < rounding.up(-value, 0)


def test_arrays_step_as_their_numbers_do() -> None:
    values = np.array([-3.0, 0.0, 1e-290, 0.7])
    assert rounding.down(values, 5).tolist() == [rounding.down(value, 5) for value in values.tolist()]
    assert rounding.up(values, 5).tolist() == [rounding.up(value, 5) for value in values.tolist()]
    assert rounding.positive_down(values[1:]).tolist() == [rounding.positive_down(x) for x in values[1:].tolist()]


def test_a_bound_too_small_to_be_rounded_counts_as_nothing() -> None:
    assert rounding.positive_down(1e-290) == rounding.positive_down(5e-324) == rounding.positive_down(0.0) == 0.0
    assert 0.0 < rounding.positive_down(1.1e-290) < 1.1e-290
    assert rounding.down(5e-324) == 5e-324  # which is why


@settings(derandomize=True, max_examples=300, deadline=None)
@given(value=st.fractions(min_value=-10, max_value=10))
def test_a_fraction_is_rounded_to_the_neighbour_on_the_named_side(value: Fraction) -> None:
    below, above = rounding.fraction_down(value), rounding.fraction_up(value)
    assert Fraction(below) <= value < Fraction(math.nextafter(below, math.inf))
    assert Fraction(math.nextafter(above, -math.inf)) < value <= Fraction(above)


def test_fractions_at_the_ends_of_the_floats_stay_on_their_side() -> None:
    tiny = Fraction(1, 2**2000)
    assert (rounding.fraction_down(tiny), rounding.fraction_up(tiny)) == (0.0, 5e-324)
    assert (rounding.fraction_down(-tiny), rounding.fraction_up(-tiny)) == (-5e-324, 0.0)
    assert rounding.fraction_down(Fraction(10) ** 400) == rounding.fraction_down(Fraction(largest)) == largest


@settings(derandomize=True, max_examples=300, deadline=None)
@given(value=st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 1e-14)))
def test_what_is_left_of_one_is_rounded_to_the_named_side(value: float) -> None:
    exact = 1 - Fraction(value)
    assert Fraction(rounding.one_minus_down(value)) <= exact <= Fraction(rounding.one_minus_up(value))
    assert rounding.one_minus_up(value) - rounding.one_minus_down(value) <= 2.0**-53


def test_the_complement_of_a_float_needs_its_side() -> None:
    # 1 - x is a tie or nearly one, and rounds to the even side, which is the wrong one for either of the two.
    assert 1.0 - 2**-60 == rounding.one_minus_up(2**-60) > rounding.one_minus_down(2**-60)
    assert rounding.one_minus_up(0.75 * 2**-53) == 1.0 > 1.0 - 0.75 * 2**-53


def arguments() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(-36.5, 9.0, 1500), -(10.0 ** rng.uniform(-20, 0, 100)), [0.0, -36.5, 40.0]])


def test_phi_is_enclosed_even_where_its_argument_was_rounded() -> None:
    tried = arguments()
    for x, below, above in zip(tried, rounding.phi_down(tried), rounding.phi_up(tried), strict=True):
        assert flint.arb(float(below)) <= balls.phi(balls.below(float(x)))
        assert balls.phi(balls.above(float(x))) <= flint.arb(float(above))
        assert above - below <= 2.0**-37 * below + 1e-289


def test_phi_beyond_the_floats_is_nothing_from_below_and_something_from_above() -> None:
    far = np.array([-38.0, -60.0, -math.inf])
    assert rounding.phi_down(far).tolist() == [0.0] * 3
    assert all(rounding.phi_up(far) > 0.0)


def test_a_normal_quantile_is_at_most_the_exact_one_and_hardly_lower() -> None:
    rng = np.random.default_rng(2)
    tried = np.concatenate(
        [rng.random(800), 10.0 ** rng.uniform(-290, -1, 800), 1.0 - 10.0 ** rng.uniform(-16, -1, 400)]
    )
    for p, quantile in zip(tried, rounding.quantile_down(tried), strict=True):
        # Compared on the side of the smaller tail, where a ball says most.
        lower = balls.phi(flint.arb(float(quantile))) if p < 0.5 else 1 - balls.phi(-flint.arb(float(quantile)))
        higher = float(quantile) + 2.0**-47 * (1.0 + abs(float(quantile)))
        assert lower <= flint.arb(float(p))
        assert balls.phi(flint.arb(higher)) > flint.arb(float(p))


def test_quantiles_of_certainty_stay_infinite() -> None:
    assert rounding.quantile_down(np.array([0.0, 1.0])).tolist() == [-math.inf, math.inf]


def test_without_their_margins_phi_and_its_quantile_are_on_the_wrong_side() -> None:
    # What the margins are for: plain SciPy is above the exact number at many arguments, whatever the machine.
    tried = arguments()[:400]
    values = zip(tried, ndtr(tried), strict=True)
    high = sum(not flint.arb(float(y)) <= balls.phi(flint.arb(float(x))) for x, y in values)
    shares = np.random.default_rng(3).random(400)
    quantiles = zip(shares, ndtri(shares), strict=True)
    far = sum(not balls.phi(flint.arb(float(q))) <= flint.arb(float(p)) for p, q in quantiles)
    assert min(high, far) > 20
