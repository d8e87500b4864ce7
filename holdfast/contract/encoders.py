"""What is served besides guards: an encoder's feature, its heads and its defaults."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast.contract.models import NoiseSpace

__all__ = ["EncoderDefaults", "EncoderInfo", "FeatureReference", "HeadInfo", "MeanBoundName"]

FeatureReference = Literal["clean", "direction"]
MeanBoundName = Literal["betting", "empirical_bernstein", "kl", "hoeffding"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderDefaults(_Frozen):
    """What a request gets where it is silent."""

    sigma: float = Field(0.25, gt=0, description="Standard deviation of the image noise, [0,1] pixels.")
    alpha: float = Field(0.001, gt=0, le=0.5, description="Risk shared by every number of a feature certificate.")
    draws: int = Field(10_000, gt=0, description="Noisy passes that are scored.")
    selection_draws: int = Field(
        100, gt=0, description="Separate noisy passes that fix the label and, where asked, the reference direction."
    )
    reference: FeatureReference = Field(
        "clean", description="What similarity is measured to: the clean feature, or the smoothed feature's direction."
    )
    embedding_draws: int = Field(8, gt=0, description="n0: noisy passes that a smoothed embedding is the mean of.")
    embedding_alpha: float = Field(0.05, gt=0, le=0.5, description="Risk of an embedding's similarity bounds.")


class HeadInfo(_Frozen):
    """A registered classification head on the feature.

    `prototypes`: unit prototypes, the label is the nearest. `linear`: rows of any length and a bias.
    """

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    fingerprint: str
    kind: Literal["prototypes", "linear"]
    classes: tuple[str, ...] = Field(min_length=2)
    clip: float = Field(gt=0, le=1, description="c: margins are clipped at ±c where the clipped mean is certified.")


class EncoderInfo(_Frozen):
    """One served encoder, as `GET /v1/models/{name}` answers it."""

    name: str
    kind: Literal["encoder"] = "encoder"
    fingerprint: str
    space: NoiseSpace = Field(description="The tensor that noise is added to.")
    dimension: int = Field(gt=0, description="Length of a feature, a unit vector.")
    token_shape: tuple[int, int] = Field(description="Tokens and their width, of a token-level embedding.")
    denoiser: Literal["none", "booster", "diffusion"] = "none"
    mapper: bool = False
    heads: tuple[HeadInfo, ...] = ()
    defaults: EncoderDefaults = EncoderDefaults()
