"""Loads a guard's checkpoint: safetensors only, from the folder only, nothing of it executed."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlavaForConditionalGeneration,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
)
from transformers.utils import logging

from holdfast_worker.models.errors import GuardConfigError
from holdfast_worker.models.fingerprint import fingerprint
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.prompt import load_prompt
from holdfast_worker.models.vision.image_path import Llava
from holdfast_worker.models.vision.preprocessing import load_pixels

__all__ = ["find_device", "find_dtype", "load_guard", "require_no_code", "require_safetensors"]

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
        GuardConfigError: The folder or the settings cannot be served; the message says what to change.
    """
    _check_folder(folder)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = find_device(config.device)
    dtype = find_dtype(config.dtype, device)
    model = _load_model(folder, dtype)
    model.to(device)  # type: ignore[arg-type]
    space = config.noise_height, config.noise_width
    pixels = load_pixels(folder, model.config, config.tiles, space)
    embeddings = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    prompt = load_prompt(folder, config, image_token=model.config.image_token_id, embeddings=embeddings)
    name = fingerprint(folder, config, prompt.alphabet, dtype=str(dtype).removeprefix("torch."), device=device.type)
    return LlavaGuard(model, prompt=prompt, pixels=pixels, config=config, fingerprint=name)


def _check_folder(folder: Path) -> None:
    path = folder / "config.json"
    if not path.is_file():
        raise GuardConfigError(f"{folder} holds no config.json, must be a checkpoint folder; correct the path")
    kind = json.loads(path.read_text("utf-8")).get("model_type")
    if kind not in _MODELS:
        raise GuardConfigError(f"model_type={kind!r} must be one of {', '.join(_MODELS)}; use such a checkpoint")
    require_no_code(folder)
    require_safetensors(folder)


def require_no_code(folder: Path) -> None:
    """Refuses a folder that names code of its own, which nothing here would run.

    Raises:
        GuardConfigError: A file names some.
    """
    for path in sorted(folder.glob("*config.json")):
        settings = json.loads(path.read_text("utf-8"))
        if isinstance(settings, dict) and settings.get("auto_map"):
            raise GuardConfigError(
                f"{path.name} has an auto_map, which asks for code of the checkpoint's own, and none is run; use a"
                " checkpoint that transformers itself knows, or drop auto_map where that is the same model"
            )


def require_safetensors(folder: Path) -> None:
    """Refuses a folder without safetensors.

    Raises:
        GuardConfigError: It holds none.
    """
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for ending in ("*.bin", "*.pt", "*.pth") for file in folder.glob(ending))
        raise GuardConfigError(
            f"{folder} holds no safetensors (pickled: {pickles}), weights must be safetensors, since unpickling runs"
            " code; convert them in a place you trust"
        )


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is CUDA where there is one.

    Raises:
        GuardConfigError: It is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise GuardConfigError(f"device={name} must exist, and no CUDA device is present; use device=auto or cpu")
    return torch.device(name)


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number type of this name; ``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def _load_model(folder: Path, dtype: torch.dtype) -> Llava:
    kind = json.loads((folder / "config.json").read_text("utf-8"))["model_type"]
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
    # transformers only warns and leaves such weights random.
    if absent := sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]])):
        raise GuardConfigError(
            f"{len(absent)} weights are missing or misshapen (first: {absent[0]}), all must fit config.json; use the"
            " weights that belong to it"
        )
    frozen: Llava = model.eval().requires_grad_(False)
    return frozen
