"""Certificates on a smoothed feature: the mean of unit vectors under noise against a fixed unit reference (section 6).

For a reference u the score of a draw is S = (1 + <f(x + e), u>) / 2, so that a lower bound b on E[S(x')] is the
inner product 2b - 1 of the smoothed feature with u, and of its direction too wherever 2b - 1 is positive.

Two things the scores must satisfy, which no function here can see: every f(x + e) is a unit vector (normalised per
draw, whatever denoises or maps it), and u, the number of draws and alpha are fixed before the draws are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from holdfast.certificates import ranges
from holdfast.certificates.bounds.means import ScoreSample
from holdfast.certificates.shifts.mixtures import Shift, curve_shift, mean_shift

ShiftMethod = Literal["cdf", "mean"]
"""`cdf` uses the whole law of the scores, `mean` their betting bound."""

_TIE = 0.5
_FARTHEST = 1e3  # in units of sigma; no shift beyond moves a float's normal quantile any further


@dataclass(frozen=True)
class FeatureBound:
    """Lower bounds on a smoothed feature against its reference, for every input of one shift.

    Attributes:
        inner_product: bound on <f_hat(x'), u>, in [-1, 1].
        cosine: bound on the cosine of f_hat(x') and u, in (0, 1]; None where the inner product's is not positive,
            because dividing by a norm of at most 1 then no longer helps and nothing is proved.
    """

    inner_product: float
    cosine: float | None

    @classmethod
    def at(cls, shift: Shift, t: float) -> "FeatureBound":
        """The bounds that a shift proves for every x' at most t sigma away."""
        inner_product = max(-1.0, float(np.nextafter(2.0 * shift.at(t) - 1.0, -2.0)))
        return cls(inner_product, inner_product if inner_product > 0.0 else None)


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


def feature_radius_of(shift: Shift, cosine_floor: float, sigma: float) -> float | None:
    """`feature_radius` from a shift at hand, under the shift's guarantee."""
    floor = ranges.real("cosine_floor", cosine_floor)
    if not 0.0 <= floor < 1.0:
        raise ValueError(
            f"cosine_floor={floor!r} must lie in [0, 1); no bound on a cosine exists below 0 and none reaches 1"
        )
    sigma = ranges.positive("sigma", sigma)
    level = float(np.nextafter((1.0 + floor) / 2.0, 1.0))
    reach = shift.reach(level) if level < 1.0 else None
    return None if reach is None else reach * sigma


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
    nearest = float("inf")
    for rival in rivals:
        reach = _shift(rival, share, method).reach(_TIE)
        if reach is None:
            return None
        nearest = min(nearest, reach)
    return nearest * sigma


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


def _shift(scores: ArrayLike | ScoreSample, alpha: float, method: ShiftMethod) -> Shift:
    if method not in ("cdf", "mean"):
        raise ValueError(f"method={method!r} must be one of cdf, mean; name one of them")
    return curve_shift(scores, alpha) if method == "cdf" else mean_shift(scores, alpha)
