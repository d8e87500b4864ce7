"""What every denoiser does with σ and with image sizes of its own."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LOWEST_SIGMA = 1e-4
"""Below this, log σ stands still: it has no value at σ = 0."""


def per_image(sigma: float | Tensor, images: Tensor) -> Tensor:
    """σ as one float32 per image, shape (B,), on the images' device.

    Args:
        sigma: One value for all, or one per image, shape (B,); at least 0.
        images: Any tensor whose first dimension is B.

    Raises:
        ValueError: A tensor of another shape, or a number that is negative or not finite.
    """
    if isinstance(sigma, Tensor):
        if sigma.shape != (len(images),):
            raise ValueError(
                f"sigma of shape {tuple(sigma.shape)} must have one value per image, shape ({len(images)},); give"
                " those, or one float"
            )
        return sigma.to(images.device, torch.float32)
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma={sigma} must be finite and at least 0; give the noise's standard deviation")
    return torch.full((len(images),), sigma, device=images.device)


def sigma_features(sigma: Tensor) -> Tensor:
    """The pair (σ, log σ) that small networks read, shape (B, 2); σ below ``LOWEST_SIGMA`` counts as that."""
    floored = sigma.clamp_min(LOWEST_SIGMA)
    return torch.stack((floored, floored.log()), dim=-1)


def on_multiples(images: Tensor, multiple: int, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Runs a network that needs sides divisible by ``multiple`` on images of any size.

    The right and lower edges are repeated as far as needed and cut off again.

    Args:
        images: Shape (B, C, H, W), H and W at least 1.
        multiple: What both sides must be divisible by.
        run: The network, from (B, C, H', W') to the same height and width.
    """
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    padded = functional.pad(images, (0, right, 0, below), mode="replicate") if below or right else images
    return run(padded)[..., :height, :width]
