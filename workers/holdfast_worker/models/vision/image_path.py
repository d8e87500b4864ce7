"""From noisy images to what the language model reads of them: tiles, vision tower, projector, newlines."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)

from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.vision.hidden_states import hidden_states_of
from holdfast_worker.models.vision.preprocessing import Pixels, pack, to_tiles

Llava = LlavaForConditionalGeneration | LlavaNextForConditionalGeneration | LlavaOnevisionForConditionalGeneration
"""A whole model of transformers: LLaVA-1.5, LLaVA-NeXT or LLaVA-OneVision."""


@dataclass(frozen=True, eq=False)
class ImagePath:
    """The image side of a LLaVA model, on its device.

    Attributes:
        tower: The vision tower.
        projector: From the tower's width to the language model's.
        newline: The learnt feature after each row of patches; LLaVA-1.5 has none.
        layers: Hidden states of the tower that are read, joined along the width.
        pixels: The tiling.
        dtype: Number type of weights and activations.
        skip: Leading tokens of the tower that are not read: its class token.
    """

    tower: nn.Module
    projector: nn.Module
    newline: Tensor | None
    layers: tuple[int, ...]
    pixels: Pixels
    dtype: torch.dtype
    skip: int = 0

    @classmethod
    def of(cls, parts: Any, config: Any, pixels: Pixels, dtype: torch.dtype) -> Self:
        """The image side whose parts have the names that transformers gives them."""
        layer = config.vision_feature_layer
        return cls(
            tower=parts.vision_tower,
            projector=parts.multi_modal_projector,
            newline=getattr(parts, "image_newline", None),
            layers=(layer,) if isinstance(layer, int) else tuple(layer),
            pixels=pixels,
            dtype=dtype,
            skip=int(config.vision_feature_select_strategy == "default"),
        )

    def features(self, images: Tensor, clock: StageClock) -> Tensor:
        """Runs noisy images through the tower.

        Args:
            images: float32, shape (n, 3, H, W), in [0,1] before the noise; overwritten.
            clock: What counts the stages' seconds.

        Returns:
            Shape (n, image_tokens, hidden).
        """
        tiles = to_tiles(images, self.pixels)
        clock.mark("preprocess")
        wanted = hidden_states_of(self.layers)
        hidden = self.tower(tiles.to(self.dtype), output_hidden_states=wanted).hidden_states
        projected: Tensor = self.projector(torch.cat([hidden[index][:, self.skip :] for index in self.layers], dim=-1))
        features = pack(projected, self.newline, self.pixels)
        clock.mark("vision")
        return features
