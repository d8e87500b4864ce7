"""Classification heads on an encoder's unit features: prototypes, or a linear layer.

A head is one safetensors file with ``weight`` (K, E), for a linear one also ``bias`` (K,), and in its metadata
``classes`` (a JSON list of K names), ``kind``, ``version`` and ``clip``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from holdfast.contract.models import HeadInfo
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import digest
from holdfast_worker.models.weights import opened

MAX_CLASSES = 256
"""Most classes of a head: every rival's margin is certified and sent."""

# Prototypes saved in a half type are this far from unit length; they are brought to it when they are loaded.
_UNIT = 1e-3


@dataclass(frozen=True, eq=False)
class Head:
    """One classification head; the label is the class of the largest ``weight @ feature + bias``.

    Attributes:
        name: Name under which a request asks for it.
        version: Of its maker.
        fingerprint: Name of exactly what it computes.
        kind: ``prototypes``: unit rows, no bias. ``linear``: any rows and a bias.
        classes: K names.
        weight: float32, shape (K, E); no two classes are alike.
        bias: float32, shape (K,), or ``None`` with prototypes.
        clip: c, at which margins are clipped, in (0, 1].
    """

    name: str
    version: str
    fingerprint: str
    kind: Literal["prototypes", "linear"]
    classes: tuple[str, ...]
    weight: Tensor
    bias: Tensor | None
    clip: float

    @property
    def info(self) -> HeadInfo:
        """The head as the API describes it."""
        return HeadInfo(
            name=self.name,
            version=self.version,
            fingerprint=self.fingerprint,
            kind=self.kind,
            classes=self.classes,
            clip=self.clip,
        )


def load_head(path: Path, width: int, device: torch.device) -> Head:
    """Loads a head.

    Args:
        path: Its safetensors file; the file's stem is the head's name.
        width: Length E of the encoder's features.
        device: Where it shall lie.

    Raises:
        ModelConfigError: The file is not such a head for such features.
    """
    tensors, metadata = _read(path)
    if missing := {"classes", "kind", "version", "clip"} - set(metadata):
        raise ModelConfigError(f"{path} lacks the metadata {sorted(missing)}, must have them; save it again with them")
    classes, clip = _classes(path, metadata["classes"]), _clip(path, metadata["clip"])
    kind: Literal["prototypes", "linear"]
    wanted: dict[str, tuple[int, ...]] = {"weight": (len(classes), width)}
    if metadata["kind"] == "prototypes":
        kind = "prototypes"
    elif metadata["kind"] == "linear":
        kind = "linear"
        wanted["bias"] = (len(classes),)
    else:
        raise ModelConfigError(f"{path}: kind={metadata['kind']!r} must be 'prototypes' or 'linear'; correct it")
    _require_shapes(path, tensors, wanted)
    weight, bias = tensors["weight"], tensors.get("bias")
    if kind == "prototypes":
        weight = _unit_rows(path, weight)
    _require_different(path, classes, weight, bias)
    name = digest(
        [
            *((part, tensor.float().numpy().astype("<f4").tobytes()) for part, tensor in sorted(tensors.items())),
            ("head", json.dumps({"kind": kind, "classes": classes, "clip": clip}, sort_keys=True).encode()),
        ]
    )
    return Head(
        name=path.stem,
        version=metadata["version"],
        fingerprint=name,
        kind=kind,
        classes=classes,
        weight=weight.float().to(device),
        bias=None if bias is None else bias.float().to(device),
        clip=clip,
    )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with opened(path) as file:
        names = file.keys()
        return {name: file.get_tensor(name).double() for name in names}, file.metadata() or {}


def _classes(path: Path, text: str) -> tuple[str, ...]:
    try:
        classes = json.loads(text)
    except ValueError:
        classes = None
    if not isinstance(classes, list) or not all(isinstance(name, str) and name for name in classes):
        raise ModelConfigError(f"{path}: classes must be a JSON list of names; correct the metadata")
    if not 2 <= len(classes) <= MAX_CLASSES or len(set(classes)) < len(classes):
        raise ModelConfigError(
            f"{path}: {len(classes)} classes, {len(set(classes))} of them different, must be 2 to {MAX_CLASSES}"
            " different ones; correct the metadata"
        )
    return tuple(classes)


def _clip(path: Path, text: str) -> float:
    try:
        clip = float(text)
    except ValueError:
        clip = float("nan")
    if not 0 < clip <= 1:
        raise ModelConfigError(f"{path}: clip={text!r} must be a number above 0 and at most 1; correct the metadata")
    return clip


def _require_shapes(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in sorted(tensors.items())}
    if found != dict(wanted):
        raise ModelConfigError(
            f"{path} holds {found}, must hold {dict(wanted)} for its classes and this encoder's features; correct the"
            " metadata, or use the encoder that it was made for"
        )
    for name, tensor in tensors.items():
        if not tensor.float().isfinite().all():
            raise ModelConfigError(f"{path}: {name} has a number that is not finite, all must be; save it again")


def _unit_rows(path: Path, weight: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    worst = int((lengths - 1).abs().argmax())
    if abs(float(lengths[worst]) - 1) > _UNIT:
        raise ModelConfigError(
            f"{path}: prototype {worst} has length {float(lengths[worst]):.6g}, must have 1; normalise the rows, or"
            " save them as kind=linear with a bias"
        )
    return weight / lengths


def _require_different(path: Path, classes: tuple[str, ...], weight: Tensor, bias: Tensor | None) -> None:
    rows = (weight if bias is None else torch.cat((weight, bias[:, None]), dim=1)).float()
    if len(torch.unique(rows, dim=0)) < len(classes):
        raise ModelConfigError(
            f"{path}: two of the {len(classes)} classes have the same weights, must differ; drop one of them"
        )
