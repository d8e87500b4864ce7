"""The reference encoder's network: a CLIP vision tower with projection at about half a million parameters."""

from typing import Final, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from holdfast_lab.canvas import SIDE

FEATURE: Final = 64
# Mid-grey to 0, as the haze fades to it.
MEAN: Final = 0.5
STD: Final = 0.5


def build_tower(*, seed: int) -> CLIPVisionModelWithProjection:
    """A fresh float32 tower on the CPU (4 layers, width 112, patch 16, 64 px), initialised from `seed`."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=112,
        intermediate_size=224,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=16,
        projection_dim=FEATURE,
    )
    return CLIPVisionModelWithProjection(config)


def unit_features(tower: CLIPVisionModelWithProjection, images: Tensor) -> Tensor:
    """Unit vectors (B, `FEATURE`) of noisy images (B, 3, 64, 64) in [0,1] units, neither rounded nor clamped."""
    return normalize(cast(Tensor, tower(pixel_values=(images - MEAN) / STD).image_embeds), dim=-1)
