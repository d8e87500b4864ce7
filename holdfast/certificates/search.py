"""Two searches: one that guesses a root fast, one that answers only with a point proved on the safe side."""

import math
from collections.abc import Callable

from holdfast.certificates.rounding import SMALLEST, ULP

_GRID_BITS = 32
# Room for a caller's last operations (a factor sigma), and for those of whoever evaluates at the product again.
_BEYOND = 1024


def rising_root(
    function: Callable[[float], tuple[float, float]], low: float, high: float, start: float, tolerance: float
) -> float:
    """Approximate root in [low, high] of a rising function, by Newton steps that never leave the bracket.

    Args:
        function: x -> (value, slope); infinite values are allowed.
        low: an end where the function is not positive.
        high: an end where it is not negative.
        start: first guess.
        tolerance: length of the last step.

    Returns:
        A guess of the root, without any guarantee.
    """
    point = min(max(start, low), high)
    previous = math.inf
    for _ in range(200):
        value, slope = function(point)
        if value < 0.0:
            low = point
        else:
            high = point
        step = -value / slope if slope > 0.0 else math.inf
        # A step that does not shrink is Newton on a plateau or in a cycle.
        if not (low <= point + step <= high) or abs(step) > 0.75 * previous:
            step = (low + high) / 2.0 - point
        point += step
        if abs(step) <= tolerance:
            break
        previous = abs(step)
    return point


def greatest_proved(guess: float, proved: Callable[[float], bool], *, beyond: int = _BEYOND) -> float | None:
    """Largest number near `guess`, on a grid of 2^-32 of its size, where `proved` holds.

    The grid swallows the guess's own noise, so that equal questions get equal answers.

    Args:
        guess: approximately the largest number where `proved` holds.
        proved: a test that is true only of numbers on the safe side, all of them below some number.
        beyond: how many ULPs beyond the answer `proved` was asked; 0 for an answer that is used as it is.

    Returns:
        A number on the safe side, with all up to `beyond` ULPs above it; None when none above `SMALLEST` was found.
    """
    if not guess > SMALLEST:
        return None
    unit = math.ldexp(1.0, math.frexp(guess)[1] - _GRID_BITS)
    steps = math.floor(guess * (1.0 + 2.0**-38) / unit)
    back = 0
    while back < steps:
        candidate = (steps - back) * unit
        if proved(candidate * (1.0 + beyond * ULP)):
            return candidate
        back = 2 * back + 1
    return None
