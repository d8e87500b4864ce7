"""Writes a trained encoder as a folder that serving and transformers can load."""

import json
from pathlib import Path
from typing import Any, Final

from safetensors.torch import load_file, save_file

from holdfast_lab.canvas import SIDE
from holdfast_lab.encoder.architecture import MEAN, STD
from holdfast_lab.encoder.head_files import TrainedHead, save_head
from holdfast_lab.encoder.training import MAX_SIGMA, Trained
from holdfast_lab.scenes import Kind

NAME: Final = "reference-encoder"
HEAD: Final = "objects"
DEFAULTS: Final[dict[str, Any]] = {
    "sigma": MAX_SIGMA,
    "alpha": 0.001,
    "draws": 10_000,
    "selection_draws": 100,
    "reference": "clean",
    "embedding_draws": 8,
    "embedding_alpha": 0.05,
}


def _image_processor() -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
    }


def serving_config() -> dict[str, Any]:
    """The content of `holdfast.json`: which tower it is, what it is noised in, what a silent request gets."""
    return {
        "name": NAME,
        "kind": "encoder",
        "architecture": "clip",
        "feature": "projection",
        "noise_height": SIDE,
        "noise_width": SIDE,
        "heads": [HEAD],
        "dtype": "float32",
        "device": "auto",
        "defaults": DEFAULTS,
    }


def export(trained: Trained, folder: Path) -> None:
    """Write weights in half precision, prototypes in single, configuration, processor and serving configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    trained.tower.save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file({name: weight.half() for name, weight in load_file(path).items()}, path, metadata={"format": "pt"})
    save_head(TrainedHead([*map(str, Kind)], trained.prototypes), folder / "heads" / f"{HEAD}.safetensors")
    for name, content in (("preprocessor_config.json", _image_processor()), ("holdfast.json", serving_config())):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
