"""What a booster's training is determined by; the defaults are the paper's ([F] A.2)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from holdfast_worker.denoisers.mapper import MapperShape
from holdfast_worker.denoisers.unet import UNetShape


class Recipe(BaseModel):
    """What both stages have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sigma: float = Field(gt=0, description="Noise level trained for, in [0,1] units.")
    seed: int = Field(0, ge=0, description="Of first weights, order, crops and noise.")
    epochs: int = Field(8, ge=1, description="Passes over the images.")
    draws: int = Field(8, ge=1, description="Noisy draws n0 of each image of a batch.")
    clean: float = Field(0.0, ge=0, description="Weight of 1 - cos on the image without noise; 0 as in the paper.")
    ema: float = Field(0.999, ge=0, lt=1, description="Decay of the average of the weights that is kept in the end.")


class DenoiserRecipe(Recipe):
    """How P is trained: Adam at a constant rate."""

    batch: int = Field(8, ge=1, description="Images of one step.")
    learning_rate: float = Field(1e-4, gt=0, description="Adam's; smaller networks want more.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="Of the learning rate.")
    reconstruction: float = Field(0.25, ge=0, description="λ1, the weight of the reconstruction loss.")
    shape: UNetShape = Field(UNetShape(), description="The network's numbers.")


class MapperRecipe(Recipe):
    """How M is trained, on top of a frozen P or of none: AdamW on a cosine."""

    batch: int = Field(16, ge=1, description="Images of one step.")
    learning_rate: float = Field(2e-4, gt=0, description="AdamW's at the start; smaller encoders want more.")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="Of the learning rate.")
    statistics: float = Field(100.0, ge=0, description="λ2, the weight of the statistics loss.")
    identity: float = Field(0.25, ge=0, description="λ3, the weight of the identity loss.")
    shape: MapperShape = Field(description="The network's numbers; its width is the encoder's.")
