"""What a deployed verdict finds of what is certified: fresh passes counted against a number of flags (section 8).

Certified is the ideal predicate g > tau. A verdict has no g, it has N fresh passes, and flags an input where at least c
of them are Unsafe. Under erase-and-check it does so for each truncation of the text; one of them is the clean text, so
what is said here of one count holds for the verdict, without a union over truncations.
"""

from fractions import Fraction

import numpy as np

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import binomial_tail_down
from holdfast.certificates.rounding import phi_down, quantile_down, up


def flags_above(tau: float, passes: int) -> int:
    """c, the least number of Unsafe passes whose share of the passes exceeds tau.

    The verdict's own estimate of g > tau: as the passes grow, it is wrong only where g = tau.

    Args:
        tau: decision threshold, strictly between 0 and 1.
        passes: N, fresh passes of one input, at least 1.

    Returns:
        1..passes, computed in rationals.

    Raises:
        ValueError: a value outside its range.
    """
    passes = ranges.whole("passes", passes, least=1)
    return int(Fraction(ranges.open_unit("tau", tau)) * passes) + 1


def detection_probability(lower: float, *, epsilon: float, sigma: float, passes: int, flags: int) -> float:
    """How likely a verdict flags an attacked input at least: P[Bin(N, B) >= c], B = Phi(Phi^-1(L) - epsilon/sigma).

    If g of the clean text is at least L, each fresh pass of the truncation that restores it is Unsafe with probability
    at least B, whatever was appended and wherever within epsilon the image was moved (Cohen et al. 2019), and the tail
    rises with B. Where L is a confidence bound, all of this holds at its confidence; the passes must be independent of
    the draws behind it.

    Args:
        lower: L, lower bound on the clean smoothed Unsafe probability, in [0, 1].
        epsilon: L2 norm of the image shift between points of the noise's lattice, at least 0, in the units of sigma; of
            images that are still to be rounded to it, what `rounded_distance` makes of their distance.
        sigma: standard deviation of the image noise, above 0.
        passes: N, fresh passes of each truncation, at least 1.
        flags: c, Unsafe passes that flag it, 1..passes.

    Returns:
        A probability in [0, 1], rounded down; 0 where it is below 1e-200.

    Raises:
        ValueError: a value outside its range.
    """
    lower = ranges.closed_unit("lower", lower)
    shift = up(ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma))
    passes, flags = ranges.whole("passes", passes, least=1), ranges.whole("flags", flags, least=1)
    if flags > passes:
        raise ValueError(f"flags={flags} must be at most passes={passes}; lower flags or raise passes")
    if lower == 1.0:  # what never fails does not at any distance
        return 1.0
    (kept,) = phi_down(quantile_down(np.array([lower])) - shift)
    return binomial_tail_down(flags, passes, float(kept))
