"""One measurement of the reference encoder, through the encoder as it is served, on held-out scenes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast_lab.encoder.comparison import Row, compare
from holdfast_lab.encoder.draws import Plan
from holdfast_lab.encoder.export import DEFAULTS, HEAD
from holdfast_lab.encoder.labelled import LabelledImages
from holdfast_lab.encoder.training import draw_scenes, kinds_of
from holdfast_lab.evaluation import HELD_OUT_SEED
from holdfast_lab.noise import gaussian, image_tensor
from holdfast_lab.scenes import Kind, Scene
from holdfast_worker.models.encoder.encoder import Encoder

SIGMAS: Final = (0.0, 0.1, 0.25, 0.35)
# Of the shared seed's streams, those that the reference guard's parts leave free.
_PART: Final = 50
_NOISE: Final = 150


@dataclass(frozen=True)
class Score:
    """One noisy pass per scene at `sigma`: kinds told right, and the mean of S = (1 + <f, u>) / 2, u the clean feature.

    `at_least` bounds the share from below at the default alpha (Clopper-Pearson).
    """

    sigma: float
    right: int
    total: int
    similarity: float

    @property
    def share(self) -> float:
        """The share of kinds told right."""
        return self.right / self.total

    @property
    def at_least(self) -> float:
        """One-sided lower confidence bound of that share."""
        return clopper_pearson_lower(self.right, self.total, DEFAULTS["alpha"])


@dataclass(frozen=True)
class Report:
    """What the model card states.

    Attributes:
        scores: one per noise of `SIGMAS`.
        draws: noisy passes per certified scene.
        rows: the certificates of further scenes at the default σ and α.
    """

    scores: tuple[Score, ...]
    draws: int
    rows: tuple[Row, ...]


def held_out_scenes(count: int, *, part: int = 0) -> list[Scene]:
    """`count` scenes of one held-out stream: no training run draws from it."""
    return draw_scenes(np.random.default_rng([HELD_OUT_SEED, _PART, part]), count)


def score(encoder: Encoder, scenes: list[Scene], sigma: float, *, seed: int = 0) -> Score:
    """One noisy pass per scene."""
    rng, clean = np.random.default_rng([HELD_OUT_SEED, _NOISE, seed]), image_tensor(scenes)
    noisy = gaussian(rng, clean, torch.full((len(scenes),), sigma))
    reference, features = (encoder.features(images.to(encoder.device), sigma) for images in (clean, noisy))
    right = (features @ encoder.heads[HEAD].weight.T).argmax(-1).cpu() == kinds_of(scenes)
    similarity = (1 + (features * reference).sum(-1).mean()) / 2
    return Score(sigma, int(right.sum()), len(scenes), float(similarity))


def labelled(scenes: list[Scene]) -> LabelledImages:
    """The scenes as images labelled with their objects' kinds."""
    return LabelledImages(tuple(scene.image for scene in scenes), kinds_of(scenes).numpy(), tuple(map(str, Kind)))


def measure(
    encoder: Encoder, *, scenes: int = 2000, certified: int = 100, draws: int = 2000, say: Callable[[str], None]
) -> Report:
    """Measure accuracy on `scenes`, certificates by `draws` passes each on `certified` further scenes."""
    pool = held_out_scenes(scenes)
    scores = []
    for sigma in SIGMAS:
        scores.append(score(encoder, pool, sigma))
        say(f"σ={sigma:g}: accuracy {scores[-1].share:.4f}, mean S {scores[-1].similarity:.4f}")
    plan = Plan(DEFAULTS["sigma"], draws, DEFAULTS["selection_draws"], HELD_OUT_SEED)
    rows = compare(
        encoder,
        HEAD,
        labelled(held_out_scenes(certified, part=1)),
        plan=plan,
        alpha=DEFAULTS["alpha"],
        clips=(encoder.heads[HEAD].clip,),
        report=lambda row: say(f"scene {row.index}: {'right' if row.label == row.true else 'wrong'}"),
    )
    return Report(tuple(scores), draws, tuple(rows))
