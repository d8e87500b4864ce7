"""Rounded Gaussian noise on the lattice, exact: P[k] is the normal law's mass of the cell around k, and nothing else.

One 64-bit word makes one value: value i has word i mod 4 of Philox counter i // 4. The word's lowest bits name a layer
of the staircase, the others are the leading binary digits of a uniform V in [-1, 1), of which there are infinitely many
more under the same key. In a rectangle X = radius V; in the rest |X| is where the rest's mass from 0 reaches |V| times
its whole. The value is k = floor(sigma X / h + 1/2).

Both are computed in float64 with a bound on the error, digits not read included. Where k is not certain, it is
computed again from rationals and long decimals, with as many digits of V as it takes. So k is a function of the key's
words alone, whatever device, library or processor computed it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from holdfast.certificates.noise.staircase import LAYERS, rest_beyond, staircase

FURTHER = 2**192
"""Counters from here on hold further digits: attempt j of value i has counter FURTHER + j 2^64 + i."""

LAYER_BITS = LAYERS.bit_length() - 1
"""How many of a word's bits, the lowest, name its layer."""

WORDS = 4
"""Of 64 bits, that Philox4x64-10 makes of one counter."""

_ONE = 2 ** (63 - LAYER_BITS)  # what V's digits in a value's own word count up to, from minus as much
_COUNTERS = 2**256
_SLACK = 2.0**-47  # of the rest's mass: SciPy's Phi is allowed 2^-48 in `rounding`, the rest of the sum 2^-50
_FARTHEST = 48  # in units of sigma: beyond it lies less than 10^-500 of the mass
_STEPS = 10  # of Newton's method; what it misses is computed exactly


def host_words(key: int, counter: int, count: int) -> NDArray[np.uint64]:
    """The first words from a counter on, of Philox4x64-10 (Salmon et al. 2011).

    Args:
        key: 128 bits.
        counter: 256 bits.
        count: how many words, at least 1.
    """
    # NumPy counts up before it makes a block.
    generator = np.random.Generator(np.random.Philox(key=key, counter=(counter - 1) % _COUNTERS))
    return generator.integers(0, 2**64 - 1, count, np.uint64, endpoint=True)  # unlike random_raw frees other threads


@dataclass(frozen=True, eq=False)
class Stream:
    """The values of one key at one sigma, any of them at any time.

    Where a word names a rectangle, and its digits times `widths` are farther than `room` from the middle between two
    whole numbers, its value is the nearest one. All others are for `uncertain`.

    Attributes:
        key: 128 bits.
        scale: sigma / h, above 0.
    """

    key: int
    scale: float

    @property
    def room(self) -> float:
        """How far from a cell's border a rectangle's float64 value is certain.

        The digits not read are worth up to 2^-52 of the largest value, two roundings as much together; as much again
        is spared.
        """
        return float(self.scale * staircase().radii[0] * 2.0**-50)

    @property
    def widths(self) -> NDArray[np.float64]:
        """Of the rectangles by layer, for each unit of the digits read; NaN for a layer of the rest."""
        table, radii = np.full(LAYERS, np.nan), staircase().radii
        table[: len(radii)] = self.scale * radii / _ONE
        return table

    def uncertain(self, index: NDArray[np.int64], word: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values in units of h, exact.

        Meant for those of the rest, and the few of a rectangle that are too near to a cell's border.

        Args:
            index: (n,), each value's in the stream.
            word: (n,), the bits of their words.

        Returns:
            (n,), whole numbers.
        """
        above = (word & (LAYERS - 1)) >= len(staircase().radii)
        found, certain = self._from_rest(word >> LAYER_BITS)
        for at in np.flatnonzero(~(above & certain)):
            found[at] = self.exact(int(index[at]), int(word[at]))
        return found

    def _from_rest(self, digits: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values of the rest, and which are certain."""
        stair = staircase()
        size = np.where(digits < 0, ~digits, digits) + 0.5
        mass = size * (stair.rest / _ONE)
        at = np.searchsorted(stair.above, mass, side="right") - 1
        x = np.where(at < len(stair.radii), self._within(at, mass), -ndtri(stair.rest - mass))
        whole = np.floor(x * self.scale + 0.5)
        lower, upper = np.maximum(whole - 0.5, 0.0) / self.scale, (whole + 0.5) / self.scale
        certain = (whole == 0.0) | (_rest_mass(lower) < mass - _SLACK)
        certain &= _rest_mass(upper) > mass + _SLACK
        return np.copysign(whole, digits), certain

    def _within(self, at: NDArray[np.intp], mass: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the rest's mass is reached behind an edge: as if its density fell linearly, then by Newton."""
        stair = staircase()
        at = np.minimum(at, len(stair.radii) - 1)
        left, wide, height = stair.edges[at], np.diff(stair.edges)[at], stair.heights[at]
        high, low = _density(left) - height, _density(left + wide) - height
        missing, slope = np.maximum(mass - stair.above[at], 0.0), (high - low) / wide
        x = left + 2 * missing / (high + np.sqrt(np.maximum(high * high - 2 * slope * missing, 0.0)))
        for _ in range(_STEPS):
            x = np.clip(x, left, left + wide)
            gap = ndtr(x) - 0.5 - stair.beneath[at] - (x - left) * height - mass
            x = x - gap / np.maximum(_density(x) - height, 1e-12)
        return np.clip(x, left, left + wide)

    def exact(self, index: int, word: int) -> int:
        """One value from its index and word, by rationals and long decimals."""
        layer, digits, one = word & (LAYERS - 1), word >> LAYER_BITS, _ONE
        attempt = 0
        while True:
            found = self._rectangle(layer, digits, one) if layer < len(staircase().radii) else self._rest(digits, one)
            if found is not None:
                return found
            more = host_words(self.key, FURTHER + (attempt << 64) + index, WORDS)
            digits = digits << 64 * WORDS | int.from_bytes(more.astype("<u8").tobytes(), "little")
            one, attempt = one << 64 * WORDS, attempt + 1

    def _rectangle(self, layer: int, digits: int, one: int) -> int | None:
        """The value of every V in [digits, digits + 1) / one, or None where they have several."""
        width = Fraction(self.scale) * Fraction(float(staircase().radii[layer])) / one
        first = math.floor(width * digits + Fraction(1, 2))
        last = math.ceil(width * (digits + 1) + Fraction(1, 2)) - 1
        return first if first == last else None

    def _rest(self, digits: int, one: int) -> int | None:
        """As ``_rectangle``, in the rest: the first cell that ends behind the mass, found by halving."""
        size = digits if digits >= 0 else ~digits
        share = Fraction(LAYERS - len(staircase().radii), 2 * LAYERS) / one
        mass = share * size, share * (size + 1)
        low, high = -1, math.ceil(_FARTHEST * self.scale)
        if not self._ends_behind(high, *mass):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            behind = self._ends_behind(middle, *mass)
            if behind is None:
                return None
            low, high = (low, middle) if behind else (middle, high)
        return high if digits >= 0 else -high

    def _ends_behind(self, cell: int, least: Fraction, most: Fraction) -> bool | None:
        """Whether a cell ends behind a mass that lies between these; None where that is not certain."""
        digits = len(str(least.denominator)) + 20
        reached = Fraction(rest_beyond(Fraction(2 * cell + 1, 2) / Fraction(self.scale), digits))
        error = Fraction(1, 10 ** (digits - 8))
        if reached - error > most:
            return True
        return False if reached + error < least else None


def _rest_mass(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rest's mass between 0 and x."""
    stair = staircase()
    at = np.searchsorted(stair.edges, x, side="right") - 1
    found: NDArray[np.float64] = ndtr(x) - 0.5 - (at / (2 * LAYERS) + x * stair.heights[at])
    return found


def _density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return found
