"""Lower confidence bounds on the mean of scores in [0, 1] (section 6).

All are rounded down: the searches return a mean at which the defining inequality was checked with room for
floating-point error, the closed forms give up a few units in the last place. The bounds found by search are at most
1e-8 (relative) below the exact ones up to 10^6 draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from holdfast.certificates import ranges
from holdfast.certificates.rounding import SMALLEST, VECTOR, down, room
from holdfast.certificates.search import greatest_proved, rising_root

Floats = NDArray[np.float64]

MeanBound = Literal["betting", "empirical_bernstein", "kl", "hoeffding"]
"""`betting` holds at every number of draws at once for a fixed horizon, the others at one number fixed beforehand."""

# ULPs off a mean whose bound is in closed form or a divergence. Behind it are fewer than ten operations and one
# logarithm, and none of their errors is relative to more than the mean, because a width above it leaves no bound.
_CLOSED = 15
_STEP = 2.0**-40  # the last Newton step in the logarithm of the mean

# The bets of the betting bound, as shares of what can be lost at a score of 0. Staking all of it costs almost nothing
# near a mean of 1 and gets half the weight; the next serves ones with a few zeros; a log grid serves every spread.
_ALL = 1.0
_NEARLY_ALL = 0.9375
_RATIO = 1.5
_STANDING = np.append(_ALL, _NEARLY_ALL * _RATIO ** -np.arange(11.0))
_STANDING_WEIGHTS = np.append(0.75, np.full(11, 0.25 / 11))
_LEAST = 0.125  # in units of sqrt(8 ln(1/alpha) / horizon), the best bet when half the scores are 0 and half 1


@dataclass(frozen=True, eq=False)
class ScoreSample:
    """Draws of a score in [0, 1] as distinct values with multiplicities: all that the bounds need.

    Attributes:
        values: distinct scores, ascending, (levels,) float64, read-only.
        counts: how many draws had each, at least 1, (levels,) int64, read-only.

    Raises:
        ValueError: no draws, scores outside [0, 1], not finite or not ascending, counts that are not whole or
            below 1.
    """

    values: Floats
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        values, counts = unit_numbers("values", self.values), np.array(self.counts)
        if counts.dtype.kind not in "iu" or counts.shape != values.shape:
            raise ValueError(f"counts of {counts.dtype} {counts.shape} must be one integer per value; count the draws")
        if counts.min() < 1:
            raise ValueError(f"counts={counts.min()} must be at least 1; leave out values without draws")
        if np.any(np.diff(values) <= 0.0):
            raise ValueError("values must be distinct and ascending; merge equal values and sort them")
        counts = counts.astype(np.int64)
        for name, array in (("values", values), ("counts", counts)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def of(cls, scores: "ArrayLike | ScoreSample") -> "ScoreSample":
        """The sample of these draws, in any order; a sample is itself.

        Args:
            scores: one score in [0, 1] per draw, (draws,); or a sample.

        Raises:
            ValueError: no draws, or scores that are not finite or not in [0, 1].
        """
        if isinstance(scores, ScoreSample):
            return scores
        return cls(*np.unique(unit_numbers("scores", scores), return_counts=True))

    @property
    def size(self) -> int:
        """Number of draws."""
        return int(self.counts.sum())


def betting_lower(scores: ArrayLike | ScoreSample, alpha: float, *, horizon: int | None = None) -> float:
    """Lower bound from a mixture of constant bets (ours, section 6; after Waudby-Smith & Ramdas 2023).

    With probability at least 1 - alpha it holds for all numbers of draws n simultaneously, if the horizon is fixed
    beforehand (Ville's inequality): under mean m the wealth K_n(m) = sum_j w_j prod_i (1 + theta_j (x_i/m - 1)) is a
    nonnegative martingale of mean 1. Bets and weights depend on alpha and the horizon alone, so that the order of the
    draws does not matter; K falls in m, and the bound is the smallest m with K_n(m) < 1/alpha.

    Args:
        scores: independent draws with values in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.
        horizon: number of draws that the bets are made for, at least 1; by default those given, and then the bound
            holds at this one number of draws only.

    Returns:
        A bound in [0, 1), below the sample's mean.

    Raises:
        ValueError: scores outside [0, 1] or none, a risk or a horizon outside its range.
    """
    sample, needed = ScoreSample.of(scores), -math.log(ranges.open_unit("alpha", alpha))
    draws = sample.size if horizon is None else ranges.whole("horizon", horizon, least=1)
    return _wealth_lower(sample, needed, *_bets(needed, draws))


def standing_lower(scores: ArrayLike | ScoreSample, alpha: float) -> float:
    """The betting bound with bets that stand once and for all: it needs neither a horizon nor alpha to place them.

    With probability at least 1 - alpha it holds for all numbers of draws simultaneously. The wealth does not depend on
    alpha, so that it fails at a smaller risk only where it fails at a larger one. Three quarters are staked on
    theta = 1, which loses nothing near a mean of 1, the rest evenly on 11 bets from .9375 down to .016.

    Args:
        scores: independent draws with values in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in [0, 1), below the sample's mean.

    Raises:
        ValueError: scores outside [0, 1] or none, a risk outside its range.
    """
    needed = -math.log(ranges.open_unit("alpha", alpha))
    return _wealth_lower(ScoreSample.of(scores), needed, _STANDING, _STANDING_WEIGHTS)


def _wealth_lower(sample: ScoreSample, needed: float, bets: Floats, weights: Floats) -> float:
    """The smallest mean under which these bets earn less than e^needed."""
    values, counts = sample.values, sample.counts.astype(np.float64)
    mean = math.fsum(values * counts) / sample.size
    if mean < SMALLEST:
        return 0.0
    if not values[0]:
        bets, weights = bets[bets < _ALL], weights[bets < _ALL]
    spread = math.sqrt(max(0.0, math.fsum(values**2 * counts) / sample.size - mean**2) * 2.0 * needed / sample.size)

    def in_logs(log_mean: float) -> tuple[float, float]:
        logs, shares = _growth(values, bets, math.exp(log_mean))
        wealth = logs @ counts + np.log(weights)
        top = float(np.max(wealth))
        parts = np.exp(wealth - top)
        return needed - top - math.log(parts.sum()), float(parts @ (shares @ counts) / parts.sum())

    def proved(candidate: float) -> bool:
        if not SMALLEST < candidate < 1.0:
            return False
        logs, _ = _growth(values, bets, candidate)
        wealth = logs @ counts + np.log(weights)
        top = float(np.max(wealth))
        # Of every logarithm and its share in the sum; of every factor, absolutely in its logarithm.
        margin = room(float(np.max(np.abs(logs) @ counts)), len(values) + VECTOR) + room(sample.size + needed, VECTOR)
        return top + math.log(np.exp(wealth - top).sum()) > needed + margin

    peak = math.log(mean)
    start = peak - spread / mean - needed / sample.size
    guess = rising_root(in_logs, math.log(SMALLEST), peak, start, _STEP)
    return greatest_proved(math.exp(guess), proved, beyond=0) or 0.0


def empirical_bernstein_lower(scores: ArrayLike | ScoreSample, alpha: float) -> float:
    """Lower bound from the sample's mean and variance (Maurer & Pontil 2009, Theorem 4).

    Holds with probability at least 1 - alpha for a number of draws fixed beforehand:
    mean - sqrt(2 V ln(2/alpha) / n) - 7 ln(2/alpha) / (3 (n-1)), with V the unbiased sample variance.

    Args:
        scores: independent draws with values in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in [0, 1); 0.0 from a single draw.

    Raises:
        ValueError: scores outside [0, 1] or none, a risk outside its range.
    """
    sample, needed = ScoreSample.of(scores), math.log(2.0) - math.log(ranges.open_unit("alpha", alpha))
    if sample.size == 1:
        return 0.0
    mean, rest = _mean(sample), sample.size - 1
    variance = math.fsum((sample.values - mean) ** 2 * sample.counts) / rest
    width = math.sqrt(2.0 * variance * needed / sample.size) + 7.0 * needed / (3.0 * rest)
    return max(0.0, down(mean, _CLOSED) - width)


def kl_lower(scores: ArrayLike | ScoreSample, alpha: float) -> float:
    """Lower bound from the sample's mean alone (Hoeffding 1963, Theorem 1; the Chernoff bound of a Bernoulli law).

    Holds with probability at least 1 - alpha for a number of draws fixed beforehand: the smallest q below the
    sample's mean with n KL(mean, q) <= ln(1/alpha).

    Args:
        scores: independent draws with values in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in [0, 1), below the sample's mean.

    Raises:
        ValueError: scores outside [0, 1] or none, a risk outside its range.
    """
    sample, needed = ScoreSample.of(scores), -math.log(ranges.open_unit("alpha", alpha))
    # A mean lower by e of itself lowers KL by more than e times its gain. That is room for all roundings: they come to
    # 5 ULPs of the gain and 3 of mean - q, which is no larger; so do those of the logarithm and the product.
    mean, draws = down(_mean(sample), _CLOSED), sample.size
    if mean < SMALLEST:
        return 0.0

    def in_logs(log_q: float) -> tuple[float, float]:
        q = min(math.exp(log_q), mean)
        return needed - draws * sum(_divergence(mean, q)), draws * (mean - q) / (1.0 - q)

    def proved(q: float) -> bool:
        gain, loss = _divergence(mean, q)
        return q < mean and draws * (gain + loss) > needed

    start = math.log(mean) - math.sqrt(2.0 * (1.0 - mean) * needed / (mean * draws)) - needed / draws
    guess = rising_root(in_logs, math.log(SMALLEST), math.log(mean), start, _STEP)
    return greatest_proved(math.exp(guess), proved, beyond=0) or 0.0


def hoeffding_lower(scores: ArrayLike | ScoreSample, alpha: float) -> float:
    """Lower bound mean - sqrt(ln(1/alpha) / (2 n)) (Hoeffding 1963, Theorem 2).

    Holds with probability at least 1 - alpha for a number of draws fixed beforehand.

    Args:
        scores: independent draws with values in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in [0, 1), below the sample's mean.

    Raises:
        ValueError: scores outside [0, 1] or none, a risk outside its range.
    """
    sample, needed = ScoreSample.of(scores), -math.log(ranges.open_unit("alpha", alpha))
    width = math.sqrt(needed / (2.0 * sample.size))
    return max(0.0, down(_mean(sample), _CLOSED) - width)


def mean_lower(
    scores: ArrayLike | ScoreSample, alpha: float, *, bound: MeanBound = "betting", horizon: int | None = None
) -> float:
    """The lower bound of this name, at its guarantee.

    Args:
        scores: independent draws with values in [0, 1], (draws,), or their sample.
        alpha: risk, strictly between 0 and 1.
        bound: which; only `betting` holds at every number of draws.
        horizon: of the betting bound; the others have none.

    Returns:
        A bound in [0, 1).

    Raises:
        ValueError: no such bound, or a value outside its range.
    """
    if bound == "betting":
        return betting_lower(scores, alpha, horizon=horizon)
    functions: dict[str, Callable[[ArrayLike | ScoreSample, float], float]] = {
        "empirical_bernstein": empirical_bernstein_lower,
        "kl": kl_lower,
        "hoeffding": hoeffding_lower,
    }
    if bound not in functions:
        raise ValueError(f"bound={bound!r} must be one of betting, {', '.join(functions)}; name one of them")
    return functions[bound](scores, alpha)


def unit_numbers(name: str, numbers: ArrayLike) -> Floats:
    """A float64 copy of numbers in [0, 1], one-dimensional and not empty.

    Raises:
        ValueError: they are not.
    """
    array = np.array(numbers)
    if array.ndim != 1:
        raise ValueError(f"{name} of shape {array.shape} must be one-dimensional; pass one number per entry")
    if not array.size:
        raise ValueError(f"{name}=[] must hold at least one number; pass some")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} of type {array.dtype} must be real numbers; pass floats")
    outside = np.flatnonzero(~((array >= 0.0) & (array <= 1.0)))
    if outside.size:
        raise ValueError(f"{name}[{outside[0]}]={array[outside[0]]} must lie in [0, 1]; rescale {name}")
    return array.astype(np.float64)


def _mean(sample: ScoreSample) -> float:
    return math.fsum(sample.values * sample.counts) / sample.size


def _bets(needed: float, horizon: int) -> tuple[Floats, Floats]:
    """Shares theta in (0, 1] and their weights."""
    least = min(_NEARLY_ALL, _LEAST * math.sqrt(8.0 * needed / horizon))
    steps = math.ceil(math.log(_NEARLY_ALL / least) / math.log(_RATIO))
    grid = _NEARLY_ALL * _RATIO ** -np.arange(steps + 1.0)
    return np.append(_ALL, grid), np.append(0.5, np.full(len(grid), 0.5 / len(grid)))


def _growth(values: Floats, bets: Floats, mean: float) -> tuple[Floats, Floats]:
    """Of every bet and value the log of the factor 1 + theta (x/m - 1), and its slope in -log m; (bets, levels).

    The factor is a sum of nonnegative numbers, precise to three roundings.
    """
    staked = bets[:, None] * (values / mean)
    factors = staked + (1.0 - bets)[:, None]
    return np.log(factors), staked / factors


def _divergence(p: float, q: float) -> tuple[float, float]:
    """The two terms of KL(p, q) for q <= p < 1: one at least 0, one at most 0."""
    return p * math.log1p((p - q) / q), (1.0 - p) * math.log1p((q - p) / (1.0 - q))
