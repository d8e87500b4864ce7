"""The one resize of images, and what it is as a matrix."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_STRIP = 256


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (n, C, H, W) by PIL's antialiased bicubic filter, unrounded; the same size is the identity."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bicubic", antialias=True)


def axis_matrix(own: int, size: int) -> NDArray[np.float64]:
    """The resize of one axis as a matrix, shape (size, own): what it makes of each unit vector."""
    strips = []
    for start in range(0, own, _STRIP):
        # Never an image one pixel wide: torch's filter mixes up the memory layouts of such an output.
        strip = torch.zeros(own, _STRIP, dtype=torch.float64)
        unit = torch.arange(min(_STRIP, own - start))
        strip[start + unit, unit] = 1
        strips.append(resize(strip[None, None], (size, _STRIP))[0, 0, :, : len(unit)])
    return torch.cat(strips, dim=1).numpy()
