"""Boosters and diffusion models from folders: safetensors only, from the folder only, nothing of it executed.

A booster folder holds ``booster.json`` (format, σ it was trained for, the numbers its networks are built from) and
``denoiser.safetensors`` and/or ``mapper.safetensors``. A diffusion folder is diffusers' own: a pipeline's ``unet/`` and
``scheduler/``, or one folder with the model's files and ``scheduler_config.json``.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from holdfast_worker.denoisers.diffusion import OneShotDiffusion
from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet, UNetShape
from holdfast_worker.models.checkpoint import require_safetensors
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import read_object, weights_and_files
from holdfast_worker.models.weights import require_fit

BOOSTER_FILE = "booster.json"
_SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")

Network = TypeVar("Network", bound=nn.Module)


class _BoosterFile(BaseModel):
    """What ``booster.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    sigma: float = Field(gt=0)
    denoiser: UNetShape | None = None
    mapper: MapperShape | None = None

    @model_validator(mode="after")
    def _check(self) -> "_BoosterFile":
        if self.denoiser is None and self.mapper is None:
            raise ValueError("denoiser and mapper are both absent; a booster is at least one of them")
        return self


@dataclass(frozen=True)
class Booster:
    """A loaded booster, frozen and in eval mode.

    Attributes:
        denoiser: P, if the folder has one.
        mapper: M, if the folder has one.
        sigma: Noise level it was trained for, in [0,1] units; others work, less well.
        fingerprint_parts: (name, bytes) of every file, for the encoder's fingerprint.
    """

    denoiser: BoosterUNet | None
    mapper: ResidualMapper | None
    sigma: float
    fingerprint_parts: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Diffusion:
    """A loaded one-shot diffusion denoiser, frozen and in eval mode; ``fingerprint_parts`` as a booster's."""

    denoiser: OneShotDiffusion
    fingerprint_parts: tuple[tuple[str, bytes], ...]


def load_booster(folder: Path, device: torch.device) -> Booster:
    """Loads P and M as far as a folder has them.

    Args:
        folder: A booster folder.
        device: Where the networks go.

    Raises:
        ModelConfigError: The folder cannot be served; the message says what to change.
    """
    config = _booster_file(folder / BOOSTER_FILE)
    denoiser = mapper = None
    if config.denoiser is not None:
        denoiser = _with_weights(BoosterUNet(config.denoiser), folder / "denoiser.safetensors", device)
    if config.mapper is not None:
        mapper = _with_weights(ResidualMapper(config.mapper), folder / "mapper.safetensors", device)
    for name, network in (("denoiser", denoiser), ("mapper", mapper)):
        if network is None and (folder / f"{name}.safetensors").exists():
            raise ModelConfigError(
                f"{folder} holds {name}.safetensors, but {BOOSTER_FILE} has no {name}; add its numbers or"
                " remove the file"
            )
    return Booster(denoiser, mapper, config.sigma, tuple(weights_and_files(folder)))


def save_booster(
    folder: Path, *, sigma: float, denoiser: BoosterUNet | None = None, mapper: ResidualMapper | None = None
) -> None:
    """Writes a booster folder, each file whole or not at all, ``booster.json`` last.

    Args:
        folder: Made if need be; a booster that lies there is replaced.
        sigma: Noise level it was trained for, in [0,1] units, above 0.
        denoiser: P, if there is one.
        mapper: M, if there is one; not both may be absent.

    Raises:
        ValueError: σ is out of range, or both networks are absent.
    """
    networks = {"denoiser": denoiser, "mapper": mapper}
    shapes = {name: network.shape for name, network in networks.items() if network is not None}
    config = _BoosterFile(sigma=sigma, **shapes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        path, fresh = folder / f"{name}.safetensors", folder / f".{name}.safetensors.new"
        if network is None:
            path.unlink(missing_ok=True)
            continue
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}, fresh)
        os.replace(fresh, path)
    fresh = folder / f".{BOOSTER_FILE}.new"
    fresh.write_text(config.model_dump_json(indent=2) + "\n", "utf-8")
    os.replace(fresh, folder / BOOSTER_FILE)


def load_diffusion(folder: Path, device: torch.device) -> Diffusion:
    """Loads a diffusers ``UNet2DModel`` and its scheduler's noise schedule.

    Args:
        folder: A pipeline folder (``unet/`` and ``scheduler/``), or a model folder with ``scheduler_config.json``.
        device: Where the model goes.

    Raises:
        ModelConfigError: The folder cannot be served; the message says what to change.
    """
    whole = (folder / "unet").is_dir()
    unet, schedule = (folder / "unet", folder / "scheduler") if whole else (folder, folder)
    scheduler = _scheduler(schedule)
    denoiser = OneShotDiffusion(
        _unet(unet),
        scheduler.alphas_cumprod,
        prediction=scheduler.config.prediction_type,
        clip=scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else None,
    )
    parts = weights_and_files(unet)
    if whole:
        parts = [
            (f"{part.name}/{name}", content) for part in (unet, schedule) for name, content in weights_and_files(part)
        ]
    return Diffusion(denoiser.to(device).eval().requires_grad_(False), tuple(parts))


def _booster_file(path: Path) -> _BoosterFile:
    try:
        return _BoosterFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ModelConfigError(
            f"{path.parent} holds no {BOOSTER_FILE}, must be a booster folder; correct the path or train one"
        ) from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'booster'}: {e['msg']}" for e in error.errors())
        raise ModelConfigError(f"{path}: {problems}; correct the file") from error


def _with_weights(network: Network, path: Path, device: torch.device) -> Network:
    try:
        weights = load_file(path)
        network.load_state_dict(weights)
    except FileNotFoundError:
        raise ModelConfigError(
            f"{path} is missing, and {BOOSTER_FILE} names that network; restore the file, or set the network to null"
        ) from None
    except SafetensorError as error:
        raise ModelConfigError(f"{path} is no intact safetensors file ({error}); restore it") from error
    except RuntimeError as error:
        raise ModelConfigError(
            f"{path} does not fit the numbers in {BOOSTER_FILE}, every weight must; use the file that was saved with it"
        ) from error
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise ModelConfigError(f"{path} holds weights that are not finite, all must be; train it again")
    return network.to(device).eval().requires_grad_(False)


def _diffusers() -> Any:
    try:
        import diffusers
    except ImportError:
        raise ModelConfigError(
            "a diffusion denoiser needs diffusers, which is not installed; pip install 'holdfast[diffusion]'"
        ) from None
    return diffusers


def _scheduler(folder: Path) -> Any:
    diffusers = _diffusers()
    config = read_object(folder / "scheduler_config.json")
    kind = config.get("_class_name")
    if kind not in _SCHEDULERS:
        raise ModelConfigError(
            f"scheduler {kind!r} must be one of {', '.join(_SCHEDULERS)}; rewrite scheduler_config.json for one of them"
        )
    if config.get("thresholding"):
        raise ModelConfigError(
            "thresholding=true must be false: cutting by quantiles is not done here; set it so in scheduler_config.json"
        )
    return getattr(diffusers, kind).from_config(config)


def _unet(folder: Path) -> nn.Module:
    kind = read_object(folder / "config.json").get("_class_name")
    if kind != "UNet2DModel":
        raise ModelConfigError(f"diffusion model {kind!r} must be 'UNet2DModel'; use an unconditional model of pixels")
    require_safetensors(folder)
    try:
        loaded: Any = _diffusers().UNet2DModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelConfigError(
            f"{folder}: the weights cannot be loaded ({type(error).__name__}), all must be intact and fit config.json;"
            " use the weights that belong to it"
        ) from error
    model, report = loaded
    require_fit({kind: report[kind] for kind in ("missing_keys", "mismatched_keys")})
    unet: nn.Module = model
    return unet
