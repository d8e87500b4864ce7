"""Encoders of real weights, two published CIFAR-10 networks, and images for them: our own, or 200 of the test set."""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WEIGHTS = Path(__file__).parents[1] / "data" / "weights"

_CNN: dict[str, Any] = {
    "weights": "cifar_cnn_a_adv.safetensors",
    "last": "7",
    "length": 37.4,
    "settings": {
        "mean": [0.4914, 0.4824, 0.4467],
        "std": [0.2471, 0.2435, 0.2616],
        "layers": [
            {"kind": "conv2d", "in": 3, "out": 16, "kernel": 4, "stride": 2, "padding": 1},
            {"kind": "relu"},
            {"kind": "conv2d", "in": 16, "out": 32, "kernel": 4, "stride": 2, "padding": 1},
            {"kind": "relu"},
            {"kind": "flatten"},
            {"kind": "linear", "in": 2048, "out": 100},
            {"kind": "relu"},
        ],
    },
}


def _block(name: str, inputs: int, outputs: int, stride: int) -> dict[str, Any]:
    return {"kind": "basic_block", "name": name, "in": inputs, "out": outputs, "stride": stride}


_RESNET: dict[str, Any] = {
    "weights": "resnet20_cifar10.safetensors",
    "last": "linear",
    "length": 8.37,
    "settings": {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "layers": [
            {"kind": "conv2d", "name": "conv1", "in": 3, "out": 16, "kernel": 3, "padding": 1, "bias": False},
            {"kind": "batch_norm2d", "name": "bn1", "features": 16},
            {"kind": "relu"},
            *(_block(f"layer1.{index}", 16, 16, 1) for index in range(3)),
            *(_block(f"layer2.{index}", 32 if index else 16, 32, 1 if index else 2) for index in range(3)),
            *(_block(f"layer3.{index}", 64 if index else 32, 64, 1 if index else 2) for index in range(3)),
            {"kind": "average_pool"},
        ],
    },
}


def cifar_encoder(folder: Path, name: Literal["cnn", "resnet20"]) -> Path:
    """Writes an encoder's folder: the network without its last layer, which is the head `linear`.

    The encoder's features have length 1, so the head's bias is divided by the median length of the network's own.
    """
    network = {"cnn": _CNN, "resnet20": _RESNET}[name]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(WEIGHTS / network["weights"], folder / "model.safetensors")
    stored = load_file(folder / "model.safetensors")
    weight, bias = (stored[f"{network['last']}.{part}"] for part in ("weight", "bias"))
    write_head(folder, "linear", kind="linear", weight=weight, bias=bias / network["length"])
    settings = {
        "name": f"cifar-{name}",
        "kind": "encoder",
        "architecture": "layers",
        "noise_height": 32,
        "noise_width": 32,
        "heads": ["linear"],
        "device": "cpu",
        "defaults": {"sigma": 0.12},
    }
    (folder / "holdfast.json").write_text(json.dumps(settings | network["settings"]))
    return folder


def write_head(
    folder: Path, name: str, *, kind: str, classes: tuple[str, ...] = CIFAR, **tensors: torch.Tensor
) -> Path:
    """Writes a head's file beside an encoder's weights."""
    (folder / "heads").mkdir(exist_ok=True)
    metadata = {"classes": json.dumps(classes), "kind": kind, "version": "1", "clip": "0.1"}
    path = folder / "heads" / f"{name}.safetensors"
    save_file({part: tensor.contiguous() for part, tensor in tensors.items()}, path, metadata=metadata)
    return path


def cifar_images(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """200 test images, uint8 (200, 32, 32, 3), and their labels, from the folder of outside data."""
    with np.load(data / "cifar10" / "cifar10_200.npz") as stored:
        return stored["images"], stored["labels"]


def drawn_images(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images of our own, uint8 (count, 32, 32, 3), and their labels: stripes of a slope and a colour for each label."""
    rng, labels = np.random.default_rng(7), np.arange(count) % len(CIFAR)
    rows, columns = np.mgrid[:32, :32]
    angles = np.pi * labels / len(CIFAR)
    waves = np.cos(angles)[:, None, None] * rows + np.sin(angles)[:, None, None] * columns
    stripes = np.sin(waves * 0.8 + rng.uniform(0, 2 * np.pi, (count, 1, 1)))
    colours = 0.5 + 0.4 * np.cos(2 * np.pi * (labels[:, None] / len(CIFAR) + np.arange(3) / 3))
    images = colours[:, None, None, :] * (0.7 + 0.3 * stripes[..., None]) + rng.normal(0, 0.05, (count, 32, 32, 3))
    return (255 * images.clip(0, 1)).astype(np.uint8), labels
