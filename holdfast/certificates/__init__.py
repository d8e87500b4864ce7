"""Certificates as pure functions of evidence and parameters: NumPy and SciPy only.

Here is what callers use. The theorems are in `bounds` (what draws prove of a mean), `noise` (what the noise does) and
`shifts` (what holds under attack); `guard` and `features` answer a question from counted evidence, and `verify` checks
a certificate against its own.
"""

from holdfast.certificates.bounds.counts import any_time_lower, clopper_pearson_lower
from holdfast.certificates.bounds.means import ScoreSample, betting_lower
from holdfast.certificates.document.checks import Check
from holdfast.certificates.document.planes import packed, unpacked
from holdfast.certificates.features.answer import FeatureAnswer, feature_answer, feature_progress
from holdfast.certificates.features.question import LEVELS, FeatureCounts, FeatureQuestion, sample_of_levels
from holdfast.certificates.features.radii import feature_bound, feature_radius, margin_radius
from holdfast.certificates.guard.answer import Answer, Row, Score, answer
from holdfast.certificates.guard.detection import detection_probability, flags_above
from holdfast.certificates.guard.frontier import (
    append_radius,
    decide,
    joint_frontier,
    l0_frontier,
    neyman_pearson_radius,
    neyman_pearson_value,
    suffix_frontier,
)
from holdfast.certificates.guard.prospects import doubled, hoped
from holdfast.certificates.guard.question import Cell, Question, Votes, tail_masks
from holdfast.certificates.noise.kernels import (
    AbsorbingKernel,
    TokenKernel,
    UniformKernel,
    field_draws,
    suffix_draws,
)
from holdfast.certificates.noise.resize import resize_norm
from holdfast.certificates.noise.space import resize_operator_norm
from holdfast.certificates.shifts.covers import cover_count
from holdfast.certificates.verify import not_checked, verify

__all__ = [
    "LEVELS",
    "AbsorbingKernel",
    "Answer",
    "Cell",
    "Check",
    "FeatureAnswer",
    "FeatureCounts",
    "FeatureQuestion",
    "Question",
    "Row",
    "Score",
    "ScoreSample",
    "TokenKernel",
    "UniformKernel",
    "Votes",
    "answer",
    "any_time_lower",
    "append_radius",
    "betting_lower",
    "clopper_pearson_lower",
    "cover_count",
    "decide",
    "detection_probability",
    "doubled",
    "feature_answer",
    "feature_bound",
    "feature_progress",
    "feature_radius",
    "field_draws",
    "flags_above",
    "hoped",
    "joint_frontier",
    "l0_frontier",
    "margin_radius",
    "neyman_pearson_radius",
    "neyman_pearson_value",
    "not_checked",
    "packed",
    "resize_norm",
    "resize_operator_norm",
    "sample_of_levels",
    "suffix_draws",
    "suffix_frontier",
    "tail_masks",
    "unpacked",
    "verify",
]
