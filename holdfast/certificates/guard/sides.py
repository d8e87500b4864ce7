"""Both verdicts from one set of formulas: Safe is Unsafe for 1 - f, with threshold 1 - tau (section 2).

Whatever takes `verdict="safe"` speaks of Safe draws inside: counts are complemented, bounds are lower bounds on the
Safe probability, the threshold is `safe_threshold(tau)`. Only what is reported turns back: an upper bound on the
Unsafe probability.
"""

import math
from fractions import Fraction
from typing import Literal

from holdfast.certificates import ranges

Verdict = Literal["unsafe", "safe"]


def safe_threshold(tau: float) -> float:
    """What the smoothed Safe probability must exceed for the Unsafe one to stay below tau.

    Args:
        tau: decision threshold on the Unsafe probability, strictly between 0 and 1.

    Returns:
        1 - tau rounded up, in (0, 1]; at 1.0 (tau below 2^-53) nothing can be certified Safe.

    Raises:
        ValueError: tau outside its range.
    """
    return _one_minus(ranges.open_unit("tau", tau))


def unsafe_at_most(safe_at_least: float) -> float:
    """Upper bound on the Unsafe probability that a lower bound on the Safe one gives.

    Args:
        safe_at_least: lower bound on the Safe probability, in [0, 1].

    Returns:
        1 - safe_at_least rounded up, in [0, 1].

    Raises:
        ValueError: safe_at_least outside its range.
    """
    return _one_minus(ranges.closed_unit("safe_at_least", safe_at_least))


def is_safe(verdict: Verdict) -> bool:
    """Whether the verdict is Safe.

    Raises:
        ValueError: it is neither `unsafe` nor `safe`.
    """
    if verdict not in ("unsafe", "safe"):
        raise ValueError(f"verdict={verdict!r} must be one of unsafe, safe; name one of them")
    return verdict == "safe"


def threshold(tau: float, verdict: Verdict) -> float:
    """What the verdict's own smoothed probability must exceed to be certified."""
    return safe_threshold(tau) if is_safe(verdict) else ranges.open_unit("tau", tau)


def reported(value: float, verdict: Verdict) -> float:
    """A lower bound on the verdict's own probability, as a bound on the Unsafe one."""
    return unsafe_at_most(value) if is_safe(verdict) else value


def _one_minus(value: float) -> float:
    nearest = 1.0 - value
    return nearest if Fraction(nearest) >= 1 - Fraction(value) else math.nextafter(nearest, 1.0)
