"""From the noise space to the image's own pixels (section 9).

A linear resize moves two images that are epsilon apart to images at most L epsilon apart, with L its operator norm;
so a radius r in the noise space holds against every change of norm below r / L before the resize.
"""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from holdfast.certificates import ranges
from holdfast.certificates.rounding import fraction_down, up

_EIGENVALUE = 4_503_599
"""ULPs allowed to a norm, 1e-9; the largest eigenvalue of a Gram matrix of up to 10^4 rows errs by less than 1e-11."""


def native_radius(radius: float | None, operator_norm: float) -> float | None:
    """A radius of the noise space in the units of the image before its linear resize.

    Args:
        radius: certified radius in the noise space, at least 0, may be inf; None is *not certified*.
        operator_norm: L2 operator norm of the resize or an upper bound on it, above 0.

    Returns:
        radius / operator_norm rounded down; None stays None.

    Raises:
        ValueError: a value outside its range.
    """
    operator_norm = ranges.positive("operator_norm", operator_norm)
    if radius is None or radius == math.inf:
        return radius
    return fraction_down(Fraction(ranges.nonnegative("radius", radius)) / Fraction(operator_norm))


def resize_operator_norm(row_matrix: ArrayLike, column_matrix: ArrayLike) -> float:
    """Upper bound on the operator norm of a separable linear resize, image -> R image C^T in every channel.

    Its norm is the product of the spectral norms of R and C (the norm of a Kronecker product).

    Args:
        row_matrix: R, (new height, old height).
        column_matrix: C, (new width, old width).

    Returns:
        The product, with a relative margin of 2e-9 for the floating-point error; 0.0 for a zero matrix.

    Raises:
        ValueError: an argument is no finite matrix with at least one entry.
    """
    return _spectral_norm("row_matrix", row_matrix) * _spectral_norm("column_matrix", column_matrix)


def _spectral_norm(name: str, entries: ArrayLike) -> float:
    matrix = np.asarray(entries, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        raise ValueError(f"{name} of shape {matrix.shape} must be a finite matrix; pass (new size, old size)")
    scale = float(np.max(np.abs(matrix)))
    if scale == 0.0:
        return 0.0
    matrix = matrix / scale
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return up(math.sqrt(np.linalg.eigvalsh(gram)[-1]) * scale, _EIGENVALUE)
