"""Tiny random vision checkpoints in the layouts that real ones are published in."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
)
from transformers.models.clip import CLIPImageProcessorPil
from transformers.models.siglip import SiglipImageProcessorPil

SIDE = 32
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
}
_TEXT: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 40,
}


def _lively(model: Any) -> Any:
    """Random weights of a size at which every layer matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.2 if parameter.ndim > 1 else 0.1
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _settle(folder: Path, model: Any, processor: Any, **settings: Any) -> Path:
    _lively(model).save_pretrained(folder, max_shard_size=settings.pop("max_shard_size", "1GB"))
    processor.save_pretrained(folder)
    (folder / "holdfast.json").write_text(json.dumps({"name": "tiny", "kind": "encoder", "device": "cpu"} | settings))
    return folder


def _clip_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def clip_folder(folder: Path, **settings: Any) -> Path:
    """A CLIP of image and text, as OpenAI's are published."""
    config = CLIPConfig(
        vision_config=_VISION | {"projection_dim": 12}, text_config=_TEXT | {"bos_token_id": 1, "eos_token_id": 2}
    )
    config.projection_dim = 12
    return _settle(folder, CLIPModel(config), _clip_processor(), architecture="clip", **settings)


def siglip_folder(folder: Path, **settings: Any) -> Path:
    """A SigLIP of image and text."""
    config = SiglipConfig(vision_config=_VISION, text_config=_TEXT | {"pad_token_id": 1, "projection_size": 16})
    processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.4] * 3)
    return _settle(folder, SiglipModel(config), processor, architecture="siglip", **settings)


def llava_folder(folder: Path, *, of: type = LlavaConfig, vision: Any = None, **settings: Any) -> Path:
    """A LLaVA or LLaVA-NeXT whose weights lie in several shards."""
    kind = {LlavaConfig: LlavaForConditionalGeneration, LlavaNextConfig: LlavaNextForConditionalGeneration}[of]
    config = of(
        vision_config=vision or CLIPVisionConfig(**_VISION),
        text_config=LlamaConfig(**_TEXT, num_key_value_heads=1, pad_token_id=0),
        image_token_index=39,
        **settings.pop("config", {}),
    )
    return _settle(folder, kind(config), _clip_processor(), architecture="llava", max_shard_size="20KB", **settings)


def siglip_vision() -> SiglipVisionConfig:
    """A vision model without a class token, for a LLaVA."""
    return SiglipVisionConfig(**_VISION, vision_use_head=False)


def open_clip_folder(folder: Path, clip: Path, *, quick_gelu: bool = True, **settings: Any) -> Path:
    """The CLIP of another folder in open_clip's layout, as FARE's and TeCoA's are published."""
    folder.mkdir()
    stored = load_file(clip / "model.safetensors")
    tensors = {f"visual.{name}": tensor for name, tensor in _open_clip_names(stored).items()}
    tensors |= {"token_embedding.weight": torch.zeros(4, 8), "transformer.resblocks.0.ln_1.weight": torch.zeros(8)}
    save_file(tensors, folder / "open_clip_model.safetensors")
    processor = _clip_processor()
    layout = {
        "model_cfg": {
            "embed_dim": 12,
            "quick_gelu": quick_gelu,
            "vision_cfg": {
                "image_size": SIDE, "layers": 3, "width": 16, "patch_size": 8, "head_width": 8, "mlp_ratio": 3.0,
            },
            "text_cfg": {"width": 8, "layers": 1},
        },
        "preprocess_cfg": {"mean": processor.image_mean, "std": processor.image_std},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(layout))
    own = {"name": "tiny", "kind": "encoder", "architecture": "open_clip", "device": "cpu"}
    (folder / "holdfast.json").write_text(json.dumps(own | settings))
    return folder


def _open_clip_names(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """What open_clip calls the tensors of a vision transformer (its `VisionTransformer`)."""
    vision = {name.removeprefix("vision_model."): tensor for name, tensor in stored.items()}
    found = {
        "class_embedding": vision["embeddings.class_embedding"],
        "positional_embedding": vision["embeddings.position_embedding.weight"],
        "conv1.weight": vision["embeddings.patch_embedding.weight"],
        "proj": stored["visual_projection.weight"].T.contiguous(),
    }
    norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    for block in range(3):
        here, there = f"transformer.resblocks.{block}", f"encoder.layers.{block}"
        norms |= {f"{here}.ln_{index}": f"{there}.layer_norm{index}" for index in (1, 2)}
        norms |= {f"{here}.mlp.c_fc": f"{there}.mlp.fc1", f"{here}.mlp.c_proj": f"{there}.mlp.fc2"}
        norms |= {f"{here}.attn.out_proj": f"{there}.self_attn.out_proj"}
        for part in ("weight", "bias"):
            thirds = [vision[f"{there}.self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            found[f"{here}.attn.in_proj_{part}"] = torch.cat(thirds)
    return found | {f"{ours}.{part}": vision[f"{t}.{part}"] for ours, t in norms.items() for part in ("weight", "bias")}
