"""How far a prediction on unit prototypes is certified, in units of sigma (section 6).

The smoothed feature's direction v stays within the angle D(t) = arccos(2 b(t) - 1) of the reference u, with b the
lower bound of a shift on E[(1 + <f(x'), u>) / 2]. The prediction argmax_k <v, p_k> is `label` while D(t) is below an
angle that u and the prototypes determine. Reaches hold with the shift's probability; u, prototypes and label are
fixed beforehand or come from separate draws.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, lower_bound
from holdfast.certificates.rounding import LIBRARY, VECTOR, Floats, down, up
from holdfast.certificates.shifts.mixtures import mean_mixture
from holdfast.certificates.shifts.shift import Shift

_STATED = 2e-6
"""How far a cosine or a distance computed in single precision may be from the exact one."""


def prototype_condition_reach(shift: Shift, cosines: ArrayLike, label: int) -> float | None:
    """The published condition D < min_k (arccos a_k - arccos a_label) / 2 ([F] Theorem A.3.2), kept for comparison.

    Sound although [F] Lemma A.3.1 behind it is not: the cosine of v with p_k lies in
    [cos(min(pi, A + D)), cos(max(0, A - D))], A = arccos a_k, and the clips do not touch the condition.

    Args:
        shift: what is proved of E[(1 + <f, u>) / 2].
        cosines: a_k = <u, p_k> to 2e-6, (classes,), at least two.
        label: the prediction, an index of `cosines`.

    Returns:
        Largest t, rounded down; None when nothing is certified.

    Raises:
        ValueError: cosines outside [-1, 1] or fewer than two, no such label.
    """
    nearest, rivals, _ = _geometry(cosines, label)
    return _angle_reach(shift, float(np.min(_condition(nearest, rivals))))


def cap_reach(shift: Shift, cosines: ArrayLike, distances: ArrayLike, label: int) -> float | None:
    """The exact condition D < min_k arcsin((a_label - a_k) / |p_label - p_k|) (ours, section 6).

    The cap of directions within D of u stays on label's side of every bisecting plane. Never below
    `prototype_condition_reach`: with exact numbers by itself, with stated ones because the better angle counts.

    Args:
        shift: what is proved of E[(1 + <f, u>) / 2].
        cosines: a_k = <u, p_k> to 2e-6, (classes,), at least two.
        distances: |p_label - p_k| to 2e-6, (classes,); that of the label itself is not read.
        label: the prediction, an index of `cosines`.

    Returns:
        Largest t, rounded down; None when nothing is certified.

    Raises:
        ValueError: cosines outside [-1, 1], distances outside [0, 2], not as many of both, no such label.
    """
    nearest, rivals, others = _geometry(cosines, label)
    apart = _within("distances", distances, 0.0, 2.0)
    if len(apart) != len(others):
        raise ValueError(f"distances holds {len(apart)} and must hold {len(others)} numbers; pass one per class")
    apart = up(np.maximum(apart[others], 0.0) + _STATED)
    sines = np.clip(down(down(nearest - rivals) / apart), -1.0, 1.0)
    angles = np.maximum(down(np.arcsin(sines), VECTOR), _condition(nearest, rivals))
    return _angle_reach(shift, float(np.min(angles)))


def vote_reach(hits: int, draws: int, alpha: float, bound: Bound = "any_time") -> float | None:
    """How far the label that most draws predict stays so: Phi^-1(lower) where lower > 1/2 (Cohen et al. 2019).

    Holds with probability at least 1 - alpha for the smoothed classifier argmax_k P[draw predicts k], which needs no
    unit features; the label is fixed beforehand or comes from separate draws.

    Args:
        hits: how many draws predicted the label, 0..draws.
        draws: independent draws taken.
        alpha: risk, strictly between 0 and 1.
        bound: `any_time` for any stopping rule, `clopper_pearson` for a number of draws fixed beforehand.

    Returns:
        Largest t, rounded down; None when nothing is certified.

    Raises:
        ValueError: counts that contradict each other, a risk outside its range, no such bound.
    """
    return mean_mixture(lower_bound(bound)(hits, draws, alpha)).reach(0.5)


def _geometry(cosines: ArrayLike, label: int) -> tuple[float, Floats, NDArray[np.bool_]]:
    """Lowest cosine of the label and highest of its rivals that those stated may stand for; which are the rivals."""
    stated = _within("cosines", cosines, -1.0, 1.0)
    if len(stated) < 2:
        raise ValueError("cosines must hold at least two classes; a prediction needs a rival")
    label = ranges.whole("label", label)
    if label >= len(stated):
        raise ValueError(f"label={label} must be below the number of classes {len(stated)}; pass an index of cosines")
    others = np.arange(len(stated)) != label
    return max(down(float(stated[label]) - _STATED), -1.0), np.minimum(up(stated[others] + _STATED), 1.0), others


def _within(name: str, numbers: ArrayLike, low: float, high: float) -> Floats:
    array = np.asarray(numbers, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} of shape {array.shape} must be one-dimensional; pass one number per class")
    outside = np.flatnonzero(~((array >= low - _STATED) & (array <= high + _STATED)))
    if outside.size:
        first = outside[0]
        raise ValueError(f"{name}[{first}]={array[first]} must lie in [{low:g}, {high:g}]; use unit vectors")
    return array


def _condition(nearest: float, rivals: Floats) -> Floats:
    return down(down(np.arccos(rivals), VECTOR) - up(math.acos(nearest), LIBRARY)) / 2.0


def _angle_reach(shift: Shift, angle: float) -> float | None:
    """Largest t with D(t) below an angle of at most pi/2."""
    level = up(0.5 + 0.5 * up(math.cos(angle), LIBRARY)) if angle > 0.0 else 1.0
    return shift.reach(level) if level < 1.0 else None
