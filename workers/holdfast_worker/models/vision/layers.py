"""Plain convolutional encoders declared layer by layer in ``holdfast.json``, for weights that come without code.

A layer's weights are the tensors ``{name}.weight``, ``{name}.bias`` and so on of the folder's safetensors. Its name is
its place in the list, as ``nn.Sequential`` counts, unless it says another.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from holdfast_worker.models.errors import ModelConfigError

_Count = Annotated[int, Field(gt=0, le=65_536)]
_TRACKED = "num_batches_tracked"  # counts training steps; evaluation never reads it


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str | None = Field(None, min_length=1, description="Of its weights; by default its place in the list.")


class _Mapping(_Spec):
    inputs: _Count = Field(alias="in", description="Channels or features in.")
    outputs: _Count = Field(alias="out", description="Channels or features out.")


class Conv2d(_Mapping):
    """A convolution."""

    kind: Literal["conv2d"]
    kernel: _Count
    stride: _Count = 1
    padding: int = Field(0, ge=0)
    bias: bool = True

    def module(self) -> nn.Module:
        """The layer, without its weights."""
        return nn.Conv2d(self.inputs, self.outputs, self.kernel, self.stride, self.padding, bias=self.bias)


class Linear(_Mapping):
    """A matrix and a bias."""

    kind: Literal["linear"]
    bias: bool = True

    def module(self) -> nn.Module:
        """The layer, without its weights."""
        return nn.Linear(self.inputs, self.outputs, bias=self.bias)


class BatchNorm2d(_Spec):
    """Normalisation of channels by the mean and variance of training."""

    kind: Literal["batch_norm2d"]
    features: _Count

    def module(self) -> nn.Module:
        """The layer, without its weights."""
        return nn.BatchNorm2d(self.features)


class BasicBlock(_Mapping):
    """Two convolutions of 3x3 with batch norms and a shortcut without weights (He et al. 2016, option A).

    The shortcut takes every ``stride``-th pixel and pads the channels with zeros, half before and half after.
    """

    kind: Literal["basic_block"]
    stride: _Count = 1

    @model_validator(mode="after")
    def _check(self) -> "BasicBlock":
        if self.outputs < self.inputs or (self.outputs - self.inputs) % 2:
            raise ValueError(
                f"out={self.outputs} must exceed in={self.inputs} by an even number or by none, since the shortcut"
                " pads both ends alike; correct them"
            )
        return self

    def module(self) -> nn.Module:
        """The layer, without its weights."""
        return _ResidualBlock(self.inputs, self.outputs, self.stride)


class Plain(_Spec):
    """A layer without weights; ``average_pool`` takes the mean over all pixels."""

    kind: Literal["relu", "flatten", "average_pool"]

    def module(self) -> nn.Module:
        """The layer."""
        if self.kind == "relu":
            return nn.ReLU()
        return nn.Flatten() if self.kind == "flatten" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


Layer = Annotated[Conv2d | Linear | BatchNorm2d | BasicBlock | Plain, Field(discriminator="kind")]
"""One declared layer."""


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self._stride, self._spare = stride, (outputs - inputs) // 2

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        shortcut = images[:, :, :: self._stride, :: self._stride]
        padded = functional.pad(shortcut, (0, 0, 0, 0, self._spare, self._spare))
        return functional.relu(self.bn2(self.conv2(hidden)) + padded)


def build_layers(layers: Sequence[Layer], stored: Mapping[str, Tensor]) -> nn.Sequential:
    """Builds declared layers with their weights.

    Args:
        layers: The declaration, in order.
        stored: The folder's tensors by name; those of no declared layer are left alone.

    Raises:
        ModelConfigError: A weight is missing, of another shape or not finite.
    """
    modules = []
    for index, layer in enumerate(layers):
        module = layer.module()
        name = layer.name or str(index)
        state = {key: tensor for key, tensor in module.state_dict().items() if not key.endswith(_TRACKED)}
        module.load_state_dict({key: _weight(stored, f"{name}.{key}", own) for key, own in state.items()}, strict=False)
        modules.append(module)
    return nn.Sequential(*modules).eval().requires_grad_(False)


def _weight(stored: Mapping[str, Tensor], name: str, own: Tensor) -> Tensor:
    if name not in stored or stored[name].shape != own.shape:
        found = f"has shape {tuple(stored[name].shape)}" if name in stored else "is missing"
        raise ModelConfigError(
            f"weight {name} {found}, must have {tuple(own.shape)} as the layers say; correct the layers or their names"
        )
    if not stored[name].isfinite().all():
        raise ModelConfigError(f"weight {name} has a number that is not finite, all must be; save it again")
    return stored[name]
