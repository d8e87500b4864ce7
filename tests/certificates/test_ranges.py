import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from holdfast.certificates import ranges

REAL = [ranges.real, ranges.open_unit, ranges.closed_unit, ranges.positive, ranges.nonnegative]
Range = Callable[[str, float], float]


@pytest.mark.parametrize("legal", REAL)
@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf, "0.5", None, 0.5j, [0.5]])
def test_what_is_no_finite_real_number_is_refused_by_every_range(legal: Range, value: float) -> None:
    with pytest.raises(ValueError, match=r"^x=.* must be a finite real number; pass a float$"):
        legal("x", value)


@pytest.mark.parametrize("legal", REAL)
@pytest.mark.parametrize("value", [0.25, np.float32(0.25), Fraction(1, 4)])
def test_every_kind_of_real_number_becomes_a_float(legal: Range, value: float) -> None:
    assert type(legal("x", value)) is float
    assert legal("x", value) == 0.25


@pytest.mark.parametrize(
    ("legal", "value", "message"),
    [
        (ranges.open_unit, 0.0, "x=0.0 must lie strictly between 0 and 1; raise x"),
        (ranges.open_unit, -0.5, "x=-0.5 must lie strictly between 0 and 1; raise x"),
        (ranges.open_unit, 1.0, "x=1.0 must lie strictly between 0 and 1; lower x"),
        (ranges.closed_unit, -5e-324, "x=-5e-324 must lie in [0, 1]; pass a probability"),
        (ranges.closed_unit, 1.5, "x=1.5 must lie in [0, 1]; pass a probability"),
        (ranges.positive, 0.0, "x=0.0 must be above 0; raise x"),
        (ranges.positive, -1.0, "x=-1.0 must be above 0; raise x"),
        (ranges.nonnegative, -5e-324, "x=-5e-324 must be at least 0; raise x"),
    ],
)
def test_a_number_outside_its_range_is_refused_with_the_rule_and_the_remedy(
    legal: Range, value: float, message: str
) -> None:
    with pytest.raises(ValueError, match="must") as refused:
        legal("x", value)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("legal", "value"),
    [
        (ranges.open_unit, 5e-324),
        (ranges.open_unit, 1 - 2**-53),
        (ranges.closed_unit, 0.0),
        (ranges.closed_unit, 1.0),
        (ranges.positive, 5e-324),
        (ranges.nonnegative, 0.0),
        (ranges.real, -1e300),
    ],
)
def test_the_last_number_within_its_range_is_legal(legal: Range, value: float) -> None:
    assert legal("x", value) == value


@pytest.mark.parametrize("value", [True, 1.0, "1", None, np.float64(1.0)])
def test_what_is_no_integer_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=r"^n=.* must be an integer; pass an int$"):
        ranges.whole("n", value)


def test_an_integer_is_at_least_what_it_must_be() -> None:
    assert ranges.whole("n", 0) == 0
    assert ranges.whole("n", np.int8(3), least=3) == 3
    assert type(ranges.whole("n", np.int8(3))) is int
    for value, least in ((-1, 0), (2, 3)):
        with pytest.raises(ValueError, match="must be at least") as refused:
            ranges.whole("n", value, least=least)
        assert str(refused.value) == f"n={value} must be at least {least}; raise n"
