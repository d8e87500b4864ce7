"""The one resize of images as matrices, and how far it stretches a difference (section 9).

Workers resize with torch; the matrices here are computed apart, so that a certificate's operator norm can be computed
again from its sizes alone.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges
from holdfast.certificates.noise.space import resize_operator_norm

RESIZE = "antialiased_bicubic"
"""PIL's bicubic filter, widened by the ratio where the image shrinks; unrounded, of the same size the identity."""

_SUPPORT = 2.0
_CUBIC = -0.5
# Half a unit in the last place of a float32 in [0,1], at either of two images, and a little for float64 on the way.
_ROUNDING = 2.0**-24 * (1 + 1e-4)


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
    """L with `‖z(x) - z(y)‖ <= L ‖x - y‖ / 255` for all 8-bit images x, y of one size, z(x) the float32 noise space's.

    The operator norm of the resize, rounded up, and for the final rounding: images that differ in n pixel values are
    at least √n/255 apart and may round apart in n·k values, k of them within reach of one. So L is above 1 even without
    a resize: neighbouring levels are up to 1.5e-5 farther apart as float32.

    Args:
        own: height and width of the images.
        size: height and width of the noise space.

    Returns:
        L, above 0.

    Raises:
        ValueError: a size below 1.
    """
    axes = [*zip(own, size, strict=True)]
    rows, columns = (axis_matrix(*axis) for axis in axes)
    norm = 1.0 if own == size else resize_operator_norm(rows, columns)
    reach = math.prod(1 if axis[0] == axis[1] else int(_window(*axis).sum(axis=0).max()) for axis in axes)
    return math.nextafter(norm + 255 * _ROUNDING * math.sqrt(reach), math.inf)


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
