"""Shifts of scores, made as the tests want them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from holdfast.certificates import ScoreSample
from holdfast.certificates.shifts.mixtures import Law, Mixture
from holdfast.certificates.shifts.scores import score_law


def curve_shift(scores: ArrayLike | ScoreSample, alpha: float) -> Mixture:
    """The shift of a score's whole law."""
    return score_law(scores, alpha).shift


def law(values: Sequence[float], survival: Sequence[float]) -> Law:
    return Law(np.array(values, dtype=np.float64), np.array(survival, dtype=np.float64))
