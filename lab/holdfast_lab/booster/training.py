"""Training of a booster in two stages, P and then M with P frozen ([F] Algorithm 1); the encoder stays as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from holdfast_lab.booster.loop import Report, Setting, Stage, fresh, run_stage
from holdfast_lab.booster.losses import identity_loss, reconstruction_loss, robustness_loss, statistics_loss
from holdfast_lab.booster.recipes import DenoiserRecipe, MapperRecipe, Recipe
from holdfast_worker.denoisers.loading import save_booster
from holdfast_worker.denoisers.mapper import ResidualMapper
from holdfast_worker.denoisers.unet import BoosterUNet
from holdfast_worker.models.vision.towers import Tower

_DENOISER, _MAPPER = 0, 1
_STATE = "training"


@dataclass(frozen=True)
class _DenoiserLosses:
    """l_rb + λ1 l_mse ([F] Eqs. 7-9), and ours: the same 1 - cos on images without noise, weighted."""

    tower: Tower
    network: BoosterUNet
    recipe: DenoiserRecipe

    def __call__(self, clean: Tensor, noisy: Tensor) -> Mapping[str, Tensor]:
        with torch.no_grad():
            wanted = _features(self.tower, clean)
        denoised = self.network(_with_clean(noisy, clean, self.recipe), self.recipe.sigma).float()
        robustness, kept = _steadiness(_features(self.tower, denoised), wanted, self.recipe)
        reconstruction = reconstruction_loss(_by_draw(denoised[: len(noisy)], clean), clean)
        total = robustness + self.recipe.reconstruction * reconstruction + self.recipe.clean * kept
        return {"loss": total, "robustness": robustness, "reconstruction": reconstruction, "clean": kept}


@dataclass(frozen=True)
class _MapperLosses:
    """l_rb + λ2 l_stats + λ3 l_id ([F] Eqs. 11-13), and ours as for the denoiser."""

    tower: Tower
    network: ResidualMapper
    denoiser: BoosterUNet | None
    recipe: MapperRecipe

    def __call__(self, clean: Tensor, noisy: Tensor) -> Mapping[str, Tensor]:
        with torch.no_grad():
            clean_tokens = self.tower.tokens(clean)
            wanted = self.tower.pooled(clean_tokens).float()
            images = _with_clean(noisy, clean, self.recipe)
            tokens = self.tower.tokens(images if self.denoiser is None else self.denoiser(images, self.recipe.sigma))
        mapped = tokens + self.network(tokens, self.recipe.sigma)
        robustness, kept = _steadiness(self.tower.pooled(mapped).float(), wanted, self.recipe)
        statistics = statistics_loss(mapped[: len(noisy)], tokens[: len(noisy)])
        identity = identity_loss(self.network, clean_tokens)
        total = robustness + self.recipe.statistics * statistics + self.recipe.identity * identity
        terms = {"robustness": robustness, "statistics": statistics, "identity": identity, "clean": kept}
        return {"loss": total + self.recipe.clean * kept, **terms}


def _with_clean(noisy: Tensor, clean: Tensor, recipe: Recipe) -> Tensor:
    """The draws, and after them the images without noise where they count."""
    return torch.cat((noisy, clean)) if recipe.clean else noisy


def _steadiness(features: Tensor, wanted: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """1 - cos of the draws and of the images without noise; zero for those where they do not count."""
    by_draw = _by_draw(features, wanted)
    kept = robustness_loss(by_draw[recipe.draws :], wanted) if recipe.clean else wanted.new_zeros(())
    return robustness_loss(by_draw[: recipe.draws], wanted), kept


def _features(tower: Tower, images: Tensor) -> Tensor:
    return tower.pooled(tower.tokens(images)).float()


def _by_draw(values: Tensor, clean: Tensor) -> Tensor:
    """(draws · B, ...) as (draws, B, ...), for the B of the clean images."""
    return values.view(-1, len(clean), *values.shape[1:])


def train_denoiser(setting: Setting, recipe: DenoiserRecipe, folder: Path, report: Report) -> BoosterUNet:
    """Trains P, from the checkpoint in `folder` where there is one.

    Args:
        setting: encoder, images and device.
        recipe: of this stage.
        folder: for checkpoints and curves.
        report: called now and then; see `run_stage`.

    Returns:
        P with the moving average of its weights, frozen.

    Raises:
        ValueError: `folder` holds another training's checkpoint.
        ArithmeticError: the loss is no longer finite.
    """
    network = fresh(lambda: BoosterUNet(recipe.shape), recipe.seed, _DENOISER).to(setting.device)
    losses = _DenoiserLosses(setting.tower, network, recipe)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    columns = ("loss", "robustness", "reconstruction", "clean")
    run_stage(setting, Stage("denoiser", _DENOISER, recipe, network, optimizer, losses, columns), folder, report)
    return network


def train_mapper(
    setting: Setting, recipe: MapperRecipe, denoiser: BoosterUNet | None, folder: Path, report: Report
) -> ResidualMapper:
    """Trains M; as `train_denoiser`, with the frozen P before the encoder, or none."""
    network = fresh(lambda: ResidualMapper(recipe.shape), recipe.seed, _MAPPER).to(setting.device)
    losses = _MapperLosses(setting.tower, network, denoiser, recipe)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
    columns = ("loss", "robustness", "statistics", "identity", "clean")
    below = None if denoiser is None else _digest(denoiser)
    run_stage(setting, Stage("mapper", _MAPPER, recipe, network, optimizer, losses, columns, below), folder, report)
    return network


def train_booster(
    setting: Setting,
    *,
    denoiser: DenoiserRecipe | None,
    mapper: MapperRecipe | None,
    folder: Path,
    report: Report,
) -> None:
    """Trains P, M or both, and writes a booster folder; run again after a kill, it goes on from its last checkpoint.

    Args:
        setting: encoder, images and device.
        denoiser: P's recipe, or ``None`` for no P.
        mapper: M's recipe, or ``None`` for no M; not both may be absent.
        folder: to write to: the booster, and under ``training`` the checkpoints and curves.
        report: called now and then; see `run_stage`.

    Raises:
        ValueError: both recipes are absent or differ in σ, or the folder holds another training's checkpoint.
        ArithmeticError: a loss is no longer finite.
    """
    sigmas = {recipe.sigma for recipe in (denoiser, mapper) if recipe is not None}
    if len(sigmas) != 1:
        raise ValueError(f"the recipes have sigmas {sorted(sigmas)}, must share one; give one or both, of one sigma")
    (sigma,) = sigmas
    trained = None
    if denoiser is not None:
        trained = train_denoiser(setting, denoiser, folder / _STATE / "denoiser", report)
        save_booster(folder, sigma=sigma, denoiser=trained)
    if mapper is not None:
        refined = train_mapper(setting, mapper, trained, folder / _STATE / "mapper", report)
        save_booster(folder, sigma=sigma, denoiser=trained, mapper=refined)


def _digest(network: nn.Module) -> str:
    found = sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
