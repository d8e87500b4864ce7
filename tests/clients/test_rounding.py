from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast_client.render import rounding

probabilities = st.floats(0, 1)


def test_a_radius_that_decimals_would_round_up_is_cut() -> None:
    assert rounding.radius(0.98765) == "0.987"
    assert rounding.radius(1.9999999) == "1.999"


def test_a_probability_that_decimals_would_round_up_is_cut() -> None:
    assert rounding.probability_at_least(0.98769) == "0.987"
    assert rounding.probability_at_least(4.6689e-5) == "0.0000466"
    assert rounding.probability_at_least(0.99999) == "0.999"


@given(st.floats(-1, 1))
def test_a_shown_similarity_is_at_most_the_bound_within_a_thousandth_and_no_negative_zero(value: float) -> None:
    shown = rounding.similarity(value)
    assert Fraction(shown) <= Fraction(value) < Fraction(shown) + Fraction(1, 1000)
    assert shown != "-0.000"


@given(st.floats(0, 1e6))
def test_a_shown_radius_is_at_most_the_certified_one_and_within_a_thousandth(value: float) -> None:
    shown = Fraction(rounding.radius(value))
    assert shown <= Fraction(value) < shown + Fraction(1, 1000)


@given(probabilities)
def test_a_shown_lower_bound_is_at_most_the_bound_and_within_a_percent(value: float) -> None:
    shown = Fraction(rounding.probability_at_least(value))
    assert shown <= Fraction(value) <= shown * Fraction(101, 100)


@given(probabilities)
def test_a_shown_upper_bound_is_at_least_the_bound_and_within_a_percent(value: float) -> None:
    shown = Fraction(rounding.share_at_most(value).removesuffix(" %")) / 100
    assert shown >= Fraction(value) >= shown * Fraction(99, 100)


@given(st.floats(1e-3, 1e6))
def test_an_axis_ends_at_or_just_beyond_the_largest_value(value: float) -> None:
    assert value <= rounding.axis_end(value) <= 1.1 * value


@given(probabilities)
def test_a_shown_upper_bound_on_a_probability_is_at_least_the_bound_and_within_a_percent(value: float) -> None:
    shown = Fraction(rounding.probability_at_most(value))
    assert Fraction(value) <= shown <= 1
    assert shown * Fraction(99, 100) <= Fraction(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.001, "0.001"), (0.05 * 0.1 + 0.05 * 0.9, "0.05"), (0.1 + 0.2, "0.3"), (0.01234564, "0.01234564")],
)
def test_a_risk_is_shown_short_but_never_lower_than_it_is(value: float, shown: str) -> None:
    assert rounding.risk(value) == shown
