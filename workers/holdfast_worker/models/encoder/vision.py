"""Loads the vision tower of a CLIP, SigLIP, open_clip or LLaVA folder: its weights alone, whatever else lies there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.image_utils import PILImageResampling
from transformers.utils import logging

from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import model_type, read_object
from holdfast_worker.models.vision.open_clip import from_open_clip, is_open_clip, vision_config
from holdfast_worker.models.vision.transformer import Feature, VisionTower
from holdfast_worker.models.weights import read_tensors, require_fit, tensor_places

_OPEN_CLIP = "open_clip_config.json"
_TYPES = {
    "clip": ("clip", "clip_vision_model"),
    "open_clip": ("clip", "clip_vision_model"),
    "siglip": ("siglip", "siglip_vision_model"),
    "llava": ("llava", "llava_next", "llava_onevision"),
}
_MARK = "embeddings.patch_embedding.weight"
_PROJECTION = "visual_projection.weight"
_BUFFER = "embeddings.position_ids"  # older checkpoints save it

VisionConfig = CLIPVisionConfig | SiglipVisionConfig


def load_vision(folder: Path, config: EncoderConfig, dtype: torch.dtype) -> VisionTower:
    """Loads the tower on the CPU.

    Args:
        folder: Safetensors, ``config.json`` or ``open_clip_config.json``, and the image processor's settings.
        config: The encoder's settings.
        dtype: Number type of its weights and activations.

    Raises:
        ModelConfigError: The folder or the settings cannot be served.
    """
    whole, vision = _configs(folder, config.architecture)
    if not isinstance(vision, VisionConfig) or not isinstance(vision.image_size, int):
        raise ModelConfigError(
            f"the vision model is {vision.model_type!r} with image_size={vision.image_size}, must be CLIP's or SigLIP's"
            " with one number; use such a checkpoint"
        )
    feature, hidden, skip = _reading(config, whole, vision)
    mean, std = _normalisation(folder, vision.image_size)
    weights = _weights(folder, config.architecture)
    projection = weights.pop("projection", None)
    if feature == "projection" and isinstance(vision, CLIPVisionConfig):
        _require_projection(projection, vision.hidden_size)
    else:
        projection = None
    model = _model(vision, weights, dtype)
    if feature == "projection" and projection is None and not getattr(model, "use_head", False):
        raise ModelConfigError(
            "the vision model has no pooling head, which feature=projection is; choose mean or tokens"
        )
    return VisionTower(
        model, feature=feature, mean=mean, std=std, dtype=dtype, hidden=hidden, skip=skip, projection=projection
    )


def _configs(folder: Path, architecture: str) -> tuple[Any, Any]:
    """The folder's whole configuration and that of its vision model."""
    if architecture == "open_clip" and (folder / _OPEN_CLIP).is_file():
        try:
            vision = vision_config(read_object(folder / _OPEN_CLIP))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ModelConfigError):
                raise
            raise ModelConfigError(f"{_OPEN_CLIP} does not describe a vision model ({error!r}); correct it") from error
        return vision, vision
    remedy = f" for architecture={architecture}; correct the architecture"
    model_type(folder, _TYPES[architecture], remedy=remedy)
    whole = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return whole, getattr(whole, "vision_config", whole)


def _reading(config: EncoderConfig, whole: Any, vision: VisionConfig) -> tuple[Feature, tuple[int, ...], bool]:
    """Which feature, of which hidden states (none: the end), and whether the class token is dropped."""
    feature: Any = config.used_feature
    clip = isinstance(vision, CLIPVisionConfig)
    if feature == "cls" and not clip:
        raise ModelConfigError("feature=cls needs a class token, which SigLIP has not; choose mean or tokens")
    layers: Any = config.layer
    skip = False
    if config.architecture == "llava":
        layers = whole.vision_feature_layer if layers is None else layers
        skip = clip and feature != "cls" and whole.vision_feature_select_strategy == "default"
    indexes = () if layers is None else (layers,) if isinstance(layers, int) else tuple(layers)
    states = vision.num_hidden_layers + 1
    if wrong := [index for index in indexes if not -states <= index < states]:
        raise ModelConfigError(f"layer={wrong[0]} must be {-states} to {states - 1}, its hidden states; correct it")
    return feature, tuple(index % states for index in indexes), skip


def _normalisation(folder: Path, side: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations of the image processor, which must do no more than resize, crop and normalise."""
    if (folder / _OPEN_CLIP).is_file() and not (folder / "preprocessor_config.json").is_file():
        stored = read_object(folder / _OPEN_CLIP).get("preprocess_cfg", {})
        stored = {"image_mean": stored.get("mean"), "image_std": stored.get("std")}
    else:
        stored = _processor(folder)
    wanted: dict[str, tuple[Any, Any]] = {
        "do_rescale": (stored.get("do_rescale", True), True),
        "do_normalize": (stored.get("do_normalize", True), True),
        "255 * rescale_factor": (round(255 * stored.get("rescale_factor", 1 / 255), 6), 1.0),
        "resample": (stored.get("resample", PILImageResampling.BICUBIC), PILImageResampling.BICUBIC),
    }
    if stored.get("do_center_crop", False):
        wanted["crop_size"] = (_sides(stored.get("crop_size", side)), {side})
    for name, (found, right) in wanted.items():
        if found != right:
            raise ModelConfigError(f"image processor: {name}={found} must be {right}; correct preprocessor_config.json")
    return _channels(stored, "image_mean"), _channels(stored, "image_std")


def _processor(folder: Path) -> dict[str, Any]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            stored = read_object(folder / name)
            inner: dict[str, Any] = stored.get("image_processor", stored)
            return inner
    raise ModelConfigError(
        f"{folder} holds no preprocessor_config.json, which says how pixels are normalised; add the checkpoint's"
    )


def _sides(size: Any) -> set[Any]:
    return set(size.values()) if isinstance(size, Mapping) else {size}


def _channels(stored: Mapping[str, Any], name: str) -> tuple[float, ...]:
    values = stored.get(name)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise ModelConfigError(f"image processor: {name}={values} must be three numbers; correct the file")
    if name == "image_std" and min(values) <= 0:
        raise ModelConfigError(f"image processor: {name}={values} must be above 0; correct the file")
    return tuple(map(float, values))


def _weights(folder: Path, architecture: str) -> dict[str, Tensor]:
    """The vision model's tensors by its own names, and CLIP's projection as ``projection``."""
    preferred = "open_clip_model.safetensors" if architecture == "open_clip" else "model.safetensors"
    if not (folder / preferred).is_file():
        preferred = "model.safetensors"
    places = tensor_places(folder, preferred=preferred)
    if is_open_clip(places):
        return from_open_clip(read_tensors({name: path for name, path in places.items() if name.startswith("visual.")}))
    marks = [name for name in places if name.endswith(_MARK)]
    if len(marks) != 1:
        raise ModelConfigError(
            f"{folder} has {len(marks)} tensors *{_MARK}, must have the one of its vision model; use a checkpoint of"
            f" architecture={architecture}"
        )
    prefix = marks[0].removesuffix(_MARK)
    own = {name: path for name, path in places.items() if name.startswith(prefix) and not name.endswith(_BUFFER)}
    found = {name.removeprefix(prefix): tensor for name, tensor in read_tensors(own).items()}
    if _PROJECTION in places:
        found["projection"] = read_tensors({_PROJECTION: places[_PROJECTION]})[_PROJECTION]
    return found


def _require_projection(projection: Tensor | None, width: int) -> None:
    if projection is None or projection.ndim != 2 or projection.shape[1] != width:
        found = "no projection" if projection is None else f"a projection of shape {tuple(projection.shape)}"
        raise ModelConfigError(
            f"the checkpoint has {found}, must have one of shape (E, {width}) for feature=projection; choose cls, mean"
            " or tokens"
        )


def _model(vision: VisionConfig, weights: dict[str, Tensor], dtype: torch.dtype) -> CLIPVisionModel | SiglipVisionModel:
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind: Any = CLIPVisionModel if isinstance(vision, CLIPVisionConfig) else SiglipVisionModel
    model, report = kind.from_pretrained(
        None,
        config=vision,
        state_dict=weights,
        dtype=dtype,
        attn_implementation="sdpa",
        ignore_mismatched_sizes=True,  # reported, and refused below
        output_loading_info=True,
    )
    require_fit(report)
    frozen: CLIPVisionModel | SiglipVisionModel = model.eval().requires_grad_(False)
    return frozen
