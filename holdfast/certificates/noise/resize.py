"""The one resize of images as matrices, and how far it stretches a difference (section 9).

Workers resize with torch; the matrices here are computed apart, so that a certificate's operator norm can be computed
again from its sizes alone.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges
from holdfast.certificates.noise.space import resize_operator_norm

RESIZE = "antialiased_bicubic"
"""PIL's bicubic filter, widened by the ratio where the image shrinks; unrounded, of the same size the identity."""

_SUPPORT = 2.0
_CUBIC = -0.5


def axis_matrix(own: int, size: int) -> NDArray[np.float64]:
    """The resize of one axis as a matrix: what it makes of each unit vector.

    Args:
        own: pixels of the image along the axis, at least 1.
        size: pixels of the noise space along it, at least 1.

    Returns:
        Shape (size, own); every row sums to 1.

    Raises:
        ValueError: a size below 1.
    """
    own, size = ranges.whole("own", own, least=1), ranges.whole("size", size, least=1)
    weights = _cubic((np.arange(own) - _centers(own, size)[:, None] + 0.5) / max(own / size, 1.0)) * _window(own, size)
    found: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return found


@lru_cache(maxsize=256)
def resize_norm(own: tuple[int, int], size: tuple[int, int]) -> float:
    """L: no two images of one size lie more than L times as far apart once they are resized, rounded up.

    What the rounding to the lattice adds then is taken off the radius (`lattice`, section 13).

    Args:
        own: height and width of the images.
        size: height and width of the noise space.

    Returns:
        L, above 0; 1 without a resize.

    Raises:
        ValueError: a size below 1.
    """
    rows, columns = (axis_matrix(*axis) for axis in zip(own, size, strict=True))
    return 1.0 if own == size else resize_operator_norm(rows, columns)


def _centers(own: int, size: int) -> NDArray[np.float64]:
    return np.asarray(own / size * (np.arange(size) + 0.5), dtype=np.float64)


def _window(own: int, size: int) -> NDArray[np.bool_]:
    """Which pixels the filter reads for each of the new ones, those of weight 0 at its ends included."""
    centers, reach, pixels = _centers(own, size)[:, None], _SUPPORT * max(own / size, 1.0), np.arange(own)
    found: NDArray[np.bool_] = (pixels >= np.trunc(centers - reach + 0.5)) & (pixels < np.trunc(centers + reach + 0.5))
    return found


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys's cubic filter at these distances, in the order of operations that torch has."""
    x = np.abs(distances)
    inner = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * _CUBIC
    found: NDArray[np.float64] = np.where(x < 1, inner, np.where(x < _SUPPORT, outer, 0.0))
    return found
