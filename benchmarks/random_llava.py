"""LLaVA-OneVision models of any size with random weights, and a folder with what belongs beside the weights.

Time does not depend on the weights, and nothing is downloaded. The tokenizer has the published vocabulary's size and
special ids; its ordinary words are those of the policy, so that a prompt is about as long as a published one's, and the
rest of its vocabulary is filler that no text spells.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.policies import MULTIMODAL_SAFETY_V1
from holdfast_worker.models.guard.prompt import load_prompt
from holdfast_worker.models.vision.preprocessing import load_pixels

__all__ = ["build", "configuration", "guard_of", "write_beside"]

ORDINARY = 151_643
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
IMAGE = ORDINARY + SPECIALS.index("<image>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {% for p in m.content %}{% if p.type == 'image' %}<image>\n"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def configuration(vision: dict[str, Any], text: dict[str, Any], *, most_tiles: int = 9) -> LlavaOnevisionConfig:
    """A LLaVA-OneVision of these parts, with the published tiling of up to six by six tiles."""
    side = vision["image_size"]
    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision, vision_use_head=False),
        text_config=Qwen2Config(**text, bos_token_id=ORDINARY, eos_token_id=ORDINARY + 2, pad_token_id=ORDINARY),
        image_token_index=IMAGE,
        video_token_index=IMAGE + 1,
        image_grid_pinpoints=[[side * rows, side * columns] for rows in range(1, 7) for columns in range(1, 7)],
        vision_aspect_ratio=f"anyres_max_{most_tiles}",
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )


def build(
    config: LlavaOnevisionConfig, dtype: torch.dtype, device: torch.device, *, share_layers: bool
) -> LlavaOnevisionForConditionalGeneration:
    """The model with random weights, in evaluation mode.

    Args:
        config: Its shapes.
        dtype: Number type of its weights.
        device: Where it goes.
        share_layers: Whether all layers of the language model read one layer's weights: the same work in less memory.
    """
    torch.manual_seed(0)
    kind: Any = LlavaOnevisionForConditionalGeneration
    whole: Any = copy.deepcopy(config)
    text: Any = config.text_config
    if share_layers:
        whole.text_config.num_hidden_layers, whole.text_config.layer_types = 1, text.layer_types[:1]
    with device:
        model: Any = kind._from_config(whole, dtype=dtype, attn_implementation="sdpa")
    if share_layers:
        inner = model.model.language_model
        inner.config.num_hidden_layers, inner.config.layer_types = text.num_hidden_layers, text.layer_types
        model.config.text_config = inner.config
        inner.layers = nn.ModuleList(_reader(inner.layers[0], index) for index in range(text.num_hidden_layers))
    frozen: LlavaOnevisionForConditionalGeneration = model.eval().requires_grad_(False)
    return frozen


def _reader(layer: nn.Module, index: int) -> nn.Module:
    """The layer at another index, reading the same weights."""
    found: Any = copy.deepcopy(layer, {id(weight): weight for weight in layer.parameters()})
    found.self_attn.layer_idx = index
    return found  # type: ignore[no-any-return]


def write_beside(folder: Path, config: LlavaOnevisionConfig, settings: dict[str, Any]) -> None:
    """Writes tokenizer, image processor, config.json and holdfast.json, everything but weights."""
    _tokenizer().save_pretrained(folder)
    shapes: Any = config
    side, pinpoints = shapes.vision_config.image_size, shapes.image_grid_pinpoints
    size, half = {"height": side, "width": side}, [0.5] * 3
    LlavaOnevisionImageProcessorPil(
        size=size, image_mean=half, image_std=half, image_grid_pinpoints=pinpoints
    ).save_pretrained(folder)
    config.save_pretrained(folder)
    (folder / "holdfast.json").write_text(json.dumps(settings))


def guard_of(model: LlavaOnevisionForConditionalGeneration, folder: Path, config: GuardConfig) -> LlavaGuard:
    """The model as a guard; the folder has what `write_beside` wrote."""
    shapes: Any = model.config
    space = config.noise_height, config.noise_width
    prompt = load_prompt(folder, config, image_token=IMAGE, embeddings=shapes.text_config.vocab_size)
    pixels = load_pixels(folder, shapes, config.tiles, space)
    return LlavaGuard(model, prompt=prompt, pixels=pixels, config=config, fingerprint="random")


def _tokenizer() -> PreTrainedTokenizerFast:
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4000, initial_alphabet=words, show_progress=False)
    learnt.train_from_iterator([MULTIMODAL_SAFETY_V1, "Safe Unsafe", "user assistant"] * 20, trainer)
    stored = json.loads(learnt.to_str())["model"]
    vocabulary = dict(stored["vocab"])
    vocabulary |= {f"\u0120filler{index}": index for index in range(len(vocabulary), ORDINARY)}
    vocabulary |= {special: ORDINARY + index for index, special in enumerate(SPECIALS)}
    backend = Tokenizer(models.BPE(vocabulary, [tuple(merge) for merge in stored["merges"]]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    kind: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = kind(tokenizer_object=backend, pad_token=SPECIALS[0], eos_token=SPECIALS[2])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIALS[1:])})
    tokenizer.chat_template = TEMPLATE
    return tokenizer
