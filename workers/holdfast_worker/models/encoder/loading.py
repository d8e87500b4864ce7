"""Loads an encoder: the tower, what denoises and corrects it, its heads, and its fingerprint."""

import json
from pathlib import Path

import torch
from torch import nn

from holdfast.certificates.noise.version import SAMPLER
from holdfast_worker.denoisers.loading import load_booster, load_diffusion
from holdfast_worker.denoisers.mapper import ResidualMapper
from holdfast_worker.models.checkpoint import require_safetensors
from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.heads import load_head
from holdfast_worker.models.encoder.vision import load_vision
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import digest, weights_and_files
from holdfast_worker.models.vision.layers import build_layers
from holdfast_worker.models.vision.towers import LayersTower, Tower
from holdfast_worker.models.weights import find_device, find_dtype, read_tensors, tensor_places

HEADS = "heads"
"""Folder of an encoder's heads, inside its own."""

Parts = list[tuple[str, bytes]]


def load_encoder(folder: Path, config: EncoderConfig) -> Encoder:
    """Loads an encoder from its folder, and the folders of its booster and diffusion model.

    Args:
        folder: The vision model's folder: weights as safetensors, configuration, image processor, ``heads/``.
        config: The encoder's settings.

    Raises:
        ModelConfigError: A folder or the settings cannot be served; the message says what to change.
    """
    device, dtype = find_device(config.device), find_dtype(config.dtype, find_device(config.device))
    tower = load_tower(folder, config, dtype)
    denoiser, mapper, parts = _helpers(folder, config, device)
    space = config.noise_height or tower.size[0], config.noise_width or tower.size[1]
    encoder = Encoder(
        tower,
        config=config,
        fingerprint=_fingerprint(folder, config, space, dtype, parts),
        device=device,
        space=space,
        denoiser=denoiser,
        mapper=mapper,
    )
    if mapper is not None and mapper.shape.width != encoder.token_shape[1]:
        raise ModelConfigError(
            f"the booster's mapper takes tokens {mapper.shape.width} wide, must take this encoder's,"
            f" {encoder.token_shape[1]} wide; train one for this encoder"
        )
    heads = [load_head(folder / HEADS / f"{name}.safetensors", encoder.dimension, device) for name in config.heads]
    encoder.heads = {head.name: head for head in heads}
    return encoder


def load_tower(folder: Path, config: EncoderConfig, dtype: torch.dtype) -> Tower:
    """Loads the vision tower alone, on the CPU.

    Args:
        folder: The vision model's folder.
        config: The encoder's settings.
        dtype: Number type of its weights and activations.

    Raises:
        ModelConfigError: The folder or the settings cannot be served.
    """
    if not folder.is_dir():
        raise ModelConfigError(f"{folder} must be a folder that exists; correct the path")
    require_safetensors(folder)
    if config.architecture != "layers":
        return load_vision(folder, config, dtype)
    if config.mean is None or config.std is None or config.noise_height is None or config.noise_width is None:
        raise ModelConfigError("architecture=layers needs mean, std, noise_height and noise_width; add them")
    network = build_layers(config.layers, read_tensors(tensor_places(folder)))
    size = config.noise_height, config.noise_width
    return LayersTower(network, size=size, mean=config.mean, std=config.std, dtype=dtype)


def _helpers(
    folder: Path, config: EncoderConfig, device: torch.device
) -> tuple[nn.Module | None, ResidualMapper | None, Parts]:
    """Denoiser, mapper, and what of them goes into the fingerprint."""
    denoiser: nn.Module | None = None
    mapper: ResidualMapper | None = None
    parts: Parts = []
    if config.booster is not None:
        booster = load_booster(folder / config.booster, device)
        denoiser, mapper = booster.denoiser, booster.mapper
        parts += [(f"booster/{name}", content) for name, content in booster.fingerprint_parts]
    if config.diffusion is not None:
        if denoiser is not None:
            raise ModelConfigError("booster and diffusion both denoise, and one may; drop one or use another booster")
        diffusion = load_diffusion(folder / config.diffusion, device)
        denoiser = diffusion.denoiser
        parts += [(f"diffusion/{name}", content) for name, content in diffusion.fingerprint_parts]
    return denoiser, mapper, parts


def _fingerprint(
    folder: Path,
    config: EncoderConfig,
    space: tuple[int, int],
    dtype: torch.dtype,
    parts: Parts,
) -> str:
    """Hashes all that a feature depends on besides the draw itself; heads, defaults and the name are left out."""
    feature = config.model_dump(include={"architecture", "layer", "layers", "mean", "std"}, by_alias=True)
    computation = {"feature": config.used_feature, "space": space, "dtype": str(dtype), "sampler": SAMPLER}
    return digest(
        [
            *weights_and_files(folder),
            ("encoder", json.dumps(feature | computation, sort_keys=True).encode()),
            *parts,
        ]
    )
