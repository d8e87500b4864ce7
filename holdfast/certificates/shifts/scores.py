"""From the draws of a score at x to what they prove of its mean at every x' (section 6).

A lower bound on the mean is one number, which the attack shifts; lower bounds on the survival function are one per
value, and prove more.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast.certificates.bounds.means import MeanBound, ScoreSample, mean_lower
from holdfast.certificates.rounding import Floats, down
from holdfast.certificates.shifts.mixtures import Law, Mixture, mean_mixture

ShiftMethod = Literal["cdf", "mean"]
"""`cdf` uses the whole law of the scores, `mean` a bound on their mean."""

# Ranks lie evenly in the normal quantile of rank / draws, up to where nothing is left that a shift could keep.
_POINTS = 120
_HIGHEST = 2.0


def mean_shift(
    scores: ArrayLike | ScoreSample, alpha: float, *, bound: MeanBound = "betting", horizon: int | None = None
) -> Mixture:
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
    return mean_mixture(mean_lower(scores, alpha, bound=bound, horizon=horizon))


def score_law(scores: ArrayLike | ScoreSample, alpha: float) -> Law:
    """What is proved of a score's whole law; with it, its shift holds for all x' and t at once, at risk alpha.

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
    return Law(distinct, survival[first])


@lru_cache(maxsize=64)
def _ranked(draws: int, alpha: float) -> tuple[NDArray[np.int64], Floats]:
    """Ranks 1..draws, ascending, and lower bounds on the probability of a score at least as high as at each.

    The j-th rank gets a share of alpha proportional to 1/j: large shifts leave only what the lowest ranks prove.
    """
    spread = np.linspace(ndtri(0.5 / draws), _HIGHEST, _POINTS)
    ranks = np.unique(np.clip(np.rint(draws * ndtr(spread)), 1, draws).astype(np.int64))
    bounds = [
        clopper_pearson_lower(draws - int(i) + 1, draws, float(a))
        for i, a in zip(ranks, rank_shares(alpha, len(ranks)), strict=True)
    ]
    return ranks, np.array(bounds)


def rank_shares(alpha: float, ranks: int) -> Floats:
    """Shares of alpha proportional to 1, 1/2, 1/3, ...; their sum is at most alpha, exactly."""
    weights = 1.0 / np.arange(1.0, ranks + 1.0)
    # The sum of the weights has a rounding a rank, every share four more.
    return down(alpha * weights / weights.sum(), ranks + 4)
