"""Training of the reference encoder: some three minutes on one CPU core, deterministic in the seed.

The feature must tell more than the object's kind, or there would be little for noise to destroy: hazard, wall and
colour are read off it as well. The kind is read through unit prototypes, which are kept as the head `objects`. Each
scene is seen under two noises, and what the noise changes of the feature is punished.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize
from transformers import CLIPVisionModelWithProjection

from holdfast_lab.encoder.architecture import FEATURE, build_tower, unit_features
from holdfast_lab.noise import gaussian, image_tensor
from holdfast_lab.scenes import COLOURS, WALLS, Hazard, Kind, Scene, draw_scene
from holdfast_lab.training import warmed_up

MAX_SIGMA: Final = 0.25
_RAMP: Final = 0.3
_CONSISTENCY: Final = 1.0
_KINDS: Final = tuple(Kind)
_HAZARDS: Final = tuple(Hazard)
_CLASSES: Final = (len(_HAZARDS), len(WALLS), COLOURS * len(_HAZARDS))


@dataclass(frozen=True)
class Recipe:
    """What a training run is determined by.

    Attributes:
        steps: optimiser steps.
        batch: scenes per step, each seen twice, under two noises.
        seed: of the weights, the scenes and the noise.
        learning_rate: AdamW's peak rate, after a linear warm-up over the first 5 % and before a cosine decay.
    """

    steps: int = 1600
    batch: int = 32
    seed: int = 0
    learning_rate: float = 1.5e-3


@dataclass(frozen=True)
class Batch:
    """Noisy images (B, 3, 64, 64), the kind of their objects (B,), and the further attributes (3, B)."""

    images: Tensor
    kinds: Tensor
    attributes: Tensor


class Readouts(nn.Module):
    """What is asked of the feature: the kind through unit prototypes, the other attributes through linear heads."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(len(_KINDS), FEATURE))
        self.log_scale = nn.Parameter(torch.tensor(math.log(8.0)))
        self.attributes = nn.ModuleList(nn.Linear(FEATURE, classes) for classes in _CLASSES)

    def loss(self, features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross entropy of the kind, and the mean one of the other attributes, for unit `features` (B, 64), in nats."""
        scaled = self.log_scale.exp() * features
        kind = cross_entropy(linear(scaled, normalize(self.prototypes, dim=-1)), batch.kinds)
        heads = zip(self.attributes, batch.attributes, strict=True)
        return kind, torch.stack([cross_entropy(head(scaled), target) for head, target in heads]).mean()


@dataclass(frozen=True)
class Trained:
    """A tower in float32 and the unit prototypes (4, 64) of the kinds, in their order."""

    tower: CLIPVisionModelWithProjection
    prototypes: Tensor


def draw_scenes(rng: np.random.Generator, size: int) -> list[Scene]:
    """Draw `size` scenes, of either hazard alike often on average."""
    return [draw_scene(rng, _HAZARDS[rng.integers(len(_HAZARDS))]) for _ in range(size)]


def kinds_of(scenes: list[Scene]) -> Tensor:
    """The scenes' kinds (B,), as indexes into `Kind`."""
    return torch.tensor([_KINDS.index(scene.kind) for scene in scenes])


def draw_batch(rng: np.random.Generator, *, size: int, sigma: float) -> Batch:
    """Draw `size` scenes, the same ones in both halves of the batch; each image's σ is uniform in [0, `sigma`]."""
    scenes = 2 * draw_scenes(rng, size)
    sigmas = torch.from_numpy(rng.uniform(0, sigma, size=2 * size).astype(np.float32))
    attributes = [
        (hazard := _HAZARDS.index(scene.hazard), scene.wall, COLOURS * hazard + scene.colour) for scene in scenes
    ]
    return Batch(gaussian(rng, image_tensor(scenes), sigmas), kinds_of(scenes), torch.tensor(attributes).T)


def _jitter(features: Tensor) -> Tensor:
    """Mean of 1 - cosine between the two halves of `features`, the same scenes under two noises."""
    first, second = features.chunk(2)
    return 1 - (first * second).sum(-1).mean()


def train(recipe: Recipe, report: Callable[[int, float], None]) -> Trained:
    """Train an encoder from nothing, in float32, on the CPU.

    Args:
        recipe: the run; the same recipe on the same machine and thread count gives the same weights.
        report: called after each step with the step and the kind's cross entropy in nats.
    """
    tower, readouts = build_tower(seed=recipe.seed), Readouts()
    parameters = [*tower.parameters(), *readouts.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_up(step, recipe.steps))
    # A stream of its own, apart from the reference guard's: [seed, 0] is that one's.
    rng = np.random.default_rng([recipe.seed, 1])
    for step in range(recipe.steps):
        batch = draw_batch(rng, size=recipe.batch, sigma=MAX_SIGMA * min(1.0, step / (_RAMP * recipe.steps)))
        features = unit_features(tower, batch.images)
        kind, attributes = readouts.loss(features, batch)
        optimizer.zero_grad()
        torch.autograd.backward(kind + attributes + _CONSISTENCY * _jitter(features))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        report(step, kind.item())
    tower.eval()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    return Trained(tower, normalize(readouts.prototypes.detach(), dim=-1))
