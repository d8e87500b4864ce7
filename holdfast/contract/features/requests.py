"""`POST /v1/feature-certifications` and `POST /v1/embeddings`: what may be asked of an encoder."""

from typing import Annotated, Self

from pydantic import FailFast, Field, model_validator

from holdfast.contract.base import Confidence, Epsilon, ImageData, Sigma, Stop, Strict
from holdfast.contract.models import FeatureReference, MeanBoundName

Epsilons = Annotated[tuple[Epsilon, ...], FailFast()]
CosineFloor = Annotated[float, Field(ge=0, lt=1)]


class FeatureInput(Strict):
    """The image to encode."""

    image: ImageData = Field(repr=False)


class FeatureNoise(Strict):
    """The smoothing noise: Gaussian of standard deviation σ on the image."""

    sigma: Sigma | None = None


class FeatureSampling(Strict):
    """How many noisy passes are scored, and when to stop.

    `fixed` takes them all, which the CDF bound needs. `any_time` stops early; it has the statements whose bounds hold
    at every number of draws: the mean bound, the mean margin and the vote.
    """

    draws: int | None = Field(None, ge=1, le=1_000_000)
    selection_draws: int | None = Field(None, ge=1, le=100_000)
    stop: Stop = "fixed"
    tolerance: float = Field(0.02, ge=0, lt=1, description="any_time: stop when no radius can grow by a larger share.")


class FeatureTarget(Strict):
    """The yes/no question, for `any_time`: do the similarity or the prediction hold against image radius `epsilon`?

    `cosine`: the floor that the cosine similarity must stay above; without one the prediction is meant.
    """

    epsilon: float = Field(gt=0, le=1e6)
    cosine: CosineFloor | None = None


class FeatureCertificationRequest(Strict):
    """The body of `POST /v1/feature-certifications`; everything but `input` has a default per model."""

    model: str = Field("reference-encoder", min_length=1, max_length=200)
    input: FeatureInput
    noise: FeatureNoise = FeatureNoise()
    reference: FeatureReference | None = None
    epsilons: Epsilons = Field((0.0, 0.25, 0.5, 1.0), max_length=64)
    cosine_floors: Annotated[tuple[CosineFloor, ...], FailFast()] = Field((0.5,), max_length=64)
    prototypes: str | None = Field(
        None, min_length=1, max_length=200, description="A head of the model: certify its prediction too."
    )
    mean_bound: MeanBoundName = "betting"
    confidence: Confidence = Confidence()
    sampling: FeatureSampling = FeatureSampling()
    target: FeatureTarget | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.sampling.stop == "any_time" and self.mean_bound != "betting":
            raise ValueError(
                f"mean_bound={self.mean_bound} holds at a fixed number of draws only; ask for betting or stop=fixed"
            )
        if self.target is not None and self.sampling.stop == "fixed":
            raise ValueError("a target needs sampling.stop=any_time, which ends as soon as it is answered; ask for it")
        if self.target is not None and self.target.cosine is None and self.prototypes is None:
            raise ValueError("a target without a cosine asks for the prediction; name prototypes or give a cosine")
        return self


class EmbeddingSampling(Strict):
    """`draws` noisy passes are averaged; `score_draws` others bound what an attack can do to such an average."""

    draws: int | None = Field(None, ge=1, le=1024)
    score_draws: int | None = Field(None, ge=1, le=1_000_000)


class EmbeddingRequest(Strict):
    """The body of `POST /v1/embeddings`; everything but `input` has a default per model."""

    model: str = Field("reference-encoder", min_length=1, max_length=200)
    input: FeatureInput
    noise: FeatureNoise = FeatureNoise()
    tokens: bool = Field(False, description="Answer the token-level feature, for a language model, not the pooled one.")
    epsilons: Epsilons = Field((0.0, 0.25, 0.5, 1.0), max_length=64)
    confidence: Confidence = Confidence()
    sampling: EmbeddingSampling = EmbeddingSampling()
