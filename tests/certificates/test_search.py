import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates.search import greatest_proved, rising_root

GRID = 2.0**-31  # one step of the grid, relatively, at most


@settings(derandomize=True, max_examples=300, deadline=None)
@given(limit=st.floats(1e-280, 1e280), off=st.floats(-1e-12, 1e-12), beyond=st.sampled_from([0, 1, 1024]))
def test_the_greatest_proved_number_is_one_step_of_the_grid_below_the_limit(
    limit: float, off: float, beyond: int
) -> None:
    found = greatest_proved(limit * (1.0 + off), lambda x: x <= limit, beyond=beyond)
    assert found is not None
    assert limit * (1.0 - GRID) <= found <= limit
    assert found * (1.0 + beyond * 2.0**-52) <= limit


@settings(derandomize=True, max_examples=300, deadline=None)
@given(point=st.integers(2**31, 2**32 - 1), sigma=st.floats(1e-3, 1e3))
def test_a_factor_leaves_what_was_found_below_the_limit_it_multiplies(point: int, sigma: float) -> None:
    # The limit is a point of the grid, so that a product rounded up would pass it.
    limit = math.ldexp(point, -32)
    found = greatest_proved(limit, lambda x: x <= limit)
    assert found is not None
    assert Fraction(found * sigma) <= Fraction(limit) * Fraction(sigma)
    assert (found * sigma) / sigma <= limit


@pytest.mark.parametrize("point", [2**31, 2**31 + 1, 3 * 2**30, 2**32 - 1])
def test_an_answer_that_is_used_as_it_is_may_be_the_limit_itself(point: int) -> None:
    limit = math.ldexp(point, -32)
    assert greatest_proved(limit, lambda x: x <= limit, beyond=0) == limit
    below = math.nextafter(limit, 0.0)
    found = greatest_proved(limit, lambda x: x <= below, beyond=0)
    assert found is not None
    assert limit * (1.0 - GRID) <= found < limit


@settings(derandomize=True, max_examples=100, deadline=None)
@given(guess=st.floats(0.1, 10.0), noise=st.floats(-1e-13, 1e-13))
def test_a_guess_with_noise_finds_the_same_number(guess: float, noise: float) -> None:
    # In the middle of a step of the grid, where no noise of the guess reaches a neighbour.
    unit = math.ldexp(1.0, math.frexp(guess)[1] - 32)
    middle = (math.floor(guess / unit) + 0.5) * unit
    found = {greatest_proved(middle * (1.0 + off), lambda x: x <= middle) for off in (0.0, noise)}
    assert found == {middle - unit / 2.0}


@pytest.mark.parametrize("short", [1e-9, 1e-6, 1e-3, 0.4])
def test_a_guess_that_is_too_high_is_taken_back_until_it_is_proved(short: float) -> None:
    found = greatest_proved(1.0, lambda x: x <= 1.0 - short)
    assert found is not None
    assert 1.0 - 2.1 * short - GRID <= found <= 1.0 - short


def test_a_guess_just_below_a_point_of_the_grid_is_that_point() -> None:
    assert greatest_proved(0.75 * (1.0 - 2.0**-40), lambda x: x <= 1.0, beyond=0) == 0.75


@pytest.mark.parametrize("guess", [0.0, -1.0, math.nan, 1e-290, 5e-324])
def test_a_guess_of_nothing_proves_nothing(guess: float) -> None:
    assert greatest_proved(guess, lambda x: True) is None


def test_what_is_nowhere_proved_is_not_found_and_asked_seldom() -> None:
    asked: list[float] = []

    def proved(x: float) -> bool:
        asked.append(x)
        return False

    assert greatest_proved(0.7, proved) is None
    assert len(asked) == 32
    assert min(asked) > 0.0


@pytest.mark.parametrize("start", [-5.0, 0.0, 0.3, 9.0])
@pytest.mark.parametrize("root", [0.0, 0.5, 2.0])
def test_a_root_is_found_from_any_start(root: float, start: float) -> None:
    found = rising_root(lambda x: (x**3 + x - root**3 - root, 3.0 * x**2 + 1.0), -1.0, 4.0, start, 2.0**-40)
    assert found == pytest.approx(root, abs=2.0**-38)


def test_a_root_between_plateaus_is_found_by_halving() -> None:
    def steep(x: float) -> tuple[float, float]:
        return (-math.inf, 0.0) if x < 1.2345 else (math.inf, 0.0)

    assert rising_root(steep, 0.0, 8.0, 7.0, 2.0**-40) == pytest.approx(1.2345, abs=2.0**-38)


def test_a_cycle_of_newton_steps_is_broken() -> None:
    # x / (1 + |x|)^2 with a slope that sends every step to the other side at the same distance.
    def mirrored(x: float) -> tuple[float, float]:
        return x, 0.5

    assert rising_root(mirrored, -1.0, 3.0, 1.0, 2.0**-40) == pytest.approx(0.0, abs=2.0**-38)


def test_newton_steps_are_few_where_the_function_is_smooth() -> None:
    asked: list[float] = []

    def smooth(x: float) -> tuple[float, float]:
        asked.append(x)
        return math.exp(x) - 2.0, math.exp(x)

    assert rising_root(smooth, -5.0, 5.0, 0.0, 2.0**-40) == pytest.approx(math.log(2.0), abs=2.0**-40)
    assert len(asked) <= 7


def test_a_root_at_an_end_stays_inside_the_bracket() -> None:
    assert rising_root(lambda x: (x, 1e-9), 0.0, 1.0, 1.0, 2.0**-40) == pytest.approx(0.0, abs=2.0**-39)
    assert rising_root(lambda x: (x - 1.0, 1e-9), 0.0, 1.0, 0.0, 2.0**-40) == pytest.approx(1.0, abs=2.0**-39)
