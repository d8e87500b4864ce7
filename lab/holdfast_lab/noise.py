"""The noise that the reference guard is trained and measured under: random tokens, Gaussian pixels."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from holdfast_lab.prompt import Prompt
from holdfast_lab.scenes import Example, Scene

Kernel = Literal["uniform", "absorbing"]


def noisy_tokens(
    rng: np.random.Generator, prompt: Prompt, ids: Sequence[int], *, beta: float, kernel: Kernel
) -> list[int]:
    """Pass `ids` through the uniform or the absorbing kernel at corruption rate `beta` in [0, 1].

    The uniform kernel is drawn in its latent form: a position is masked with probability βV/(V-1), at most 1,
    and a masked one draws from the whole alphabet of V tokens.
    """
    size = len(prompt.alphabet)
    drawn = np.asarray(prompt.alphabet)[rng.integers(size, size=len(ids))]
    rate = min(1.0, beta * size / (size - 1))
    if kernel == "absorbing":
        drawn, rate = np.full(len(ids), prompt.mask), beta
    masked = rng.random(len(ids)) < rate
    return [int(i) for i in np.where(masked, drawn, np.asarray(ids, dtype=np.int64))]


def image_tensor(pictured: Sequence[Example | Scene]) -> Tensor:
    """The pictures as float32 (B, 3, 64, 64) in [0, 1]."""
    stack = np.stack([one.image for one in pictured])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255


def gaussian(rng: np.random.Generator, images: Tensor, sigma: Tensor) -> Tensor:
    """`images` (B, 3, H, W) plus Gaussian noise of standard deviation `sigma` (B,), not clamped."""
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    return images + sigma.view(-1, 1, 1, 1) * noise


def pad(prompt_ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Right-pad token ids with 0 to (B, L); also returns the lengths (B,)."""
    lengths = torch.tensor([len(ids) for ids in prompt_ids])
    padded = torch.zeros(len(prompt_ids), int(lengths.max()), dtype=torch.long)
    for row, ids in zip(padded, prompt_ids, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return padded, lengths
