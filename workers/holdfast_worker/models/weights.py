"""Tensors out of a folder's safetensors, shards included, and nothing besides; and where they are put."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from holdfast_worker.models.errors import ModelConfigError

_INDEX = "model.safetensors.index.json"


def tensor_places(folder: Path, *, preferred: str = "model.safetensors") -> dict[str, Path]:
    """The file of every tensor by the tensor's name, without reading any.

    Args:
        folder: A folder with one safetensors file, the one ``preferred`` among several, or shards and their index.
        preferred: Name of the file to take if it is there.

    Raises:
        ModelConfigError: Which file is meant is not clear, or one is no safetensors file.
    """
    places: dict[str, Path] = {}
    for path in _files(folder, preferred):
        with opened(path) as file:
            places |= dict.fromkeys(file.keys(), path)
    return places


def read_tensors(places: Mapping[str, Path]) -> dict[str, Tensor]:
    """Reads these tensors; the others stay on the disk.

    Args:
        places: Some of what ``tensor_places`` found.

    Raises:
        ModelConfigError: A file cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted(set(places.values())):
        with opened(path) as file:
            tensors |= {name: file.get_tensor(name) for name, place in places.items() if place == path}
    return tensors


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, open for reading.

    Raises:
        ModelConfigError: It is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ModelConfigError(f"{path} must be a safetensors file ({type(error).__name__}); save it as one") from error


def _files(folder: Path, preferred: str) -> list[Path]:
    if (folder / preferred).is_file():
        return [folder / preferred]
    if (folder / _INDEX).is_file():
        return _shards(folder)
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        names = [path.name for path in found]
        raise ModelConfigError(
            f"{folder} holds {names}, must hold one safetensors file or {preferred}; drop the others"
        )
    return found


def _shards(folder: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelConfigError(f"{_INDEX} has no weight_map of file names ({error}); save it again") from error
    if strange := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise ModelConfigError(f"{_INDEX} names {strange[0]!r}, must name files of its own folder; correct it")
    return [folder / name for name in names]


def require_fit(report: Mapping[str, Iterable[Any]]) -> None:
    """Refuses weights that are not exactly those of the model they were loaded into.

    transformers and diffusers only warn, and leave such weights random.

    Args:
        report: Names by kind of misfit, as their ``from_pretrained`` gives them.

    Raises:
        ModelConfigError: One is missing, misshapen or too many.
    """
    kinds = ("missing_keys", "mismatched_keys", "unexpected_keys")
    if wrong := sorted(str(name) for kind in kinds for name in report.get(kind, ())):
        raise ModelConfigError(
            f"{len(wrong)} weights are missing, misshapen or too many (first: {wrong[0]}), all must fit the"
            " configuration; use the weights that belong to it"
        )


def find_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is CUDA where there is one.

    Raises:
        ModelConfigError: It is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelConfigError(f"device={name} must exist, and no CUDA device is present; use device=auto or cpu")
    return torch.device(name)


def find_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number type of this name; ``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]
