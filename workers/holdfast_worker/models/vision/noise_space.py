"""From an image's own pixels to the space the noise is added in."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from holdfast_worker.gaussian import to_lattice
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.vision.resize import resize

MAX_SIDE = 8192
"""Longest side of an image in pixels: the resize's matrices take its square in time."""


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
    """Brings an 8-bit image to the lattice in the space the noise is added in.

    The resize is linear and the clamp after it never lengthens a difference, so that ``ε_native = ε / L`` holds with
    L the ``resize_norm`` of ``holdfast.certificates`` (maths.md §9); hence float64 and no rounding before the end. What
    the rounding to the lattice adds to a distance, the certificate takes off (section 13).

    Args:
        image: uint8, shape (H, W, 3), on the host: a device sums the resize in another order, and may round elsewhere.
        size: Height and width of the noise space.

    Returns:
        float32, shape (3, height, width), in [0,1], every value a multiple of 2^-18.
    """
    channels = image.permute(2, 0, 1)
    if channels.shape[1:] == size:
        return to_lattice(channels.double().div_(255)).float().contiguous()
    resized = torch.cat([resize(channel.double()[None, None], size)[0] for channel in channels])
    return to_lattice(resized.div_(255).clamp_(0, 1)).float()
