"""What a request to an encoder means once the model's defaults are filled in."""

import math
from typing import Literal

from holdfast.contract.base import Closed, Stop, invalid, or_else
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest, FeatureTarget
from holdfast.contract.models import EncoderInfo, FeatureReference, HeadInfo, MeanBoundName, NoiseSpace

Statement = Literal["feature_mean", "feature_cdf", "margin_mean", "margin_cdf", "clipped_cdf", "vote"]

MAX_VALUES = 1 << 20
"""Numbers in one answered embedding."""
_CURVE_SHARE = 0.1  # of an embedding's alpha: the curve's cost is logarithmic in it, the average's is not


class EmbeddingSpec(Closed):
    """A smoothed embedding: the mean of `draws` features, or of token matrices; `alpha` is the average's own risk."""

    draws: int
    tokens: bool
    alpha: float


class FeatureSpec(Closed):
    """A request without its image, every default filled in and every value checked against its model.

    `alpha` is the risk that the `statements` share equally; an embedding's own risk comes on top of it.
    """

    model: str
    fingerprint: str
    kind: Literal["feature"] = "feature"
    sigma: float
    reference: FeatureReference
    epsilons: tuple[float, ...]
    cosine_floors: tuple[float, ...]
    head: HeadInfo | None
    mean_bound: MeanBoundName
    alpha: float
    draws: int
    selection_draws: int
    stop: Stop
    tolerance: float
    target: FeatureTarget | None
    embedding: EmbeddingSpec | None
    space: NoiseSpace
    dimension: int

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The bounds that share alpha: at any time those of means, at a fixed number of draws the curves' too."""
        if self.embedding is not None:
            return ("feature_cdf",)
        fixed = self.stop == "fixed"
        feature: tuple[Statement, ...] = ("feature_mean", "feature_cdf") if fixed else ("feature_mean",)
        if self.head is None:
            return feature
        return (*feature, "margin_mean", *(("margin_cdf", "clipped_cdf") if fixed else ()), "vote")

    @property
    def max_draws(self) -> int:
        """Most draws that are scored."""
        return self.draws

    @property
    def rivals(self) -> int:
        """Classes that the certified label is held against."""
        return 0 if self.head is None else len(self.head.classes) - 1


def resolve_features(request: FeatureCertificationRequest, model: EncoderInfo) -> FeatureSpec:
    """Fills in the model's defaults.

    Raises:
        InvalidValueError: a value is outside what this model serves.
    """
    defaults, sampling = model.defaults, request.sampling
    return FeatureSpec(
        model=model.name,
        fingerprint=model.fingerprint,
        sigma=or_else(request.noise.sigma, defaults.sigma),
        reference=or_else(request.reference, defaults.reference),
        epsilons=tuple(sorted(set(request.epsilons))),
        cosine_floors=tuple(sorted(set(request.cosine_floors))),
        head=None if request.prototypes is None else _head(request.prototypes, model),
        mean_bound=request.mean_bound,
        alpha=or_else(request.confidence.alpha, defaults.alpha),
        draws=or_else(sampling.draws, defaults.draws),
        selection_draws=or_else(sampling.selection_draws, defaults.selection_draws),
        stop=sampling.stop,
        tolerance=sampling.tolerance,
        target=request.target,
        embedding=None,
        space=model.space,
        dimension=model.dimension,
    )


def resolve_embedding(request: EmbeddingRequest, model: EncoderInfo) -> FeatureSpec:
    """Fills in the model's defaults; a tenth of alpha goes to the curve, the rest to the average itself.

    Raises:
        InvalidValueError: a value is outside what this model serves.
    """
    defaults, (tokens, width) = model.defaults, model.token_shape
    dimension = tokens * width if request.tokens else model.dimension
    if dimension > MAX_VALUES:
        raise invalid(("tokens", f"{tokens} x {width} values must be at most {MAX_VALUES}; ask for the pooled feature"))
    alpha = or_else(request.confidence.alpha, defaults.embedding_alpha)
    curve = alpha * _CURVE_SHARE
    return FeatureSpec(
        model=model.name,
        fingerprint=model.fingerprint,
        sigma=or_else(request.noise.sigma, defaults.sigma),
        reference="clean",
        epsilons=tuple(sorted(set(request.epsilons))),
        cosine_floors=(),
        head=None,
        mean_bound="betting",
        alpha=curve,
        draws=or_else(request.sampling.score_draws, min(1000, defaults.draws)),
        selection_draws=1,
        stop="fixed",
        tolerance=0.0,
        target=None,
        embedding=EmbeddingSpec(
            draws=or_else(request.sampling.draws, defaults.embedding_draws),
            tokens=request.tokens,
            alpha=math.nextafter(alpha - curve, 0.0),  # both together are never more than what was asked
        ),
        space=model.space,
        dimension=dimension,
    )


def _head(name: str, model: EncoderInfo) -> HeadInfo:
    found = {head.name: head for head in model.heads}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise invalid(("prototypes", f"prototypes must be one of the heads of model {model.name}: {known}; name one"))
    return found[name]
