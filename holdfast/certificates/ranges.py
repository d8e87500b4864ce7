"""The legal range of every parameter of a certificate; a refusal names the value, the rule and the remedy."""

import math
import operator
from numbers import Real
from typing import SupportsFloat, SupportsIndex


def real(name: str, value: SupportsFloat) -> float:
    """Returns `value` as a float.

    Raises:
        ValueError: it is a bool, not a real number, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(float(value)):
        raise ValueError(f"{name}={value!r} must be a finite real number; pass a float")
    return float(value)


def whole(name: str, value: SupportsIndex, *, least: int = 0) -> int:
    """Returns `value` as an int of at least `least`.

    Raises:
        ValueError: it is a bool, not an integer, or too small.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name}={value!r} must be an integer; pass an int")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name}={number} must be at least {least}; raise {name}")
    return number


def open_unit(name: str, value: SupportsFloat) -> float:
    """Returns `value`, a number strictly between 0 and 1.

    Raises:
        ValueError: it is not.
    """
    number = real(name, value)
    if not 0.0 < number < 1.0:
        remedy = f"raise {name}" if number <= 0.0 else f"lower {name}"
        raise ValueError(f"{name}={number!r} must lie strictly between 0 and 1; {remedy}")
    return number


def closed_unit(name: str, value: SupportsFloat) -> float:
    """Returns `value`, a number in [0, 1].

    Raises:
        ValueError: it is not.
    """
    number = real(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name}={number!r} must lie in [0, 1]; pass a probability")
    return number


def positive(name: str, value: SupportsFloat) -> float:
    """Returns `value`, a number above 0.

    Raises:
        ValueError: it is not.
    """
    number = real(name, value)
    if number <= 0.0:
        raise ValueError(f"{name}={number!r} must be above 0; raise {name}")
    return number


def nonnegative(name: str, value: SupportsFloat) -> float:
    """Returns `value`, a number of at least 0.

    Raises:
        ValueError: it is not.
    """
    number = real(name, value)
    if number < 0.0:
        raise ValueError(f"{name}={number!r} must be at least 0; raise {name}")
    return number
