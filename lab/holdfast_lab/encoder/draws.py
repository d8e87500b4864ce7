"""Noisy draws of one image under an encoder and a head, settled and scored as the service does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from holdfast.certificates import LEVELS, ScoreSample
from holdfast.contract.base import ImageData
from holdfast.contract.features.requests import FeatureCertificationRequest, FeatureInput, FeatureNoise, FeatureSampling
from holdfast.contract.features.spec import FeatureSpec, resolve_features
from holdfast_lab.scenes import Image
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.sampling.features import ReadyFeatures, scores, settle


@dataclass(frozen=True)
class Plan:
    """How an image is drawn.

    Attributes:
        sigma: standard deviation of the noise, [0,1] pixels, above 0.
        draws: noisy passes that are scored.
        selection: separate ones that fix the label.
        seed: of all of them.
    """

    sigma: float
    draws: int
    selection: int = 100
    seed: int = 0


@dataclass(frozen=True, eq=False)
class ScoredDraws:
    """What the draws of one image say.

    Attributes:
        label: the class y that wins on the mean feature of the separate draws.
        draws: how many were scored.
        plain_mean: plain mean of the similarity S, in [0, 1].
        reference: the sample of S = (1 + <f, u>) / 2, with u the clean feature.
        margins: per rival of y, the sample of (1 + m) / 2, m the margin on a unit scale.
        clipped: per constant c and rival, the sample of (1 + m / c) / 2 with m clipped at ±c.
        votes: draws whose own class is y.
        cosines: of u with the K prototypes; empty for a linear head.
        distances: of prototype y from the K prototypes; empty for a linear head.
    """

    label: int
    draws: int
    plain_mean: float
    reference: ScoreSample
    margins: tuple[ScoreSample, ...]
    clipped: Mapping[float, tuple[ScoreSample, ...]]
    votes: int
    cosines: tuple[float, ...]
    distances: tuple[float, ...]


def image_seed(seed: int, index: int) -> str:
    """The secret of one image among many: of its own, so that no two images share their noise."""
    return f"{seed}/{index}"


def draw_scores(
    encoder: Encoder, head: str, image: Image, index: int, *, plan: Plan, clips: Sequence[float]
) -> ScoredDraws:
    """Settle image number `index` by separate draws, then draw it as `plan` says and score every draw.

    Args:
        encoder: any encoder.
        head: the name of one of its heads.
        image: uint8 (H, W, 3), RGB.
        index: the image's number, which its noise depends on.
        plan: the noise and the numbers of draws.
        clips: constants that margins are clipped at.
    """
    spec, prepared, seed = _spec(encoder, head, plan), encoder.prepare(image), image_seed(plan.seed, index)
    settled = settle(encoder, spec, seed, prepared)
    found = scores(encoder, ReadyFeatures(spec, seed, prepared, settled), 0, plan.draws)
    values = found.values.cpu().numpy()
    margins = 2 * values[1 : len(encoder.heads[head].classes)] - 1
    return ScoredDraws(
        label=cast(int, settled.label),  # a head is named, so there are label and votes
        draws=plan.draws,
        plain_mean=float(values[0].mean()),
        reference=_sample(values[0]),
        margins=tuple(map(_sample, (1 + margins) / 2)),
        clipped={clip: tuple(map(_sample, (1 + (margins / clip).clip(-1, 1)) / 2)) for clip in clips},
        votes=int(cast(Tensor, found.hits).sum()),
        cosines=settled.cosines or (),
        distances=settled.distances or (),
    )


def _spec(encoder: Encoder, head: str, plan: Plan) -> FeatureSpec:
    request = FeatureCertificationRequest(
        model=encoder.config.name,
        input=FeatureInput(image=ImageData(data="given")),
        noise=FeatureNoise(sigma=plan.sigma),
        sampling=FeatureSampling(draws=plan.draws, selection_draws=plan.selection),
        prototypes=head,
    )
    return resolve_features(request, encoder.info)


def _sample(scores: NDArray[np.float64]) -> ScoreSample:
    """The scores as the service counts them: in whole levels, rounded down."""
    return ScoreSample.of(np.floor(LEVELS * scores) / LEVELS)
