"""open_clip's vision transformer under transformers' names: FARE, TeCoA and LAION checkpoints are kept that way."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import CLIPVisionConfig

from holdfast_worker.models.errors import ModelConfigError

_MARK = "conv1.weight"
_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    _MARK: "embeddings.patch_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
    "proj": "projection",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# Training alone reads the first; the others are read below.
_KNOWN = {"patch_dropout", "image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}


def is_open_clip(names: Mapping[str, Any]) -> bool:
    """Whether tensors have open_clip's names."""
    return f"visual.{_MARK}" in names


def from_open_clip(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision tower's tensors by transformers' names, the projection as ``projection``, shape (E, D).

    Args:
        stored: Tensors whose names begin with ``visual.``; others are left out.

    Raises:
        ModelConfigError: A tensor belongs to no plain vision transformer.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.startswith("visual."):
            found |= _renamed(name.removeprefix("visual."), tensor)
    if "projection" in found:
        found["projection"] = found["projection"].T.contiguous()
    return found


def _renamed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in _NAMES:
        return {_NAMES[name]: tensor}
    if block := _BLOCK.fullmatch(name):
        prefix, part = f"encoder.layers.{block[1]}", block[2]
        if part in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = part.rsplit("_", 1)[1]
            thirds = zip("qkv", tensor.chunk(3), strict=True)
            return {f"{prefix}.self_attn.{letter}_proj.{kind}": third for letter, third in thirds}
        stem, _, kind = part.rpartition(".")
        if stem in _PARTS and kind in ("weight", "bias"):
            return {f"{prefix}.{_PARTS[stem]}.{kind}": tensor}
    raise ModelConfigError(
        f"tensor visual.{name} is none of a plain vision transformer's, which alone can be served; use a ViT checkpoint"
    )


def vision_config(stored: Mapping[str, Any]) -> CLIPVisionConfig:
    """The vision tower that ``open_clip_config.json`` describes, as transformers configures it.

    Args:
        stored: That file's content.

    Raises:
        ModelConfigError: The tower is no plain vision transformer.
    """
    model = stored["model_cfg"]
    vision = model["vision_cfg"]
    strange = sorted(set(vision) - _KNOWN)
    if strange or isinstance(vision["layers"], list):
        raise ModelConfigError(
            f"open_clip_config.json: vision_cfg has {strange or ['layers']}, must describe a plain vision transformer;"
            " use such a checkpoint"
        )
    width = vision["width"]
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * vision.get("mlp_ratio", 4.0)),
        num_hidden_layers=vision["layers"],
        num_attention_heads=width // vision.get("head_width", 64),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        projection_dim=model["embed_dim"],
        hidden_act="quick_gelu" if model.get("quick_gelu", False) else "gelu",
    )
