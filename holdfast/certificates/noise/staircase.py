"""The standard normal law as a mixture: symmetric rectangles beneath its density, and the small rest above them.

Each of ``LAYERS`` layers has the same probability. The first ``n`` of them are uniform on [-x, x], one radius x each,
stacked as the layers of a ziggurat but wholly beneath the density; the others are the rest, whose law is what is left
of the normal one. Every radius is a multiple of 2^-20, chosen as large as keeps the stack beneath the density, which
is decided in 40 digits, so that every machine has the same radii.
"""

import math
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

LAYERS = 2048
"""Layers in all, a power of two."""

_GRID = 2**20
_DIGITS = 40
_ROOT_2_PI = math.sqrt(2 * math.pi)
_SLACK = Decimal(10) ** -30  # of the density, whose error at 40 digits is far below


@dataclass(frozen=True, eq=False)
class Staircase:
    """The rectangles, and what is above them, at the radii in ascending order after a 0.

    Attributes:
        radii: of the n layers, descending, shape (n,).
        edges: 0 and the radii ascending, shape (n + 1,).
        heights: of the stack to the right of each edge, shape (n + 1,); 0 beyond the last.
        beneath: the stack's area from 0 to each edge, shape (n + 1,).
        above: the rest's mass from 0 to each edge, shape (n + 1,).
    """

    radii: NDArray[np.float64]
    edges: NDArray[np.float64]
    heights: NDArray[np.float64]
    beneath: NDArray[np.float64]
    above: NDArray[np.float64]

    @property
    def rest(self) -> float:
        """The rest's mass on either side of 0, exact."""
        return (LAYERS - len(self.radii)) / (2 * LAYERS)


@lru_cache(maxsize=1)
def staircase() -> Staircase:
    """Stacks the rectangles; takes a fifth of a second, once."""
    found = _radii()
    n = len(found)
    edges = np.array([0.0, *reversed(found)])
    heights = np.array([float(height) for height in _heights(tuple(found), _DIGITS)])
    beneath = np.arange(n + 1) / (2 * LAYERS) + edges * heights
    return Staircase(np.array(found), edges, heights, beneath, ndtr(edges) - 0.5 - beneath)


def rest_beyond(point: Fraction, digits: int) -> Decimal:
    """The rest's mass between 0 and a point, off by less than 10^(8 - digits).

    Args:
        point: At least 0, at most 64.
        digits: Decimal digits to compute with, at least 20.

    Returns:
        The mass; 0 at 0, `Staircase.rest` in the limit.
    """
    radii = tuple(staircase().radii.tolist())
    at = np.searchsorted(staircase().edges * _GRID, math.floor(point * _GRID), side="right") - 1
    heights = _heights(radii, digits)
    with localcontext(Context(prec=digits)):
        b = Decimal(point.numerator) / Decimal(point.denominator)
        return _half_phi(b, digits) - Decimal(int(at)) / (2 * LAYERS) - b * heights[at]


def _radii() -> list[float]:
    found: list[float] = []
    with localcontext(Context(prec=_DIGITS)):
        root, height, x = (2 * pi(_DIGITS)).sqrt(), Decimal(0), 4.5
        while True:
            guess = math.floor(_crossing(x, float(height)) * _GRID) + 2
            fits = next((g for g in range(guess, guess - 5, -1) if _beneath(g, height, root)), None)
            if fits is None:
                return found
            x = fits / _GRID
            found.append(x)
            height += 1 / (2 * LAYERS * Decimal(x))


def _crossing(x: float, height: float) -> float:
    """Where the density comes down to this height and another layer on it; the start lies to the right of it."""
    for _ in range(50):
        density = math.exp(-x * x / 2) / _ROOT_2_PI
        gap, slope = density - height - 1 / (2 * LAYERS * x), 1 / (2 * LAYERS * x * x) - x * density
        if slope >= 0.0 or x - gap / slope <= 0.0:
            break
        x -= gap / slope
    return x


def _beneath(grid: int, height: Decimal, root: Decimal) -> bool:
    x = Decimal(grid) / _GRID
    return height + 1 / (2 * LAYERS * x) <= (-x * x / 2).exp() / root * (1 - _SLACK)


@lru_cache(maxsize=4)
def _heights(radii: tuple[float, ...], digits: int) -> tuple[Decimal, ...]:
    """The stack's height to the right of 0 and of every radius, ascending."""
    with localcontext(Context(prec=digits)):
        found = [Decimal(0)]
        for radius in radii:
            found.append(found[-1] + 1 / (2 * LAYERS * Decimal(radius)))
    return tuple(reversed(found))


def _half_phi(b: Decimal, digits: int) -> Decimal:
    """Phi(b) - 1/2 by its series of positive terms, density(b) * sum of b^(2i+1) / (2i+1)!!."""
    term, total, i, least = b, b, 1, Decimal(10) ** -(2 * digits)
    while term > least and term > total * Decimal(10) ** -digits:
        i += 2
        term = term * b * b / i
        total += term
    return total * (-b * b / 2).exp() / (2 * pi(digits)).sqrt()


@lru_cache(maxsize=8)
def pi(digits: int) -> Decimal:
    """The circle's number to this many digits and two more (the recipe of Python's decimal page)."""
    with localcontext(Context(prec=digits + 4)):
        last, term, total, n, na, d, da = Decimal(0), Decimal(3), Decimal(3), 1, 0, 0, 24
        while total != last:
            last = total
            n, na = n + na, na + 8
            d, da = d + da, da + 32
            term = term * n / d
            total += term
    return total
