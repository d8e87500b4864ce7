"""From an image's own pixels to the space the noise is added in, and how far that stretches a difference."""

import io
import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from holdfast.certificates import resize_operator_norm
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.vision.resize import axis_matrix, resize

MAX_SIDE = 8192
"""Longest side of an image in pixels: the resize's matrices take its square in time."""

# Half a unit in the last place of a float32 in [0,1], at either of two images, and a little for float64 on the way.
_ROUNDING = 2.0**-24 * (1 + 1e-4)


def decoded(png: bytes) -> NDArray[np.uint8]:
    """The RGB image, shape (H, W, 3), of a PNG that the gateway wrote."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as file:
        return np.array(file.convert("RGB"))


def require_image(image: NDArray[np.uint8]) -> None:
    """Refuses what is no image for the functions below.

    Raises:
        InputRefusedError: It is not 8-bit RGB of shape (H, W, 3), or a side is longer than ``MAX_SIDE``.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputRefusedError(
            f"image is {image.dtype} of shape {image.shape}, must be uint8 (H, W, 3); convert it to RGB"
        )
    if (side := max(image.shape)) > MAX_SIDE:
        raise InputRefusedError(f"the image's longer side has {side} pixels, must have at most {MAX_SIDE}; crop it")


def to_noise_space(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings an 8-bit image to the space the noise is added in.

    The resize is linear and the clamp after it never lengthens a difference, so that ``ε_native = ε / L`` holds with
    L the ``resize_norm`` (maths.md §9); hence float64 and no rounding before the end.

    Args:
        image: uint8, shape (H, W, 3).
        size: Height and width of the noise space.

    Returns:
        float32, shape (3, height, width), in [0,1].
    """
    channels = image.permute(2, 0, 1)
    if channels.shape[1:] == size:
        return channels.float().div(255).contiguous()
    resized = torch.cat([resize(channel.double()[None, None], size)[0] for channel in channels])
    return resized.div_(255).clamp_(0, 1).float()


@lru_cache(maxsize=256)
def resize_norm(own: tuple[int, int], size: tuple[int, int]) -> float:
    """L with ``‖to_noise_space(x) - to_noise_space(y)‖ <= L ‖x - y‖ / 255`` for all 8-bit images x, y of one size.

    The operator norm of the resize, rounded up, and for the final rounding: images that differ in n pixel values are
    at least √n/255 apart and may round apart in n·k values, k of them within reach of one.

    Args:
        own: Height and width of the images, at most ``MAX_SIDE``.
        size: Height and width of the noise space.

    Returns:
        L, above 0; 1 where there is no resize.
    """
    if own == size:
        return 1.0
    rows, columns = (axis_matrix(*axis) for axis in zip(own, size, strict=True))
    reach = np.count_nonzero(rows, axis=0).max() * np.count_nonzero(columns, axis=0).max()
    return math.nextafter(resize_operator_norm(rows, columns) + 255 * _ROUNDING * math.sqrt(reach), 2e9)
