"""What draws of a score at x prove about its mean at every x' of distance t sigma (section 6).

Under Gaussian noise an event of probability p at x has at least Phi(Phi^-1(p) - t) at x'. A score in [0, 1] is an
integral of the events S >= v; its mean alone gives one number p ([F] Theorem 3.2), its law gives one per value v
(Kumar et al. 2020):

    E[S(x')] >= sum over j of (v_j - v_{j-1}) Phi(Phi^-1(L_j) - t),    v_0 = 0,    L_j <= P[S(x) >= v_j].

A bound on the mean is the case of one value, v_1 = 1.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast.certificates.bounds.means import Floats, MeanBound, ScoreSample, mean_lower, unit_numbers
from holdfast.certificates.search import greatest_proved, rising_root

# Relative margin off a value: Phi and its rounded argument err by less than 2e-12 down to -37, the sum of m terms by
# m 2^-52; below, floats lose their relative precision and the value counts as 0.
_ROUNDING = 2.0**-38
_SMALLEST = 1e-290
_QUANTILE_ROUNDING = 2.0**-48
_FAR = 37.0
_STEP = 2.0**-40
# Ranks lie evenly in the normal quantile of rank / draws, up to where nothing is left that a shift could keep.
_POINTS = 120
_HIGHEST = 2.0


@dataclass(frozen=True)
class MeanShift:
    """What a lower bound on E[S(x)] proves elsewhere: Phi(Phi^-1(lower) - t) ([F] Theorem 3.2).

    Attributes:
        lower: the bound, in [0, 1].

    Raises:
        ValueError: it is outside its range.
    """

    lower: float

    def __post_init__(self) -> None:
        ranges.closed_unit("lower", self.lower)

    def at(self, t: float) -> float:
        """Lower bound on E[S(x')] for every x' at most t sigma away; t is at least 0. Nonincreasing, rounded down."""
        return _at(*self._steps(), ranges.nonnegative("t", t))

    def reach(self, level: float) -> float | None:
        """Largest t found with at(t) > level, for level in (0, 1), rounded down; None when there is none."""
        return _reach(*self._steps(), ranges.open_unit("level", level))

    def _steps(self) -> tuple[Floats, Floats]:
        return np.ones(1), _quantiles(np.array([self.lower]))


@dataclass(frozen=True, eq=False)
class CurveShift:
    """What lower bounds on the survival function of S(x) prove elsewhere (section 6, CDF bound).

    Attributes:
        values: v_1 < ... < v_m in [0, 1], (m,).
        survival: L_j, lower bounds on P[S(x) >= v_j], nonincreasing in [0, 1], (m,).

    Raises:
        ValueError: values outside their range or order, or not as many of both.
    """

    values: Floats
    survival: Floats

    def __post_init__(self) -> None:
        values, survival = unit_numbers("values", self.values), unit_numbers("survival", self.survival)
        if values.shape != survival.shape:
            raise ValueError(f"survival holds {len(survival)} bounds and must hold {len(values)}; pass one per value")
        if np.any(np.diff(values) <= 0.0) or np.any(np.diff(survival) > 0.0):
            raise ValueError("values must ascend and survival must not; order both by value")
        for name, array in (("values", values), ("survival", survival)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def at(self, t: float) -> float:
        """Lower bound on E[S(x')] for every x' at most t sigma away; t is at least 0. Nonincreasing, rounded down."""
        return _at(*self._steps(), ranges.nonnegative("t", t))

    def reach(self, level: float) -> float | None:
        """Largest t found with at(t) > level, for level in (0, 1), rounded down; None when there is none."""
        return _reach(*self._steps(), ranges.open_unit("level", level))

    def survival_at(self, t: float) -> Floats:
        """Lower bounds on P[S(x') >= v_j] for every x' at most t sigma away, nonincreasing, rounded down, (m,)."""
        kept = ndtr(_quantiles(self.survival) - ranges.nonnegative("t", t)) * (1.0 - _ROUNDING)
        return np.minimum.accumulate(np.where(kept > _SMALLEST, kept, 0.0))

    def _steps(self) -> tuple[Floats, Floats]:
        return np.diff(self.values, prepend=0.0), _quantiles(self.survival)


Shift = MeanShift | CurveShift


def mean_shift(
    scores: ArrayLike | ScoreSample, alpha: float, *, bound: MeanBound = "betting", horizon: int | None = None
) -> MeanShift:
    """The shift of a mean; holds for all x' and t at once with probability at least 1 - alpha.

    Args:
        scores: independent draws of S(x) in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.
        bound: the bound on the mean; `betting` with a fixed horizon holds at every number of draws, the others at
            one fixed beforehand.
        horizon: of the betting bound.

    Raises:
        ValueError: a value outside its range.
    """
    return MeanShift(mean_lower(scores, alpha, bound=bound, horizon=horizon))


def curve_shift(scores: ArrayLike | ScoreSample, alpha: float) -> CurveShift:
    """The shift of a whole law; holds for all x' and t at once with probability at least 1 - alpha.

    The number of draws is fixed beforehand, and with it and alpha the ranks and their shares of alpha. The order
    statistic at rank i has P[S >= v] >= L except with the share of its rank, L the Clopper–Pearson bound of n-i+1
    successes in n: whatever the law, ties included.

    Args:
        scores: independent draws of S(x) in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.

    Raises:
        ValueError: a value outside its range.
    """
    sample = ScoreSample.of(scores)
    ranks, survival = _ranked(sample.size, ranges.open_unit("alpha", alpha))
    values = sample.values[np.searchsorted(np.cumsum(sample.counts), ranks)]
    # Of tied order statistics the first has the best bound on the one event S >= v.
    distinct, first = np.unique(values, return_index=True)
    return CurveShift(distinct, survival[first])


@lru_cache(maxsize=64)
def _ranked(draws: int, alpha: float) -> tuple[NDArray[np.int64], Floats]:
    """Ranks 1..draws, ascending, and lower bounds on the probability of a score at least as high as at each.

    The j-th rank gets a share of alpha proportional to 1/j: large shifts leave only what the lowest ranks prove.
    """
    spread = np.linspace(ndtri(0.5 / draws), _HIGHEST, _POINTS)
    ranks = np.unique(np.clip(np.rint(draws * ndtr(spread)), 1, draws).astype(np.int64))
    weights = 1.0 / np.arange(1.0, len(ranks) + 1.0)
    shares = alpha * (1.0 - _ROUNDING) * weights / weights.sum()
    bounds = [clopper_pearson_lower(draws - int(i) + 1, draws, float(a)) for i, a in zip(ranks, shares, strict=True)]
    return ranks, np.array(bounds)


def _quantiles(probabilities: Floats) -> Floats:
    """Normal quantiles, rounded down."""
    quantiles: Floats = ndtri(probabilities)
    finite = np.isfinite(quantiles)
    quantiles[finite] -= _QUANTILE_ROUNDING * (1.0 + np.abs(quantiles[finite]))
    return quantiles


def _at(steps: Floats, quantiles: Floats, t: float) -> float:
    value = float(steps @ ndtr(quantiles - t)) * (1.0 - _ROUNDING)
    return value if value > _SMALLEST else 0.0


def _reach(steps: Floats, quantiles: Floats, level: float) -> float | None:
    if float(steps @ np.isposinf(quantiles)) * (1.0 - _ROUNDING) > level:
        return math.inf
    if _at(steps, quantiles, 0.0) <= level:
        return None
    target = float(ndtri(level))
    finite = quantiles[np.isfinite(quantiles)]

    def deviation(t: float) -> tuple[float, float]:
        probit = float(ndtri(min(1.0, float(steps @ ndtr(quantiles - t)))))
        if abs(probit) > _FAR:
            return math.copysign(math.inf, -probit), 0.0
        density = float(steps @ np.exp(-0.5 * np.minimum(np.abs(quantiles - t), 38.0) ** 2))
        return target - probit, density * math.exp(0.5 * probit**2)

    farthest = max(0.0, float(np.max(finite)) + _FAR) if finite.size else 0.0
    guess = rising_root(deviation, 0.0, farthest, 0.0, _STEP)
    return greatest_proved(guess, lambda t: _at(steps, quantiles, t) > level)
