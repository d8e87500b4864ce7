"""Directed rounding: every step of a bound is taken toward caution, by an operator whose name says the side.

After OpenDP's `inf_ln` and `neg_inf_sub`. `_down` is at most, `_up` at least the exact number, if what was put in was
wrong by no more than is allowed for. What is allowed for, in `ULP`s:

- one operation (+ - * / sqrt, fsum, a product with a whole number): half of one, by IEEE 754;
- a sum or product of n numbers of one sign: n - 1 operations, whatever their order;
- a function of libm, or of NumPy over arrays, with the operations around it: `LIBRARY` and `VECTOR`, because the
  last digits of both differ between machines;
- Phi and Phi^-1 of SciPy: what `phi_down` and `quantile_down` say, four times what was measured against Arb.

Relative precision ends where floats become subnormal, so that a positive bound below `SMALLEST` counts as 0.
"""

import math
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]
Real = TypeVar("Real", float, Floats)

ULP = 2.0**-52
"""One unit in the last place of 1.0: the unit of every margin. Relatively, a float's own is half of it to all of it."""

LIBRARY = 4
"""ULPs allowed to a logarithm or lgamma and the operations around it; measured was 1.1, glibc alone errs by less."""

VECTOR = 8
"""ULPs allowed to NumPy's logarithm of an array and the operations around it; its own error is at most 4."""

SMALLEST = 1e-290
"""Bounds below it count as 0: above it even the 2^-52nd part of a number is a normal float."""


def down(value: Real, ulps: int = 1) -> Real:
    """A finite number lower by at least `ulps` and at most `ulps` + 2 units, relative to its size."""
    return value - (ulps + 1) * ULP * abs(value)


def up(value: Real, ulps: int = 1) -> Real:
    """A finite number higher by at least `ulps` and at most `ulps` + 2 units, relative to its size."""
    return value + (ulps + 1) * ULP * abs(value)


def positive_down(value: Real, ulps: int = 1) -> Real:
    """`down` of a number of at least 0; 0 where it is too small to be rounded relatively."""
    lowered = down(value, ulps)
    return lowered * (lowered > SMALLEST)


def room(size: float, ulps: int = 1) -> float:
    """The error of a sum whose terms have absolute values of this sum, at `ulps` units each."""
    return ulps * ULP * size


def fraction_down(value: Fraction) -> float:
    """The largest float that is at most this number; the largest of all where it is beyond every float."""
    if value > Fraction(np.finfo(np.float64).max):
        return float(np.finfo(np.float64).max)
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


def share_down(whole: float, parts: int) -> float:
    """An equal share, rounded down once: so many of them are at most the whole."""
    return fraction_down(Fraction(whole) / parts)


def fraction_up(value: Fraction) -> float:
    """The smallest float that is at least this number, which lies within the floats."""
    return -fraction_down(-value)


def one_minus_down(value: float) -> float:
    """1 - value, rounded down once."""
    return fraction_down(1 - Fraction(value))


def one_minus_up(value: float) -> float:
    """1 - value, rounded up once."""
    return fraction_up(1 - Fraction(value))


def phi_down(arguments: Floats) -> Floats:
    """The normal distribution function, rounded down; arguments may be wrong by one rounding.

    Phi's relative error grows with the square of a negative argument, by its own exponential and by the argument's
    rounding; arguments below -40 give 0.
    """
    return np.maximum(ndtr(arguments) * (1.0 - _phi_error(arguments)) - SMALLEST, 0.0)


def phi_up(arguments: Floats) -> Floats:
    """The normal distribution function, rounded up; arguments may be wrong by one rounding. May exceed 1."""
    return ndtr(arguments) * (1.0 + _phi_error(arguments)) + SMALLEST


def quantile_down(probabilities: Floats) -> Floats:
    """Normal quantiles, rounded down; -inf at 0 and inf at 1. Allowed for are 16 ULPs of 1 + |quantile|."""
    quantiles: Floats = ndtri(probabilities)
    finite = np.isfinite(quantiles)
    quantiles[finite] -= 16.0 * ULP * (1.0 + np.abs(quantiles[finite]))
    return quantiles


def _phi_error(arguments: Floats) -> Floats:
    return (16.0 + 4.0 * np.clip(arguments, -40.0, 0.0) ** 2) * ULP
