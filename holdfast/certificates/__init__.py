"""Certificates as pure functions of evidence and parameters: NumPy and SciPy only."""

from holdfast.certificates.answer import Answer, Counts, Point, Question, Row, answer, position_masks
from holdfast.certificates.averages import mean_of_draws_lower
from holdfast.certificates.checks import Check
from holdfast.certificates.confidence import Bound, any_time_lower, clopper_pearson_lower
from holdfast.certificates.covers import (
    MAX_COVERS,
    CoverBounds,
    cover_bounds,
    cover_count,
    cover_radii,
    cover_radius,
    cover_value,
    l0_frontier,
)
from holdfast.certificates.decision import decide
from holdfast.certificates.features import (
    FeatureBound,
    ShiftMethod,
    feature_bound,
    feature_radius,
    feature_radius_of,
    margin_radius,
)
from holdfast.certificates.frontier import (
    WorstCase,
    cell_lower_bounds,
    passes_to_detect,
    suffix_frontier,
    worst_case,
)
from holdfast.certificates.kernels import (
    BLOCK,
    AbsorbingKernel,
    FieldDraws,
    SuffixDraws,
    TokenKernel,
    UniformKernel,
    block_key,
    cell_weights,
    field_draws,
    mask_probability,
    suffix_draws,
)
from holdfast.certificates.means import (
    MeanBound,
    ScoreSample,
    betting_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
    kl_lower,
    mean_lower,
)
from holdfast.certificates.methods import Method, Reach, auto_frontier, l0_auto_frontier
from holdfast.certificates.neyman_pearson import (
    neyman_pearson_frontier,
    neyman_pearson_radius,
    neyman_pearson_value,
)
from holdfast.certificates.partitioned import (
    PartitionCell,
    observed_change_groups,
    observed_change_value,
    partitioned_neyman_pearson_value,
)
from holdfast.certificates.prototypes import cap_reach, prototype_condition_reach, vote_reach
from holdfast.certificates.ratios import RatioGroups, product_groups, ratio_groups
from holdfast.certificates.shifts import CurveShift, MeanShift, Shift, curve_shift, mean_shift
from holdfast.certificates.space import native_radius, resize_operator_norm
from holdfast.certificates.stratified import suffix_radii, suffix_radius, suffix_value
from holdfast.certificates.tabular import (
    fields_neyman_pearson_radius,
    fields_neyman_pearson_value,
    tabular_frontier,
)
from holdfast.certificates.verdicts import Verdict, safe_threshold, unsafe_at_most
from holdfast.certificates.verify import verify

__all__ = [
    "BLOCK",
    "MAX_COVERS",
    "AbsorbingKernel",
    "Answer",
    "Bound",
    "Check",
    "Counts",
    "CoverBounds",
    "CurveShift",
    "FeatureBound",
    "FieldDraws",
    "MeanBound",
    "MeanShift",
    "Method",
    "PartitionCell",
    "Point",
    "Question",
    "RatioGroups",
    "Reach",
    "Row",
    "ScoreSample",
    "Shift",
    "ShiftMethod",
    "SuffixDraws",
    "TokenKernel",
    "UniformKernel",
    "Verdict",
    "WorstCase",
    "answer",
    "any_time_lower",
    "auto_frontier",
    "betting_lower",
    "block_key",
    "cap_reach",
    "cell_lower_bounds",
    "cell_weights",
    "clopper_pearson_lower",
    "cover_bounds",
    "cover_count",
    "cover_radii",
    "cover_radius",
    "cover_value",
    "curve_shift",
    "decide",
    "empirical_bernstein_lower",
    "feature_bound",
    "feature_radius",
    "feature_radius_of",
    "field_draws",
    "fields_neyman_pearson_radius",
    "fields_neyman_pearson_value",
    "hoeffding_lower",
    "kl_lower",
    "l0_auto_frontier",
    "l0_frontier",
    "margin_radius",
    "mask_probability",
    "mean_lower",
    "mean_of_draws_lower",
    "mean_shift",
    "native_radius",
    "neyman_pearson_frontier",
    "neyman_pearson_radius",
    "neyman_pearson_value",
    "observed_change_groups",
    "observed_change_value",
    "partitioned_neyman_pearson_value",
    "passes_to_detect",
    "position_masks",
    "product_groups",
    "prototype_condition_reach",
    "ratio_groups",
    "resize_operator_norm",
    "safe_threshold",
    "suffix_draws",
    "suffix_frontier",
    "suffix_radii",
    "suffix_radius",
    "suffix_value",
    "tabular_frontier",
    "unsafe_at_most",
    "verify",
    "vote_reach",
    "worst_case",
]
