"""Loads a guard's checkpoint: safetensors only, from the folder only, nothing of it executed."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.utils import logging

from holdfast_worker.models.checkpoint import require_llava
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.fingerprint import fingerprint
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.prompt import load_prompt
from holdfast_worker.models.vision.image_path import Llava
from holdfast_worker.models.vision.preprocessing import load_pixels
from holdfast_worker.models.weights import find_device, find_dtype, require_fit

_MODELS: dict[str, Any] = {
    "llava": LlavaForConditionalGeneration,
    "llava_next": LlavaNextForConditionalGeneration,
    "llava_onevision": LlavaOnevisionForConditionalGeneration,
}


def load_guard(folder: Path, config: GuardConfig) -> LlavaGuard:
    """Loads a LLaVA-1.5, LLaVA-NeXT or LLaVA-OneVision checkpoint as a guard.

    Args:
        folder: Checkpoint folder: ``config.json``, safetensors, tokenizer and image processor.
        config: The guard's settings.

    Raises:
        ModelConfigError: The folder or the settings cannot be served; the message says what to change.
    """
    kind = require_llava(folder)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = find_device(config.device)
    dtype = find_dtype(config.dtype, device)
    model = _load_model(folder, kind, dtype)
    model.to(device)  # type: ignore[arg-type]
    space = config.noise_height, config.noise_width
    pixels = load_pixels(folder, model.config, config.tiles, space)
    embeddings = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    prompt = load_prompt(folder, config, image_token=model.config.image_token_id, embeddings=embeddings)
    name = fingerprint(folder, config, prompt.alphabet, dtype=str(dtype).removeprefix("torch."))
    return LlavaGuard(model, prompt=prompt, pixels=pixels, config=config, fingerprint=name)


def _load_model(folder: Path, kind: str, dtype: torch.dtype) -> Llava:
    loaded: Any = _MODELS[kind].from_pretrained(
        folder,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa",
        output_loading_info=True,
    )
    model, report = loaded
    require_fit({kind: report[kind] for kind in ("missing_keys", "mismatched_keys")})
    frozen: Llava = model.eval().requires_grad_(False)
    return frozen
