"""Classification heads as files: `heads/NAME.safetensors` of an encoder's folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from safetensors.torch import save_file
from torch import Tensor

VERSION: Final = "1"
# Tried from .005 to .2 on CIFAR and on drawn scenes: radii grow as it shrinks, and no clip reached 2 % further.
CLIP: Final = 0.01
HeadKind = Literal["prototypes", "linear"]


@dataclass(frozen=True, eq=False)
class TrainedHead:
    """A head on unit features: the label is the class of the largest `weight @ feature + bias`.

    Attributes:
        classes: K names.
        weight: float32 (K, E); unit rows where there is no bias.
        bias: float32 (K,) of a linear head, `None` of prototypes.
        clip: where margins are clipped for the clipped certificate, in (0, 1].
    """

    classes: Sequence[str]
    weight: Tensor
    bias: Tensor | None = None
    clip: float = CLIP

    @property
    def kind(self) -> HeadKind:
        """What the worker calls it."""
        return "prototypes" if self.bias is None else "linear"


def save_head(head: TrainedHead, path: Path, *, version: str = VERSION) -> None:
    """Write `head` to `path` in float32, with what the worker needs to know of it as metadata."""
    tensors = {"weight": head.weight} | ({} if head.bias is None else {"bias": head.bias})
    classes = json.dumps(list(head.classes))
    metadata = {"classes": classes, "version": version, "kind": head.kind, "clip": str(head.clip)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}, path, metadata)
