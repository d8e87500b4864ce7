"""A vision tower whose answer is a mean over noisy draws, so that a whole MLLM answers from smoothed features.

``smooth_model`` puts it in the place of the vision tower of a transformers model: LLaVA-1.5, LLaVA-NeXT and
LLaVA-OneVision (``vision_tower``), IDEFICS, Idefics2 and Idefics3 (``vision_model``). Everything after the tower, the
model's own choice of layer and tokens included, is left as it is; ``plain_model`` puts the tower itself back.
"""

import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from holdfast_worker.gaussian import noisy
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.vision.towers import to_sphere

_Model = TypeVar("_Model", bound=nn.Module)
_Place = tuple[str, int]  # an output's name, and which of its tensors
_TOWERS = ("vision_tower", "vision_model")


@dataclass(frozen=True)
class Smoothing:
    """How the features are smoothed.

    Attributes:
        sigma: Standard deviation of the noise in [0,1] pixel units, at least 0.
        draws: Noisy draws n0 behind each feature; 1 is enough where sigma is 0, and then all that is run.
        mean: Channel means of the normalisation that the pixels arrive in, in [0,1] units.
        std: Channel deviations of it, above 0.
        seed: Fixes the noise of every call; fresh secrets for each call where ``None``.
        batch_limit: Noisy images in one pass of the tower at most.
    """

    sigma: float
    draws: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: str | None = None
    batch_limit: int = 64

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sigma) and self.sigma >= 0):
            raise ValueError(f"sigma={self.sigma} must be a finite number of at least 0; correct sigma")
        for name in ("draws", "batch_limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1; raise {name}")
        if len(self.mean) != len(self.std) or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(
                f"std={self.std} must be finite, above 0 and as many as mean={self.mean}; take both from the"
                " model's image processor"
            )

    def call_seed(self, call: int) -> str:
        """Seed of the noise of the call of this number, counted from 0; draw i of image b has index b·draws + i."""
        return secrets.token_hex(32) if self.seed is None else f"{self.seed}/{call}"


@dataclass(frozen=True)
class TokensUsed:
    """Which of the tower's tokens the model reads.

    Attributes:
        layers: Indexes of the hidden states that are read, side by side; ``None`` for the last hidden state.
        skip: Leading tokens that are not read, such as the class token.
    """

    layers: tuple[int, ...] | None = None
    skip: int = 0

    def places(self, output: Mapping[str, Any]) -> list[_Place]:
        """Where in a tower's output the tokens lie; nowhere if it was not asked for hidden states."""
        if self.layers is None:
            return [("last_hidden_state", 0)]
        states = output.get("hidden_states") or ()
        return [("hidden_states", layer % len(states)) for layer in self.layers if states]


class SmoothedVisionTower(nn.Module):
    """Takes a vision tower's place and gives its output averaged over noisy draws.

    The feature is the token matrix that the model reads, of one image as the tower sees it (with tiles: of one tile).
    Per draw it is flattened and normalised to the unit sphere; the mean Y of the draws is what `features.py`'s bounds
    speak of ([F] Thm 3.2; maths.md §6). Only then is it rescaled, by the mean of the draws' norms, so that the model
    reads tokens of the usual size, and one draw without noise gives the tower's own output. Tensors that the model
    does not read (other layers, the class token, the pooled output) are averaged likewise, each on its own;
    attentions have no mean of use and are left out.

    Noise is added in [0,1] units, to clean pixels on the lattice; the tower reads the sums in its normalisation and
    number type. Gradients flow through as if nothing had been rounded. A call with a seed depends on the number of
    calls before it.

    Attributes:
        tower: The tower itself.
        denoiser: Maps noisy images (B, 3, H, W) in [0,1] units and sigma to images, float32; ``None`` for none.
        mapper: Maps the tokens read (B, L, D) and sigma to what is added to them, float32; ``None`` for none.
        smoothing: The settings.
        used: Which tokens the model reads.
        calls: How often it was called.
    """

    def __init__(
        self,
        tower: nn.Module,
        smoothing: Smoothing,
        used: TokensUsed,
        *,
        denoiser: nn.Module | None = None,
        mapper: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.denoiser = denoiser
        self.mapper = mapper
        self.smoothing = smoothing
        self.used = used
        self.calls = 0

    @property
    def config(self) -> Any:
        """The tower's own configuration."""
        return self.tower.config

    def forward(self, pixel_values: Tensor, *args: Any, return_dict: bool | None = None, **kwargs: Any) -> Any:
        """The tower's output for the smoothed features; arguments as the tower's own.

        Args:
            pixel_values: Clean normalised images, shape (B, C, H, W).
            args: The tower's further arguments; tensors with a row per image are repeated for its draws.
            return_dict: False for a tuple.
            kwargs: As args, by name.

        Returns:
            The tower's own output type, B rows.

        Raises:
            ValueError: The tower's output has not one row per image.
        """
        draws = self.smoothing.draws if self.smoothing.sigma else 1
        outputs = list(self._passes(pixel_values, draws, args, kwargs))
        found = [_tensors(output) for output in outputs]
        rows = {place: _by_image(torch.cat([each[place] for each in found]), draws) for place in found[0]}
        means = {place: sphere_mean(tensor) for place, tensor in rows.items()}
        if used := self.used.places(outputs[0]):
            skip = self.used.skip
            mean = self._mean_of_used(torch.cat([rows[place][:, :, skip:] for place in used], dim=-1))
            for place, part in zip(used, mean.chunk(len(used), dim=-1), strict=True):
                means[place][:, skip:] = part
        smoothed = _like(outputs[0], means)
        return smoothed.to_tuple() if return_dict is False else smoothed

    def _passes(self, pixels: Tensor, draws: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Any]:
        seed = self.smoothing.call_seed(self.calls)
        self.calls += 1
        total, limit = len(pixels) * draws, self.smoothing.batch_limit
        for start in range(0, total, limit):
            stop = min(start + limit, total)
            image = torch.arange(start, stop, device=pixels.device) // draws
            further = [_follow(value, len(pixels), image) for value in args]
            named = {name: _follow(value, len(pixels), image) for name, value in kwargs.items()}
            output = self.tower(self._noisy(pixels[image], seed, start, stop), *further, return_dict=True, **named)
            if (found := len(output.last_hidden_state)) != stop - start:
                raise ValueError(
                    f"the vision tower gave {found} rows for {stop - start} images, must give one each; use a model"
                    " whose tower does not pack images, such as CLIP or SigLIP"
                )
            yield output

    def _noisy(self, pixels: Tensor, seed: str, start: int, stop: int) -> Tensor:
        """The draws [start, stop) of the clean images beneath them: noised, denoised, as the tower takes them."""
        plan = self.smoothing
        if not plan.sigma and self.denoiser is None:
            return pixels
        mean, std = (pixels.new_tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (plan.mean, plan.std))
        images = pixels.float() * std + mean
        if plan.sigma:
            drawn = noisy(images.detach(), sigma=plan.sigma, seed=seed, start=start, stop=stop)
            images = images + (drawn - images).detach() if images.requires_grad else drawn
        if self.denoiser is not None:
            images = self.denoiser(images, plan.sigma)
        return ((images - mean) / std).to(pixels.dtype)

    def _mean_of_used(self, tokens: Tensor) -> Tensor:
        """From the tokens that the model reads, (images, draws, L, D), to the mean that it reads instead."""
        if self.mapper is not None:
            rows = tokens.flatten(0, 1).float()
            tokens = _by_image(rows + self.mapper(rows, self.smoothing.sigma), tokens.shape[1])
        return sphere_mean(tokens)


def sphere_mean(rows: Tensor) -> Tensor:
    """The mean over draws of unit vectors, rescaled afterwards by the mean of the draws' norms.

    Args:
        rows: One feature array per draw, shape (images, draws, ...).

    Returns:
        Shape (images, ...), of the same dtype; computed in float32.
    """
    flat = rows.flatten(2).float()
    mean: Tensor = to_sphere(flat).mean(dim=1) * flat.norm(dim=2).mean(dim=1, keepdim=True)
    return mean.view(len(rows), *rows.shape[2:]).to(rows.dtype)


def _by_image(rows: Tensor, draws: int) -> Tensor:
    return rows.view(-1, draws, *rows.shape[1:])


def _tensors(output: Mapping[str, Any]) -> dict[_Place, Tensor]:
    members = {name: value if isinstance(value, tuple) else (value,) for name, value in output.items()}
    members.pop("attentions", None)
    return {
        (name, index): tensor
        for name, tensors in members.items()
        for index, tensor in enumerate(tensors)
        if tensor is not None  # a hidden state that nobody asked for
    }


def _like(output: Any, means: Mapping[_Place, Tensor]) -> Any:
    def mean_of(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(means.get((name, index)) for index in range(len(value)))
        return means[name, 0]

    return type(output)(**{name: mean_of(name, value) for name, value in output.items() if name != "attentions"})


def _follow(value: Any, images: int, image: Tensor) -> Any:
    return value[image] if isinstance(value, Tensor) and value.ndim and len(value) == images else value


def smooth_model(
    model: _Model,
    *,
    sigma: float,
    draws: int = 8,
    seed: str | None = None,
    denoiser: nn.Module | None = None,
    mapper: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_limit: int = 64,
) -> _Model:
    """Makes a transformers MLLM answer from smoothed features, in place.

    Save a model's weights only after ``plain_model``, since the tower's weights have other names in between.

    Args:
        model: LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision, IDEFICS, Idefics2 or Idefics3, with or without its head.
        sigma: Standard deviation of the noise in [0,1] pixel units.
        draws: Noisy draws n0 behind each feature.
        seed: Fixes the noise, call by call; ``None`` for fresh secrets.
        denoiser: Denoises the noisy images in [0,1] units before the tower.
        mapper: Adds to the tokens that the model reads.
        mean: Channel means that the image processor subtracts; read from the model's folder where ``None``.
        std: Channel deviations that it divides by; read likewise.
        batch_limit: Noisy images in one pass of the tower at most.

    Returns:
        The model given.

    Raises:
        ModelConfigError: The model has no known vision tower or is smoothed already, or its folder does not say how
            pixels are normalised.
        ValueError: A number is out of range.
    """
    owner, name = _place_of_tower(model)
    tower = getattr(owner, name)
    if isinstance(tower, SmoothedVisionTower):
        raise ModelConfigError(f"the model's {name} is smoothed already, must be plain; call plain_model first")
    if mean is None or std is None:
        mean, std = _read_normalisation(getattr(model, "name_or_path", ""))
    smoothing = Smoothing(sigma, draws, tuple(mean), tuple(std), seed, batch_limit)
    smoothed = SmoothedVisionTower(tower, smoothing, _tokens_used(model), denoiser=denoiser, mapper=mapper)
    device = next(tower.parameters()).device
    setattr(owner, name, smoothed.to(device).train(tower.training))
    return model


def plain_model(model: _Model) -> _Model:
    """Puts a smoothed model's own vision tower back, in place; a plain model stays as it is."""
    owner, name = _place_of_tower(model)
    tower = getattr(owner, name)
    if isinstance(tower, SmoothedVisionTower):
        setattr(owner, name, tower.tower)
    return model


def _place_of_tower(model: nn.Module) -> tuple[nn.Module, str]:
    owner = getattr(model, "model", model)
    for name in _TOWERS:
        if isinstance(getattr(owner, name, None), nn.Module):
            return owner, name
    raise ModelConfigError(
        f"{type(model).__name__} has no {' or '.join(_TOWERS)}, must be a LLaVA or IDEFICS model of transformers;"
        " use one of these"
    )


def _tokens_used(model: nn.Module) -> TokensUsed:
    config: Any = model.config
    layers = getattr(config, "vision_feature_layer", None)
    skip = 1 if getattr(config, "vision_feature_select_strategy", "full") == "default" else 0
    return TokensUsed((layers,) if isinstance(layers, int) else None if layers is None else tuple(layers), skip)


def _read_normalisation(folder: str) -> tuple[Sequence[float], Sequence[float]]:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if folder and (path := Path(folder, name)).is_file():
            read = json.loads(path.read_text("utf-8"))
            settings = read.get("image_processor", read)
            if all(key in settings for key in ("image_mean", "image_std")) and _in_unit_range(settings):
                return settings["image_mean"], settings["image_std"]
    raise ModelConfigError(
        "the model's folder has no preprocessor_config.json or processor_config.json with image_mean and image_std of"
        " pixels in [0,1], and smoothing needs them; give mean and std"
    )


def _in_unit_range(settings: Mapping[str, Any]) -> bool:
    scaled = settings.get("do_rescale", True) and math.isclose(255 * settings.get("rescale_factor", 1 / 255), 1)
    return bool(scaled and settings.get("do_normalize", True))
