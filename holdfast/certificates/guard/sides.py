"""Both sides from one set of formulas: Safe is Unsafe for 1 - f, with threshold 1 - tau (section 2).

Counts are complemented once, where they come in; below that all speaks of hits, and lower bounds on their probability.
What is reported turns back here: an upper bound on the Unsafe probability.
"""

import math
from fractions import Fraction
from typing import Literal

from holdfast.certificates import ranges
from holdfast.certificates.rounding import one_minus_up

Side = Literal["unsafe", "safe"]


def safe_threshold(tau: float) -> float:
    """What the smoothed Safe probability must exceed for the Unsafe one to stay below tau.

    Args:
        tau: decision threshold on the Unsafe probability, strictly between 0 and 1.

    Returns:
        1 - tau rounded up, in (0, 1]; at 1.0 (tau below 2^-53) nothing can be certified Safe.

    Raises:
        ValueError: tau outside its range.
    """
    return one_minus_up(ranges.open_unit("tau", tau))


def unsafe_at_most(safe_at_least: float) -> float:
    """Upper bound on the Unsafe probability that a lower bound on the Safe one gives.

    Args:
        safe_at_least: lower bound on the Safe probability, in [0, 1].

    Returns:
        1 - safe_at_least rounded up, in [0, 1].

    Raises:
        ValueError: safe_at_least outside its range.
    """
    return one_minus_up(ranges.closed_unit("safe_at_least", safe_at_least))


def is_safe(verdict: Side) -> bool:
    """Whether the verdict is Safe.

    Raises:
        ValueError: it is neither `unsafe` nor `safe`.
    """
    if verdict not in ("unsafe", "safe"):
        raise ValueError(f"verdict={verdict!r} must be one of unsafe, safe; name one of them")
    return verdict == "safe"


def threshold(tau: float, side: Side) -> float:
    """What the side's own smoothed probability must exceed to be certified."""
    return safe_threshold(tau) if is_safe(side) else ranges.open_unit("tau", tau)


def reported(value: float, side: Side) -> float:
    """A lower bound on the side's own probability, as a bound on the Unsafe one."""
    return unsafe_at_most(value) if is_safe(side) else value


def passes_to_detect(probability: float) -> int:
    """Plain noisy passes that see at least one Unsafe with 99 % probability (section 2).

    Args:
        probability: the smoothed probability of Unsafe, in (0, 1].

    Returns:
        The smallest n with (1 - probability)^n <= 0.01; where logarithms cannot settle a tie, one more.

    Raises:
        ValueError: probability outside its range.
    """
    if ranges.closed_unit("probability", probability) == 0.0:
        raise ValueError("probability=0.0 must be above 0: no number of passes is enough; ask only where it is")
    miss = 1 - Fraction(probability)
    if not miss:
        return 1
    exact = math.log(0.01) / math.log1p(-probability)
    fewest, most = (math.ceil(exact * (1.0 + rounding)) for rounding in (-(2.0**-44), 2.0**-44))
    settled = fewest <= 64 and miss**fewest <= Fraction(1, 100)
    return fewest if fewest == most or settled else most
