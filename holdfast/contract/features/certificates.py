"""What comes back from an encoder: similarity bounds, radii, a prediction, an embedding, and their evidence."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from holdfast.contract.base import Frozen
from holdfast.contract.features.spec import Statement
from holdfast.contract.jobs import Issued, Job, Stopped
from holdfast.contract.models import FeatureReference, HeadInfo, ImageSpace, MeanBoundName

PredictionMethod = Literal["prototype_condition", "cap", "margin_mean", "margin_cdf", "clipped_cdf", "vote"]


class FeatureBoundRow(Frozen):
    """How similar the smoothed feature stays to the reference, against every image within `epsilon`.

    `cosine_at_least` is `null` where the inner product's bound is not above 0: it says nothing of the cosine there.
    """

    epsilon: float
    method: Literal["mean", "cdf"]
    inner_product_at_least: float
    cosine_at_least: float | None


class FeatureRadius(Frozen):
    """Within `radius` the cosine similarity stays above `cosine_floor`; `null` is not certified."""

    cosine_floor: float
    method: Literal["mean", "cdf"]
    radius: float | None
    native_radius: float | None


class PredictionRadius(Frozen):
    """Within `radius` the smoothed prediction stays the label; `null` is not certified."""

    method: PredictionMethod
    radius: float | None
    native_radius: float | None


class Prediction(Frozen):
    """The label that was fixed from separate draws, and how far it is certified by each method, side by side.

    `clipped_cdf` and `vote` speak of the label whose clipped mean margins, or votes, win; the others of the label that
    wins on the mean feature.
    """

    head: HeadInfo
    label: int
    class_name: str
    radii: tuple[PredictionRadius, ...]


class SimilarityRow(Frozen):
    """How similar one smoothed embedding of any image within `epsilon` is to the clean feature.

    `cosine_at_least` is `null` where the inner product's bound is not above 0.
    """

    epsilon: float
    inner_product_at_least: float
    cosine_at_least: float | None


class SmoothedEmbedding(Frozen):
    """The mean of `draws` noisy unit features, and what holds of such a mean under attack.

    For every image within `epsilon`, a fresh mean of `draws` features has the row's similarity with probability at
    least 1 - `alpha` - `evidence.alpha`. A token-level embedding is rescaled by the mean norm of its draws. It is an
    estimate of the smoothed feature, not that feature itself.
    """

    draws: int
    tokens: bool
    alpha: float
    shape: tuple[int, ...]
    values: tuple[float, ...] = Field(repr=False, description="Row by row.")
    similarity: tuple[SimilarityRow, ...]


class FeatureTargetAnswer(Frozen):
    """The answer to a target: whether it is certified."""

    epsilon: float
    cosine: float | None
    certified: bool


class ChannelEvidence(Frozen):
    """The histogram of one score in [0, 1]: `counts[i]` draws had a score of at least `levels[i]` / 4096, rounded down.

    `reference`: (1 + ⟨f, u⟩) / 2. `margin`: (1 + m) / 2 with m the label's margin over `rival` on a unit scale.
    `clipped`: (1 + m / c) / 2 with m clipped at ±c.
    """

    name: Literal["reference", "margin", "clipped"]
    rival: int | None
    levels: tuple[int, ...]
    counts: tuple[int, ...]


class FeatureEvidence(Frozen):
    """Everything that the certificate's numbers are computed from.

    `alpha_split` has each statement's share of `alpha`. `votes`: draws whose label was the certified one. `cosines`:
    of the reference with every prototype; `distances`: of the label's prototype from every one.
    """

    passes: int
    selection_passes: int
    channels: tuple[ChannelEvidence, ...]
    votes: int | None
    cosines: tuple[float, ...] | None
    distances: tuple[float, ...] | None
    mean_bound: MeanBoundName
    horizon: int
    alpha: float
    alpha_split: dict[Statement, float]
    stopped: Stopped


class FeatureCertificate(Issued):
    """Bounds on the similarity, the prediction or the embedding of a smoothed encoder, with their evidence."""

    kind: Literal["feature"] = "feature"
    bounds: tuple[FeatureBoundRow, ...]
    radii: tuple[FeatureRadius, ...]
    prediction: Prediction | None
    embedding: SmoothedEmbedding | None
    target: FeatureTargetAnswer | None
    evidence: FeatureEvidence
    reference: FeatureReference
    sigma: float
    dimension: int
    space: ImageSpace


JobOrFeatureCertificate = Annotated[Job | FeatureCertificate, Field(discriminator="state")]
_READ: TypeAdapter[Job | FeatureCertificate] = TypeAdapter(JobOrFeatureCertificate)


def feature_certification_from_json(body: bytes | str) -> Job | FeatureCertificate:
    """Reads an answer of `/v1/feature-certifications/{id}`: a certificate when it is done, a job otherwise."""
    return _READ.validate_json(body)
