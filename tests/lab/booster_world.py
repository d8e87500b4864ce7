"""A small encoder folder and small settings, for the tests of the booster's training."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from holdfast_lab.booster.images import DrawnScenes, Images
from holdfast_lab.booster.loop import Setting
from holdfast_lab.booster.recipes import DenoiserRecipe, MapperRecipe
from holdfast_worker.denoisers.mapper import MapperShape
from holdfast_worker.denoisers.unet import UNetShape
from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.loading import load_encoder
from holdfast_worker.models.folder import load_config

WIDTH, SIDE, SIGMA = 8, 16, 0.25
UNET = UNetShape(width=4, multipliers=(1, 2), blocks=1, embedding=4)


def write_encoder(folder: Path) -> Path:
    """A random convolution of 8 channels, averaged over a 16 x 16 picture."""
    generator = torch.Generator().manual_seed(0)
    folder.mkdir()
    weights = {
        "0.weight": torch.randn(WIDTH, 3, 4, 4, generator=generator),
        "0.bias": torch.randn(WIDTH, generator=generator),
    }
    save_file(weights, folder / "model.safetensors")
    convolution = {"kind": "conv2d", "in": 3, "out": WIDTH, "kernel": 4, "stride": 4}
    settings = {
        "name": "small",
        "kind": "encoder",
        "architecture": "layers",
        "layers": [convolution, {"kind": "relu"}, {"kind": "average_pool"}],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "noise_height": SIDE,
        "noise_width": SIDE,
        "device": "cpu",
    }
    (folder / "holdfast.json").write_text(json.dumps(settings), "utf-8")
    return folder


def small_encoder(folder: Path) -> Encoder:
    """The encoder of `write_encoder`, loaded."""
    return load_encoder(folder, load_config(EncoderConfig, folder, {}))


def write_scenes(folder: Path, count: int = 8) -> Path:
    """Drawn scenes as PNG files of the encoder's size."""
    folder.mkdir()
    for index in range(count):
        scene = Image.fromarray(DrawnScenes(count).whole(index))
        scene.resize((SIDE, SIDE)).save(folder / f"{index}.png")
    return folder


def setting(encoder: Encoder, images: Images, save_every: int = 100) -> Setting:
    """A setting on the CPU."""
    return Setting(
        tower=encoder.tower,
        tower_fingerprint=encoder.fingerprint,
        images=images,
        size=encoder.space,
        device=encoder.device,
        save_every=save_every,
    )


def denoiser_recipe(epochs: int = 2) -> DenoiserRecipe:
    """Two draws of each image."""
    return DenoiserRecipe(sigma=SIGMA, epochs=epochs, draws=2, learning_rate=1e-2, shape=UNET)


def mapper_recipe(epochs: int = 2) -> MapperRecipe:
    """Two draws of each image; held less to its input's statistics than the paper's, and free to move at once."""
    return MapperRecipe(
        sigma=SIGMA,
        epochs=epochs,
        draws=2,
        learning_rate=3e-2,
        statistics=0.1,
        shape=MapperShape(width=WIDTH, scale=0.1),
    )


def write_picture(path: Path, *, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A random RGB picture, saved in the format of the path's suffix and returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(path)
    return picture
