"""Certificates as pure functions of evidence and parameters: NumPy and SciPy only."""

from holdfast.certificates.confidence import any_time_lower, clopper_pearson_lower
from holdfast.certificates.frontier import (
    Bound,
    WorstCase,
    cell_lower_bounds,
    passes_to_detect,
    suffix_frontier,
    worst_case,
)
from holdfast.certificates.kernels import (
    BLOCK,
    AbsorbingKernel,
    RatioGroups,
    SuffixDraws,
    TokenKernel,
    UniformKernel,
    block_key,
    cell_weights,
    mask_probability,
    ratio_groups,
    suffix_draws,
)
from holdfast.certificates.neyman_pearson import neyman_pearson_radius, neyman_pearson_value
from holdfast.certificates.stratified import suffix_radii, suffix_radius, suffix_value

__all__ = [
    "BLOCK",
    "AbsorbingKernel",
    "Bound",
    "RatioGroups",
    "SuffixDraws",
    "TokenKernel",
    "UniformKernel",
    "WorstCase",
    "any_time_lower",
    "block_key",
    "cell_lower_bounds",
    "cell_weights",
    "clopper_pearson_lower",
    "mask_probability",
    "neyman_pearson_radius",
    "neyman_pearson_value",
    "passes_to_detect",
    "ratio_groups",
    "suffix_draws",
    "suffix_frontier",
    "suffix_radii",
    "suffix_radius",
    "suffix_value",
    "worst_case",
]
