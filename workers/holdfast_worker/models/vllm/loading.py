"""Loads a guard for vLLM: prompt, tiling and image side here, the language model by the engine from the same folder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, LlavaOnevisionConfig
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionMultiModalProjector

from holdfast_worker.models.checkpoint import require_no_code, require_safetensors
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import digest, model_type
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.fingerprint import fingerprint
from holdfast_worker.models.guard.input import GuardInput, context_length
from holdfast_worker.models.guard.prompt import load_prompt
from holdfast_worker.models.vision.image_path import ImagePath
from holdfast_worker.models.vision.preprocessing import Pixels, load_pixels
from holdfast_worker.models.vllm.engine import EngineSettings, ProcessEngine
from holdfast_worker.models.vllm.guard import VllmGuard
from holdfast_worker.models.vllm.server import ServerEngine
from holdfast_worker.models.weights import (
    find_device,
    find_dtype,
    opened,
    read_tensors,
    require_fit,
    tensor_places,
)

_CACHED_CONTEXTS = 2  # full-length prompts that a CPU's key-value cache holds
_LEAST_CACHE = 128 << 20


def load_vllm_guard(folder: Path, config: GuardConfig) -> VllmGuard:
    """Loads a LLaVA-OneVision checkpoint as a guard whose language model vLLM runs; the engine is started.

    Args:
        folder: Checkpoint folder, in the hub's layout or that of transformers 5.
        config: The guard's settings.

    Raises:
        ModelConfigError: The folder or the settings cannot be served, or vLLM is missing.
    """
    if config.vllm_url is None and find_spec("vllm") is None:
        raise ModelConfigError(
            "engine=vllm needs vLLM, which is not installed; install holdfast[vllm], name a vllm_url or use"
            " engine=transformers"
        )
    whole = _architecture(folder)
    device = find_device(config.device)
    dtype = find_dtype(config.dtype, device)
    pixels = load_pixels(folder, whole, config.tiles, (config.noise_height, config.noise_width))
    prompt = load_prompt(folder, config, image_token=whole.image_token_id, embeddings=_vocabulary(folder))
    text: Any = whole.text_config
    context = context_length(text)
    # One position is the answering token's.
    inputs = GuardInput(config, prompt, pixels, context - 1, device)
    images = load_image_path(folder, whole, pixels, dtype, device)
    number_type = str(dtype).removeprefix("torch.")
    plain = fingerprint(folder, config, prompt.alphabet, dtype=number_type)
    engine = (
        _engine(folder, config, inputs, text, dtype)
        if config.vllm_url is None
        else _server(config.vllm_url, folder, inputs, dtype)
    )
    name = digest([("guard", plain.encode()), ("engine", engine.name.encode())])
    engine.start()
    return VllmGuard(inputs, images, engine, fingerprint=name)


def load_image_path(
    folder: Path, whole: LlavaOnevisionConfig, pixels: Pixels, dtype: torch.dtype, device: torch.device
) -> ImagePath:
    """Loads vision tower, projector and newline of a checkpoint, and nothing of its language model.

    Args:
        folder: Checkpoint folder, in the hub's layout or that of transformers 5.
        whole: Its configuration.
        pixels: The tiling.
        dtype: Number type of weights and activations.
        device: Where they go.

    Raises:
        ModelConfigError: A weight is missing or misshapen.
    """
    text: Any = whole.text_config
    tower = AutoModel.from_config(whole.vision_config, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
    projector = LlavaOnevisionMultiModalProjector(whole)
    parts = nn.Module()
    parts.vision_tower, parts.multi_modal_projector = tower, projector
    parts.image_newline = nn.Parameter(torch.empty(text.hidden_size))
    places = {_name(name): (name, path) for name, path in tensor_places(folder).items()}
    wanted = {_name(own): own for own in parts.state_dict()}
    read = read_tensors(dict(places[name] for name in wanted if name in places))
    state = {own: read[places[name][0]] for name, own in wanted.items() if name in places}
    shapes = {own: tensor.shape for own, tensor in parts.state_dict().items()}
    require_fit(
        {"missing_keys": [own for own, shape in shapes.items() if own not in state or state[own].shape != shape]}
    )
    parts.load_state_dict(state)
    parts.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return ImagePath.of(parts, whole, pixels, dtype)


def _engine(folder: Path, config: GuardConfig, inputs: GuardInput, text: Any, dtype: torch.dtype) -> ProcessEngine:
    context = context_length(text)
    return ProcessEngine(
        EngineSettings(
            folder=str(folder),
            dtype=str(dtype).removeprefix("torch."),
            device=config.device if config.device != "auto" else inputs.device.type,
            hidden=text.hidden_size,
            context=context,
            cache_bytes=_cache_bytes(text, context, dtype),
            tile_tokens=inputs.pixels.patches**2,
            verdict=(*inputs.prompt.unsafe, *inputs.prompt.safe),
            memory=config.engine_memory,
            batch=config.engine_batch,
            threads=torch.get_num_threads(),
        )
    )


def _server(url: str, folder: Path, inputs: GuardInput, dtype: torch.dtype) -> ServerEngine:
    name, path = _embedding(folder)
    prompt = inputs.prompt
    return ServerEngine(
        url,
        read_tensors({name: path})[name].to(dtype),
        image_token=prompt.before[prompt.image_at],
        verdict=(*prompt.unsafe, *prompt.safe),
        context=inputs.context + 1,
    )


def _name(name: str) -> str:
    """A weight's name without what transformers' versions put around it."""
    return name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.")


def _architecture(folder: Path) -> LlavaOnevisionConfig:
    model_type(folder, ["llava_onevision"], remedy=" for engine=vllm; use engine=transformers")
    require_safetensors(folder)
    require_no_code(folder)
    whole: LlavaOnevisionConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return whole


def _embedding(folder: Path) -> tuple[str, Path]:
    """Name and file of the language model's token embedding."""
    places = [(name, path) for name, path in tensor_places(folder).items() if name.endswith(".embed_tokens.weight")]
    if len(places) != 1:
        raise ModelConfigError(
            f"{folder} has {len(places)} tensors *.embed_tokens.weight, must have one; use a whole checkpoint"
        )
    return places[0]


def _vocabulary(folder: Path) -> int:
    """Rows of the language model's token embedding."""
    name, path = _embedding(folder)
    with opened(path) as file:
        return int(file.get_slice(name).get_shape()[0])


def _cache_bytes(text: Any, context: int, dtype: torch.dtype) -> int:
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_position = 2 * text.num_hidden_layers * text.num_key_value_heads * width * dtype.itemsize
    return int(max(_LEAST_CACHE, _CACHED_CONTEXTS * context * per_position))
