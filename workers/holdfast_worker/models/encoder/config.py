"""What an encoder is, apart from its weights: the kind of tower, which feature of it, the noise space, its helpers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.contract.models import EncoderDefaults
from holdfast_worker.models.vision.layers import Layer

_Channels = tuple[float, float, float]
_Positive = Annotated[float, Field(gt=0)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class EncoderConfig(BaseModel):
    """One served encoder. Immutable; a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, description="Name under which the API serves the encoder.")
    kind: Literal["encoder"] = Field(description="What it is: images in, unit vectors out.")
    architecture: Literal["clip", "open_clip", "siglip", "llava", "layers"] = Field(
        description="clip, siglip, llava: transformers' layouts, of a LLaVA the vision tower alone. open_clip: its"
        " layout, FARE's and TeCoA's too. layers: declared below."
    )
    feature: Literal["projection", "cls", "mean", "tokens"] | None = Field(
        None,
        description="projection: the image embedding of clip and siglip, their default. cls: the class token. mean: the"
        " mean of the patch tokens. tokens: all of them side by side, llava's default. Not for layers.",
    )
    layer: int | None = Field(
        None,
        description="Index of the hidden state that is read, 0 before the first layer, negative from the end; by"
        " default what follows the last, and for llava its own vision_feature_layer.",
    )
    layers: tuple[Layer, ...] = Field((), max_length=1000, description="The network, without its last linear layer.")
    mean: _Channels | None = Field(None, description="Channel means for layers; others have an image processor.")
    std: tuple[_Positive, _Positive, _Positive] | None = Field(None, description="Channel deviations, likewise.")
    noise_height: int | None = Field(None, ge=1, le=4096, description="Of the noise space; by default the tower's.")
    noise_width: int | None = Field(None, ge=1, le=4096, description="Of the noise space; by default the tower's.")
    booster: str | None = Field(None, description="Folder of a booster, relative to this one: denoiser, mapper.")
    diffusion: str | None = Field(None, description="Folder of a diffusion model that denoises, relative to this one.")
    heads: tuple[_Name, ...] = Field((), description="Classification heads: names of files heads/NAME.safetensors.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="The tower's weights and activations; auto is bfloat16 on cuda and float32 elsewhere."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto is cuda where present.")
    batch_limit: int | None = Field(
        None, ge=1, description="Images in one forward pass to begin with; `holdfast models add` measures it."
    )
    defaults: EncoderDefaults = Field(EncoderDefaults(), description="What a request gets where it is silent.")

    @model_validator(mode="after")
    def _check(self) -> "EncoderConfig":
        if (self.noise_height is None) != (self.noise_width is None):
            raise ValueError("noise_height and noise_width must be given both or neither; add the other")
        if len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads {list(self.heads)} must be different; drop the second")
        if self.architecture == "layers":
            self._check_layers()
        else:
            self._check_tower()
        return self

    def _check_layers(self) -> None:
        if not self.layers or self.mean is None or self.std is None or self.noise_height is None:
            raise ValueError("architecture=layers needs layers, mean, std, noise_height and noise_width; add them")
        if self.feature is not None or self.layer is not None:
            raise ValueError("architecture=layers has no feature and no layer to choose: its output is the feature")

    def _check_tower(self) -> None:
        if self.layers or self.mean is not None or self.std is not None:
            raise ValueError(
                f"architecture={self.architecture} takes no layers, mean or std, which its folder's files give; drop"
                " them"
            )
        lacking = {"siglip": "cls", "llava": "projection"}.get(self.architecture)
        if self.feature is not None and self.feature == lacking:
            raise ValueError(f"feature={lacking} is nothing that {self.architecture} has; choose another")
        if self.layer is not None and self.used_feature == "projection":
            raise ValueError("feature=projection reads the last layer; drop layer, or choose cls, mean or tokens")

    @property
    def used_feature(self) -> str | None:
        """The feature in force; none for layers."""
        return self.feature or {"llava": "tokens", "layers": None}.get(self.architecture, "projection")
