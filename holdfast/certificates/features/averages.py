"""What one mean of a few draws, as it is used at inference, keeps of its reference (ours, section 6).

Bounds on the smoothed feature say nothing about a mean Y of n0 draws. But each draw's score at x' dominates the law
whose survival function is the shifted curve, so that their mean dominates the mean of n0 draws from that law, and a
quantile of the latter bounds the former.
"""

import math

import numpy as np

from holdfast.certificates import ranges
from holdfast.certificates.rounding import ULP, Floats, down
from holdfast.certificates.shifts.mixtures import Law

_LEVELS = 4096  # the grid of one score; scores on it lose nothing
_LARGEST = 2**17  # cells of the sum of all draws; more draws get a coarser grid
_COARSEST = 64
# ULPs a level of the transform, in the 2-norm. Its twiddle factors and butterflies err by less than 4; the other half
# is more than the running sums, none of which is above 1, can add at any size.
_TRANSFORM = 8


def mean_of_draws_lower(law: Law, *, draws: int, t: float, alpha: float) -> float:
    """Lower bound on <Y, u>, Y the mean of fresh unit features at any x' at most t sigma away.

    Where it is positive it bounds the cosine of Y and u too, because |Y| <= 1. Given that the law holds, each Y
    fails it with probability at most alpha; together with the law's risk alpha_1 with at most alpha_1 + alpha.

    Args:
        law: what is proved of that of (1 + <f(x + e), u>) / 2.
        draws: n0, how many independent draws Y is the mean of, 1..2048, fixed beforehand.
        t: distance of x' in units of sigma, at least 0.
        alpha: risk of one Y, strictly between 0 and 1.

    Returns:
        The bound in [-1, 1), rounded down.

    Raises:
        ValueError: a value outside its range.
    """
    draws, t = ranges.whole("draws", draws, least=1), ranges.nonnegative("t", t)
    alpha, most = ranges.open_unit("alpha", alpha), _LARGEST // _COARSEST
    if draws > most:
        raise ValueError(f"draws={draws} must be at most {most}; lower draws")
    levels = min(_LEVELS, _LARGEST // draws)
    size = 1 << (draws * levels).bit_length()
    masses = _masses(law, t, levels)
    sums = np.fft.irfft(np.fft.rfft(masses, size) ** draws, size)
    # The 2-norm of all masses is at most 1, and a sum over k of them magnifies an error's by sqrt(k) <= sqrt(size).
    error = math.sqrt(size) * (draws + 2) * (math.log2(size) + draws.bit_length()) * _TRANSFORM * ULP
    below = np.cumsum(sums[: draws * levels + 1])
    total = int(np.searchsorted(np.maximum.accumulate(below), alpha - error, side="right"))
    return max(-1.0, down((2 * total - draws * levels) / (draws * levels)))


def _masses(law: Law, t: float, levels: int) -> Floats:
    """The dominated law on the grid 0..levels, every value rounded down to it."""
    survival = np.append(law.survival_at(t), 0.0)
    masses = np.zeros(levels + 1)
    masses[0] = 1.0 - survival[0]
    # A product with a power of two is exact; any other is kept from rounding up to the next level.
    scaled = law.values * levels if levels == _LEVELS else down(law.values * levels)
    np.add.at(masses, np.floor(scaled).astype(np.int64), survival[:-1] - survival[1:])
    return masses
