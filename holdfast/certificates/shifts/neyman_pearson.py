"""The worst classifier: what one number p_A proves ([H] Theorem 4.2 and A.13, section 3).

The worst classifier at a budget fills the noise space by ascending likelihood ratio until it holds p_A of the clean
mass. With token groups of clean mass p, attacked mass a and log ratio l, s = epsilon / sigma and a threshold t = e^u:

    F(u) = sum p Phi(y),    V(u) = sum a Phi(y - s),    y = (u - l) / s + s / 2.

By weak duality V(u) - t (F(u) - p_A) is a lower bound for *every* u, so that the root F(u) = p_A needs no accuracy
and only the evaluation has to be rounded down. Token masses are exact rationals, and p_A is compared with them
exactly, from the side (p_A or 1 - p_A) on which less is left. The ratios cover attackers who use alphabet tokens.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.noise.ratios import RatioGroups
from holdfast.certificates.rounding import Floats, down, fraction_down, fraction_up, phi_down, phi_up, up
from holdfast.certificates.search import greatest_proved, rising_root

_FAR = 37.0  # no mass that counts has a quantile beyond
_STEP = 2.0**-36
# The value at a smaller shift is bounded by the one here; division by s stays harmless.
_LEAST_SHIFT = 2.0**-40
_GREATEST_SHIFT = 100.0  # beyond it no p_A below 1 leaves a value that a float can hold
_LOG_LARGEST = 700.0


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst classifier of one p_A against the token groups that both inputs can produce.

    Attributes:
        clean: their clean masses p, each rounded once.
        adversarial: their attacked masses a, each rounded once.
        gap: their log ratios, from that of the anchor, the group which p_A cuts at shift 0.
        anchor: the anchor's log ratio.
        start: the threshold in the anchor group at shift 0.
        included: clean mass of theirs that the test holds (p_A without the groups of ratio 0), rounded down.
        excluded: clean mass that the test leaves out (1 - p_A), rounded up.
        knapsack: the value at shift 0, rounded down.
        farthest: the reach without a token budget bounds any; the quantile of p_A.
    """

    clean: Floats
    adversarial: Floats
    gap: Floats
    anchor: float
    start: float
    included: float
    excluded: float
    knapsack: float
    farthest: float

    def at(self, t: float) -> float:
        """The attacked mass that is left at every input at most t sigma away, rounded down."""
        if t == 0.0 or self.excluded == 0.0 or self.knapsack == 0.0:
            return self.knapsack
        return min(self.knapsack, _proved_value(self, t)) if t <= _GREATEST_SHIFT else 0.0

    def reach(self, level: float) -> float | None:
        """Where the value passes the level, rounded down; None is nowhere, inf only for p_A = 1."""
        if self.knapsack <= level:
            return None
        if self.excluded == 0.0:
            return math.inf
        return greatest_proved(_guessed_reach(self, level), lambda t: _proved_value(self, t) > level)


_NOTHING = np.zeros(0)


def worst_classifier(p_lower: float, groups: RatioGroups) -> Worst:
    """The worst classifier that holds p_lower of the clean mass; nothing is left where groups of ratio 0 can hold it.

    Args:
        p_lower: lower bound p_A on the clean smoothed probability, in [0, 1].
        groups: of the whole noise, by ascending ratio.

    Raises:
        ValueError: p_lower outside its range.
    """
    p_lower = ranges.closed_unit("p_lower", p_lower)
    rows = [
        row for row in zip(groups.clean, groups.adversarial, groups.log_ratio, strict=True) if math.isfinite(row[2])
    ]
    excluded = 1 - Fraction(p_lower)
    included = sum((row[0] for row in rows), Fraction(0)) - excluded
    if included <= 0:
        return Worst(_NOTHING, _NOTHING, _NOTHING, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
    value, left = Fraction(0), included
    for clean, adversarial, anchor in rows:  # noqa: B007  the group that the loop ends in is the anchor
        share = min(Fraction(1), left / clean)
        value += share * adversarial
        left -= share * clean
        if not left:
            break
    return Worst(
        clean=np.array([float(row[0]) for row in rows]),
        adversarial=np.array([float(row[1]) for row in rows]),
        gap=np.array([row[2] for row in rows]) - anchor,
        anchor=anchor,
        start=_quantile(share, 1 - share),
        included=fraction_down(included),
        excluded=fraction_up(excluded),
        knapsack=fraction_down(value),
        farthest=_quantile(Fraction(p_lower), excluded),
    )


def _quantile(below: Fraction, above: Fraction) -> float:
    """Normal quantile of below / (below + above), precise in both tails."""
    total = below + above
    return float(ndtri(float(below / total)) if below < above else -ndtri(float(above / total)))


def _arguments(worst: Worst, shift: float, threshold: float) -> Floats:
    """The y of every group; `threshold` is (u - anchor) / s."""
    return threshold - worst.gap / shift + shift / 2.0


def _threshold(worst: Worst, shift: float, start: float) -> float:
    """Approximate root of F = p_A, by Newton steps on the probit of the smaller side."""
    mass = worst.included + worst.excluded
    sign = 1.0 if worst.included <= worst.excluded else -1.0
    target = float(ndtri(min(worst.included, worst.excluded) / mass))

    def deviation(threshold: float) -> tuple[float, float]:
        y = _arguments(worst, shift, threshold)
        probit = float(ndtri(worst.clean @ ndtr(sign * y) / mass))
        if abs(probit) > _FAR:
            return math.copysign(math.inf, sign * probit), 0.0
        return sign * (probit - target), _density(worst.clean, y) / mass * math.exp(0.5 * probit**2)

    ends = sign * target - shift / 2.0 + worst.gap / shift
    return rising_root(deviation, float(np.min(ends)) - 1.0, float(np.max(ends)) + 1.0, start, _STEP)


def _density(masses: Floats, arguments: Floats) -> float:
    """Sum of masses times exp(-arguments^2 / 2)."""
    return float(masses @ np.exp(-0.5 * np.minimum(np.abs(arguments), 38.0) ** 2))


def _proved_value(worst: Worst, shift: float) -> float:
    """The dual bound V - t (F - p_A) at a near-optimal threshold, every rounding taken against us."""
    shift = max(shift, _LEAST_SHIFT)
    threshold = _threshold(worst, shift, worst.start - shift / 2.0)
    threshold = min(threshold, (_LOG_LARGEST - worst.anchor) / shift)
    y = _arguments(worst, shift, threshold)
    sums = len(y)  # a rounding of the mass, one of its product, and the sum's
    value = down(float(worst.adversarial @ phi_down(y - shift)), sums)
    if worst.included <= worst.excluded:
        slack = down(worst.included - up(float(worst.clean @ phi_up(y)), sums))
    else:
        slack = down(down(float(worst.clean @ phi_down(-y)), sums) - worst.excluded)
    return max(0.0, down(value + down(math.exp(worst.anchor + shift * threshold) * slack)))


def _guessed_reach(worst: Worst, level: float) -> float:
    """Approximate reach; the one without a token budget bounds it."""
    target = float(ndtri(level))
    cap = max(0.0, worst.farthest - target)
    warm = worst.start

    def deviation(shift: float) -> tuple[float, float]:
        nonlocal warm
        shift = max(shift, _LEAST_SHIFT)
        warm = _threshold(worst, shift, warm)
        x = _arguments(worst, shift, warm) - shift
        probit = float(ndtri(worst.adversarial @ ndtr(x)))
        if abs(probit) > _FAR:
            return math.copysign(math.inf, -probit), 0.0
        # Along the optimum dV/ds is minus the attacked mass at the threshold (envelope theorem).
        return target - probit, _density(worst.adversarial, x) * math.exp(0.5 * probit**2)

    start = float(ndtri(worst.knapsack)) - target
    return rising_root(deviation, 0.0, cap, start, _STEP)
