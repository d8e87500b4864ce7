"""Writes a trained guard as a checkpoint folder that serving, transformers and vLLM can load."""

import json
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from holdfast_lab.canvas import SIDE
from holdfast_lab.tokenizer import FILLER, MASK, POLICY, SAFE_LABELS, UNSAFE_LABELS, USER_TEMPLATE
from holdfast_lab.training import MAX_SLOTS

NAME: Final = "reference-guard"
ALPHA: Final = 0.01
DEFAULTS: Final[dict[str, Any]] = {
    "token_kernel": "uniform",
    "slots": MAX_SLOTS,
    "beta": 0.9,
    "sigma": 0.5,
    "tau": 0.3,
    "alpha": ALPHA,
    "max_draws": 1000,
    "tolerance": 0.1,
    # Milder than on slots: the noise falls on the request itself, and enough of it must be left to judge.
    "l0": {"beta": 0.4, "tau": 0.3},
}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save_weights(model: LlavaOnevisionForConditionalGeneration, folder: Path) -> None:
    """Half precision and hub names: other engines look for `vision_tower.vision_model.*`."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    weights = {_hub_name(name): weight.half() for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def _hub_name(name: str) -> str:
    tower = "vision_tower."
    return f"{tower}vision_model.{name.removeprefix(tower)}" if name.startswith(tower) else name


def _image_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_pad": True,
        "image_grid_pinpoints": [[SIDE, SIDE]],
    }


def serving_config() -> dict[str, Any]:
    """The content of `holdfast.json`: how this guard is prompted, noised and read; see the model card."""
    return {
        "name": NAME,
        "policy": POLICY,
        "user_template": USER_TEMPLATE,
        "unsafe_tokens": list(UNSAFE_LABELS),
        "safe_tokens": list(SAFE_LABELS),
        "filler_token": FILLER,
        "mask_token": MASK,
        "alphabet": "ordinary",
        "tiles": "base",
        "noise_height": SIDE,
        "noise_width": SIDE,
        "dtype": "float32",
        "device": "auto",
        "max_slots": MAX_SLOTS,
        "max_text_bytes": 160,
        "defaults": DEFAULTS,
    }


def write_serving_config(folder: Path, content: dict[str, Any]) -> None:
    """Write `content` as the folder's `holdfast.json`."""
    _write_json(folder / "holdfast.json", content)


def export(model: LlavaOnevisionForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, configuration, tokenizer, image processor and serving configuration to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_weights(model, folder)
    tokenizer.save_pretrained(folder)
    _write_json(folder / "preprocessor_config.json", _image_processor())
    write_serving_config(folder, serving_config())
