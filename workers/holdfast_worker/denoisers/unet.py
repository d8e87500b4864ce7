"""The booster's denoiser P: a small conditional U-Net ([F] §4.1 and A.2.1; maths.md §7)."""

import math
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from holdfast_worker.denoisers.conditioning import on_multiples, per_image, sigma_features

Multiplier = Annotated[int, Field(ge=1, le=16)]


class UNetShape(BaseModel):
    """The numbers that a ``BoosterUNet`` is built from. The defaults have 2.4 million weights, 9.5 MB in float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(32, ge=1, le=512, description="Channels at full resolution.")
    multipliers: tuple[Multiplier, ...] = Field(
        (1, 2, 3, 4),
        min_length=1,
        max_length=6,
        description="Channels of each level in widths; each level halves H and W.",
    )
    blocks: int = Field(2, ge=1, le=8, description="Residual blocks of a level, on either side.")
    embedding: int = Field(96, ge=1, le=2048, description="Length of the noise level's embedding.")


class BoosterUNet(nn.Module):
    """P(x, σ) = x + net(x, σ): residual blocks, a skip at every scale, a learnt embedding of σ in every block.

    The last convolution starts at zero, so that an untrained one is the identity. No random or running statistics:
    its output is a function of images and σ alone.

    Attributes:
        shape: What it was built from.
    """

    def __init__(self, shape: UNetShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or UNetShape()
        *sizes, deepest = (shape.width * multiplier for multiplier in shape.multipliers)
        first = sizes[0] if sizes else deepest
        self.embed = nn.Sequential(
            nn.Linear(2, shape.embedding), nn.SiLU(), nn.Linear(shape.embedding, shape.embedding), nn.SiLU()
        )
        self.stem = nn.Conv2d(3, first, 3, padding=1)
        self.down = nn.ModuleList(_Level(size, size, shape) for size in sizes)
        targets = [*sizes[1:], deepest]
        self.shrink = nn.ModuleList(
            nn.Conv2d(size, target, 3, stride=2, padding=1) for size, target in zip(sizes, targets, strict=False)
        )
        self.middle = _Level(deepest, deepest, shape)
        self.grow = nn.ModuleList(
            nn.Conv2d(target, size, 3, padding=1) for size, target in zip(sizes, targets, strict=False)
        )
        self.up = nn.ModuleList(_Level(2 * size, size, shape) for size in sizes)
        self.head = nn.Sequential(_norm(first), nn.SiLU(), _zero(nn.Conv2d(first, 3, 3, padding=1)))

    def forward(self, images: Tensor, sigma: float | Tensor) -> Tensor:
        """Denoises.

        Args:
            images: Noisy images in [0,1] units, whose values may leave [0,1]; shape (B, 3, H, W), any H and W.
            sigma: The noise's standard deviation in the same units, one for all or one per image, shape (B,).

        Returns:
            Shape (B, 3, H, W), not clipped.
        """
        embedding = self.embed(sigma_features(per_image(sigma, images)).to(self.stem.weight.dtype))
        multiple = 2 ** len(self.down)
        return images + on_multiples(images, multiple, lambda padded: self._correction(padded, embedding))

    def _correction(self, images: Tensor, embedding: Tensor) -> Tensor:
        hidden = self.stem(2 * images - 1)
        skips = []
        for level, shrink in zip(self.down, self.shrink, strict=True):
            skips.append(level(hidden, embedding))
            hidden = shrink(skips[-1])
        hidden = self.middle(hidden, embedding)
        for skip, grow, level in reversed(list(zip(skips, self.grow, self.up, strict=True))):
            hidden = level(torch.cat((grow(functional.interpolate(hidden, scale_factor=2.0)), skip), dim=1), embedding)
        correction: Tensor = self.head(hidden)
        return correction


class _Level(nn.Module):
    """The residual blocks of one scale."""

    def __init__(self, inputs: int, outputs: int, shape: UNetShape) -> None:
        super().__init__()
        sizes = [inputs] + [outputs] * shape.blocks
        self.blocks = nn.ModuleList(_ResidualBlock(a, b, shape.embedding) for a, b in pairwise(sizes))

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden, embedding)
        return hidden


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.condition = nn.Linear(embedding, 2 * outputs)
        self.norm = _norm(outputs)
        self.leave = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        gain, bias = self.condition(embedding)[:, :, None, None].chunk(2, dim=1)
        refined = self.norm(self.enter(hidden)) * (1 + gain) + bias
        result: Tensor = self.skip(hidden) + self.leave(functional.silu(refined))
        return result


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
