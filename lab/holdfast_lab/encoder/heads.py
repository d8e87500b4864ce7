"""Training of a classification head on the noisy features of a frozen encoder, deterministic in the seed."""

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, normalize

from holdfast_lab.encoder.draws import image_seed
from holdfast_lab.encoder.head_files import CLIP, HeadKind, TrainedHead
from holdfast_lab.encoder.labelled import LabelledImages
from holdfast_worker.models.encoder.encoder import Encoder

_START_SCALE: Final = 8.0


@dataclass(frozen=True)
class HeadRecipe:
    """What a head's training is determined by, apart from encoder and images.

    Attributes:
        kind: `prototypes` for unit rows read by cosine under a learned temperature, `linear` for rows and a bias.
        sigma: standard deviation of the noise that the features are taken under.
        copies: noisy features of every image.
        steps: optimiser steps, each on all the features.
        learning_rate: Adam's.
        seed: of the noise and of the first weights.
        clip: written with the head, see `TrainedHead`.
    """

    kind: HeadKind
    sigma: float
    copies: int = 64
    steps: int = 300
    learning_rate: float = 0.02
    seed: int = 0
    clip: float = CLIP


class _Cosine(nn.Module):
    """Cosines with K prototypes under a learned temperature."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(_START_SCALE)))

    def forward(self, features: Tensor) -> Tensor:
        return self.log_scale.exp() * linear(features, normalize(self.weight, dim=-1))


def noisy_features(encoder: Encoder, images: LabelledImages, *, sigma: float, copies: int, seed: int) -> Tensor:
    """Unit features (N, `copies`, E) of every image under noise of standard deviation `sigma`, on the CPU."""
    rows = [
        encoder.draw_features(encoder.prepare(image), image_seed(seed, index), sigma, 0, copies)
        for index, image in enumerate(images.images)
    ]
    return torch.stack(rows).cpu()


def train_head(encoder: Encoder, images: LabelledImages, recipe: HeadRecipe) -> TrainedHead:
    """Train a head on `images`; the encoder is left as it is."""
    features = noisy_features(encoder, images, sigma=recipe.sigma, copies=recipe.copies, seed=recipe.seed)
    labels = torch.from_numpy(images.labels).repeat_interleave(recipe.copies)
    torch.manual_seed(recipe.seed)
    width, classes = features.shape[-1], len(images.classes)
    head = _Cosine(width, classes) if recipe.kind == "prototypes" else nn.Linear(width, classes)
    _fit(head, features.flatten(0, 1), labels, recipe)
    weight = head.weight.detach()
    if isinstance(head, nn.Linear):
        return TrainedHead(images.classes, weight, head.bias.detach(), clip=recipe.clip)
    return TrainedHead(images.classes, normalize(weight.double(), dim=-1).float(), clip=recipe.clip)


def _fit(head: nn.Module, features: Tensor, labels: Tensor, recipe: HeadRecipe) -> None:
    optimizer = torch.optim.Adam(head.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    for _ in range(recipe.steps):
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(head(features), labels))
        optimizer.step()
        schedule.step()
