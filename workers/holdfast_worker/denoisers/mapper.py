"""The booster's residual mapper M: refines tokens by the noise they went through ([F] §4.2, A.2.2; maths.md §7).

Where the paper's formulas leave a choice: the sum is Eq. 10's, of each block's update to the tokens themselves
(A.28 reads as if the normalised tokens were carried on, which would not be a residual), and FiLM's factors act where
A.32 has them, on the update. FiLM has no biases, as A.29 is written, so that γ(0) = β(0) = 0 and M(z, 0) is exactly 0;
log σ stands still below ``LOWEST_SIGMA``, so that α stays bounded and M vanishes with σ.
"""

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from holdfast_worker.denoisers.conditioning import per_image, sigma_features


class MapperShape(BaseModel):
    """The numbers that a ``ResidualMapper`` is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(ge=1, le=16_384, description="Length D of a token.")
    blocks: int = Field(3, ge=1, le=32, description="Blocks; the first has attention.")
    heads: int = Field(4, ge=1, le=64, description="Attention heads; divides the width.")
    expansion: int = Field(2, ge=1, le=8, description="Hidden width of the token MLP, in widths.")
    kernel: int = Field(3, ge=1, le=31, description="Length of the convolution over tokens; odd.")
    conditioning: int = Field(32, ge=1, le=1024, description="Hidden width of the networks that read σ.")
    scale: float = Field(5e-4, gt=0, le=10, description="Initial value of the per-channel damping Scale.")

    @model_validator(mode="after")
    def _check(self) -> "MapperShape":
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}; choose a divisor")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel={self.kernel} must be odd, to keep the number of tokens; add one")
        return self


class ResidualMapper(nn.Module):
    """M(z, σ) = Σ Δ_i, added to the tokens by the caller; M(z, 0) = 0, and M(z, σ) → 0 as σ → 0.

    Attributes:
        shape: What it was built from.
    """

    def __init__(self, shape: MapperShape) -> None:
        super().__init__()
        self.shape = shape
        self.blocks = nn.ModuleList(_Block(shape, attention=index == 0) for index in range(shape.blocks))

    def forward(self, tokens: Tensor, sigma: float | Tensor) -> Tensor:
        """The correction to tokens that went through noise of standard deviation σ.

        Args:
            tokens: Shape (B, L, D).
            sigma: σ in [0,1] units of the image, one for all or one per image, shape (B,); at least 0.

        Returns:
            Shape (B, L, D), in the mapper's own number type.
        """
        each = per_image(sigma, tokens)
        refined = tokens.to(next(self.parameters()).dtype)
        total = torch.zeros_like(refined)
        for block in self.blocks:
            update = block(refined, each)
            refined, total = refined + update, total + update
        return total


class _Block(nn.Module):
    """LayerNorm; attention (in the first), MLP and depthwise convolution side by side; an update that grows with σ."""

    def __init__(self, shape: MapperShape, *, attention: bool) -> None:
        super().__init__()
        width, hidden = shape.width, shape.conditioning
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, shape.heads, batch_first=True) if attention else None
        self.mlp = nn.Sequential(
            nn.Linear(width, shape.expansion * width), nn.GELU(), nn.Linear(shape.expansion * width, width)
        )
        self.convolution = nn.Conv1d(width, width, shape.kernel, padding=shape.kernel // 2, groups=width)
        self.film = _from_zero(nn.Linear(1, hidden, bias=False), nn.Linear(hidden, 2 * width, bias=False))
        self.amplitude = _from_zero(nn.Linear(2, hidden), nn.Linear(hidden, 1))
        self.exponent = _from_zero(nn.Linear(1, hidden), nn.Linear(hidden, 1))
        self.scale = nn.Parameter(torch.full((width,), shape.scale))

    def forward(self, tokens: Tensor, sigma: Tensor) -> Tensor:
        direction = functional.normalize(self._branches(self.norm(tokens)), dim=-1)
        column = sigma[:, None].to(self.scale.dtype)
        amplitude = functional.softplus(self.amplitude(sigma_features(sigma).to(self.scale.dtype)))
        magnitude = amplitude * column ** functional.softplus(self.exponent(column))
        gain, bias = self.film(column)[:, None].chunk(2, dim=-1)
        update: Tensor = ((1 + gain) * (direction * magnitude[:, None]) + bias) * self.scale
        return update

    def _branches(self, normed: Tensor) -> Tensor:
        convolved = self.convolution(normed.transpose(1, 2)).transpose(1, 2)
        fused: Tensor = self.mlp(normed) + 0.5 * convolved
        if self.attention is not None:
            fused = fused + self.attention(normed, normed, normed, need_weights=False)[0]
        return fused


def _from_zero(first: nn.Linear, last: nn.Linear) -> nn.Sequential:
    """A two-layer GELU network whose last layer starts at zero."""
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(first, nn.GELU(), last)
