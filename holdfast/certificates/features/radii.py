"""Certificates on a smoothed feature: the mean of unit vectors under noise against a fixed unit reference (section 6).

Two things the scores must satisfy, which no function here can see: every f(x + e) is a unit vector (normalised per
draw, whatever denoises or maps it), and u, the number of draws and alpha are fixed before the draws are taken.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from holdfast.certificates import ranges
from holdfast.certificates.bounds.means import ScoreSample
from holdfast.certificates.features.similarity import FeatureBound, feature_radius_of
from holdfast.certificates.shifts.mixtures import Mixture
from holdfast.certificates.shifts.scores import ShiftMethod, mean_shift, score_law
from holdfast.certificates.shifts.shift import Least

_TIE = 0.5
_FARTHEST = 1e3  # in units of sigma; no shift beyond moves a float's normal quantile any further


def feature_bound(
    scores: ArrayLike | ScoreSample, *, epsilon: float, sigma: float, alpha: float, method: ShiftMethod = "cdf"
) -> FeatureBound:
    """Bounds on the smoothed feature at every x' within epsilon ([F] Theorem 3.2, sharpened by the CDF bound).

    With probability at least 1 - alpha over the draws they hold for all x' and for every epsilon asked of these
    draws at once. Both methods need a number of draws and a reference fixed beforehand (for `mean` at every number
    of draws see `mean_shift` with a horizon).

    Args:
        scores: (1 + <f(x + e), u>) / 2 of independent draws, f of norm 1, (draws,), or their sample.
        epsilon: L2 norm of the shift, at least 0, in the units of sigma.
        sigma: standard deviation of the noise, above 0.
        alpha: risk, strictly between 0 and 1.
        method: `cdf` or `mean`.

    Returns:
        The bounds, rounded down.

    Raises:
        ValueError: scores outside [0, 1] or none, or a value outside its range.
    """
    epsilon, sigma = ranges.nonnegative("epsilon", epsilon), ranges.positive("sigma", sigma)
    return FeatureBound.at(_shift(scores, alpha, method), min(epsilon / sigma, _FARTHEST))


def feature_radius(
    scores: ArrayLike | ScoreSample, *, cosine_floor: float, sigma: float, alpha: float, method: ShiftMethod = "cdf"
) -> float | None:
    """Radius within which the smoothed feature keeps a cosine above a floor ([F] Corollary 3.3 at 0.5).

    With probability at least 1 - alpha over the draws it holds for all x', for every floor asked of these draws at
    once; the number of draws and the reference are fixed beforehand.

    Args:
        scores: (1 + <f(x + e), u>) / 2 of independent draws, f of norm 1, (draws,), or their sample.
        cosine_floor: the cosine to stay above, in [0, 1).
        sigma: standard deviation of the noise, above 0.
        alpha: risk, strictly between 0 and 1.
        method: `cdf` or `mean`.

    Returns:
        The radius in the units of sigma, rounded down; None when nothing is certified.

    Raises:
        ValueError: scores outside [0, 1] or none, or a value outside its range.
    """
    return feature_radius_of(_shift(scores, alpha, method), cosine_floor, sigma)


def margin_radius(
    scores_by_rival: ArrayLike | Sequence[ScoreSample], *, sigma: float, alpha: float, method: ShiftMethod = "cdf"
) -> float | None:
    """Radius within which one label's mean margin over every rival stays positive (Pautov et al. 2022).

    The score of a rival is (1 + margin) / 2 with a margin in [-1, 1]; .5 is a tie. With probability at least
    1 - alpha over the draws the mean of every rival's score stays above .5 for all x' within the radius. Rivals share
    alpha equally and may share draws; the number of draws, the label and the directions are fixed beforehand.

    Args:
        scores_by_rival: scores in [0, 1], (rivals, draws), or one sample per rival.
        sigma: standard deviation of the noise, above 0.
        alpha: risk, strictly between 0 and 1.
        method: `cdf` or `mean`.

    Returns:
        The radius in the units of sigma, rounded down; None when nothing is certified.

    Raises:
        ValueError: no rival, scores outside [0, 1] or none, or a value outside its range.
    """
    rivals = _rivals(scores_by_rival)
    sigma, share = ranges.positive("sigma", sigma), ranges.open_unit("alpha", alpha) / len(rivals)
    nearest = Least([_shift(rival, share, method) for rival in rivals]).reach(_TIE)
    return None if nearest is None else nearest * sigma


def _rivals(scores_by_rival: ArrayLike | Sequence[ScoreSample]) -> Sequence[ArrayLike | ScoreSample]:
    if isinstance(scores_by_rival, Sequence) and all(isinstance(rival, ScoreSample) for rival in scores_by_rival):
        rivals: Sequence[ArrayLike | ScoreSample] = scores_by_rival
    else:
        table = np.asarray(scores_by_rival)
        if table.ndim != 2:
            raise ValueError(f"scores_by_rival of shape {table.shape} must be (rivals, draws); pass one row per rival")
        rivals = list(table)
    if not len(rivals):
        raise ValueError("scores_by_rival=[] must hold at least one rival; pass one row per rival")
    return rivals


def _shift(scores: ArrayLike | ScoreSample, alpha: float, method: ShiftMethod) -> Mixture:
    if method not in ("cdf", "mean"):
        raise ValueError(f"method={method!r} must be one of cdf, mean; name one of them")
    return score_law(scores, alpha).shift if method == "cdf" else mean_shift(scores, alpha)
