"""One stage of a booster's training: steps, moving average, checkpoints, curves.

Every step draws its order, crops and noise anew from (seed, stage, step), so that a run killed and resumed ends, on a
CPU with one thread, in the same weights to the bit as one that was left alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from holdfast_lab.booster.checkpoints import restore_checkpoint, save_checkpoint
from holdfast_lab.booster.curves import Curve
from holdfast_lab.booster.images import Images, training_batch
from holdfast_lab.booster.recipes import DenoiserRecipe, MapperRecipe
from holdfast_worker.models.vision.towers import Tower

Network = TypeVar("Network", bound=nn.Module)
Report = Callable[[str, int, int, Mapping[str, float]], None]
_ORDER: Final = 2**32  # beside any step, as the key of an epoch's order
_LOG_EVERY: Final = 10


@dataclass(frozen=True)
class Setting:
    """What both stages of a run share.

    Attributes:
        tower: of the encoder, frozen, on `device`.
        tower_fingerprint: a name for exactly this tower.
        images: to train on.
        size: height and width of the noise space.
        device: to train on; on CUDA in bfloat16 where that is safe.
        save_every: steps between two checkpoints.
    """

    tower: Tower
    tower_fingerprint: str
    images: Images
    size: tuple[int, int]
    device: torch.device
    save_every: int = 100


@dataclass(frozen=True)
class Stage:
    """One network's training.

    Attributes:
        name: for reports.
        number: keys its randomness.
        recipe: of this stage.
        network: being trained.
        optimizer: of its weights.
        losses: from clean images (B, 3, H, W) and noisy draws (draws · B, 3, H, W) to losses by name; ``loss`` is
            what is minimised.
        columns: those names.
        below: a name for the frozen denoiser below it, if there is one.
    """

    name: str
    number: int
    recipe: DenoiserRecipe | MapperRecipe
    network: nn.Module
    optimizer: torch.optim.Optimizer
    losses: Callable[[Tensor, Tensor], Mapping[str, Tensor]]
    columns: Sequence[str]
    below: str | None = None


def fresh(build: Callable[[], Network], seed: int, number: int) -> Network:
    """A network with the first weights of this seed and stage, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2 * seed + number)
        return build()


def run_stage(setting: Setting, stage: Stage, folder: Path, report: Report) -> None:
    """Trains the stage's network from the last checkpoint to the end, and leaves it with its averaged weights.

    Args:
        setting: encoder, images and device.
        stage: what is trained.
        folder: for checkpoints, ``curve.csv`` and ``curve.svg``.
        report: called now and then with the stage's name, steps done, steps in all, and losses.

    Raises:
        ValueError: `folder` holds another training's checkpoint.
        ArithmeticError: the loss is no longer finite.
    """
    average = {name: value.detach().clone() for name, value in stage.network.state_dict().items()}
    state: dict[str, Any] = {"run": _run(setting, stage), "network": stage.network, "optimizer": stage.optimizer}
    done = restore_checkpoint(folder, average=average, **state)
    curve = Curve(folder / "curve.csv", stage.columns, done=done)
    steps = stage.recipe.epochs * _steps_of_an_epoch(setting, stage)
    for step in range(done, steps):
        losses = _step(setting, stage, step, _rate(stage.recipe, step / steps))
        _follow(average, stage.network, min(stage.recipe.ema, (1 + step) / (10 + step)))
        if (step + 1) % _LOG_EVERY == 0 or step + 1 == steps:
            curve.append(step + 1, losses)
            report(stage.name, step + 1, steps, losses)
        if (step + 1) % setting.save_every == 0 or step + 1 == steps:
            save_checkpoint(folder, step=step + 1, average=average, **state)
    curve.plot()
    stage.network.load_state_dict(average)
    stage.network.eval().requires_grad_(False)


def _run(setting: Setting, stage: Stage) -> dict[str, Any]:
    """What the stage's outcome is determined by."""
    return {
        "recipe": stage.recipe.model_dump(mode="json"),
        "encoder": setting.tower_fingerprint,
        "images": setting.images.identity,
        "size": list(setting.size),
        "device": setting.device.type,
        "denoiser below": stage.below,
    }


def _steps_of_an_epoch(setting: Setting, stage: Stage) -> int:
    return math.ceil(setting.images.count / stage.recipe.batch)


def _step(setting: Setting, stage: Stage, step: int, rate: float) -> dict[str, float]:
    rng = np.random.default_rng([stage.recipe.seed, stage.number, step])
    clean = training_batch(setting.images, _indices(setting, stage, step), setting.size, rng).to(setting.device)
    draws = clean.repeat(stage.recipe.draws, 1, 1, 1)
    noisy = draws + stage.recipe.sigma * _noise(rng, draws)
    for group in stage.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(setting.device.type, torch.bfloat16, enabled=setting.device.type == "cuda"):
        losses = stage.losses(clean, noisy)
    if not losses["loss"].isfinite():
        raise ArithmeticError(
            f"the loss of the {stage.name} at step {step} is {losses['loss'].item()}, must be finite; lower its"
            " learning rate"
        )
    stage.optimizer.zero_grad()
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    stage.optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def _indices(setting: Setting, stage: Stage, step: int) -> Sequence[int]:
    """The images of a step: each once an epoch, in an order of the epoch's own."""
    epoch, place = divmod(step, _steps_of_an_epoch(setting, stage))
    order = np.random.default_rng([stage.recipe.seed, stage.number, epoch, _ORDER]).permutation(setting.images.count)
    batch = stage.recipe.batch
    return [int(index) for index in order[place * batch : (place + 1) * batch]]


def _noise(rng: np.random.Generator, like: Tensor) -> Tensor:
    if like.device.type == "cpu":
        return torch.from_numpy(rng.standard_normal(like.shape, dtype=np.float32))
    generator = torch.Generator(like.device).manual_seed(int(rng.integers(2**63)))
    return torch.randn(like.shape, generator=generator, device=like.device)


def _rate(recipe: DenoiserRecipe | MapperRecipe, progress: float) -> float:
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * (falling if recipe.schedule == "cosine" else 1.0)


def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for name, value in network.state_dict().items():
        average[name].lerp_(value, 1 - decay)
