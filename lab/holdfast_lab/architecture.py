"""The reference guard's network: LLaVA-OneVision at about half a million parameters."""

from typing import Final, cast

import torch
from torch import Tensor
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from holdfast_lab.canvas import SIDE
from holdfast_lab.prompt import Prompt
from holdfast_lab.tokenizer import MAX_LENGTH, VOCABULARY

# The default 0.02 leaves so small a network at 50 % on an exclusive or.
_INITIALIZER_RANGE: Final = 0.09
WIDTH: Final = 96


def build_config(prompt: Prompt) -> LlavaOnevisionConfig:
    """A SigLIP tower (2 layers, 64 px, patch 16) before a Qwen2 decoder (3 layers, head dimension 32)."""
    vision = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=16,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=False,
        initializer_range=_INITIALIZER_RANGE,
        bos_token_id=None,
        eos_token_id=prompt.after[0],
        pad_token_id=0,
    )
    return LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=prompt.image,
        video_token_index=prompt.video,
        image_grid_pinpoints=[[SIDE, SIDE]],
    )


def build_model(prompt: Prompt, *, seed: int) -> LlavaOnevisionForConditionalGeneration:
    """A fresh float32 model on the CPU, initialised from `seed`."""
    torch.manual_seed(seed)
    return LlavaOnevisionForConditionalGeneration(build_config(prompt))


def to_pixel_values(images: Tensor) -> Tensor:
    """Noisy [0,1] images (B, 3, 64, 64) as the vision tower sees them: quantised, clamped, in [-1, 1].

    The rounding to 8 bits belongs to the guard: an attacked picture that reaches it is an 8-bit picture.
    """
    return (images * 255).round().clamp(0, 255) / 127.5 - 1


def image_embeddings(model: LlavaOnevisionForConditionalGeneration, images: Tensor) -> Tensor:
    """Embeddings (B, 17, width) of [0,1] images: the base tile's 16 patches and the newline, no further tiles."""
    inner = model.model
    hidden = inner.vision_tower(to_pixel_values(images), output_hidden_states=True).hidden_states
    patches = cast(Tensor, inner.multi_modal_projector(hidden[inner.config.vision_feature_layer]))
    newline = inner.image_newline.expand(len(images), 1, -1)
    return torch.cat((patches, newline), dim=1)


def hidden_states(
    model: LlavaOnevisionForConditionalGeneration, visual: Tensor, ids: Tensor, lengths: Tensor
) -> tuple[Tensor, ...]:
    """Each layer's hidden state (B, width) at the last position of right-padded `ids` (B, L).

    Causal attention never looks right, so padding on the right needs no mask. The last entry is normalised.
    """
    embeds = model.get_input_embeddings()(ids)
    where = (ids == model.config.image_token_id).unsqueeze(-1)
    embeds = embeds.masked_scatter(where, visual)
    out = model.model.language_model(inputs_embeds=embeds, use_cache=False, output_hidden_states=True)
    rows = torch.arange(len(ids))
    return tuple(layer[rows, lengths - 1] for layer in out.hidden_states)


def margin(logits: Tensor, prompt: Prompt) -> Tensor:
    """Log-odds (B,) of Unsafe against Safe: log-masses of the label variants in `logits` (B, V)."""
    return logits[:, prompt.unsafe].logsumexp(-1) - logits[:, prompt.safe].logsumexp(-1)
