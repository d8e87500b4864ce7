"""The settings that a model's folder carries in ``holdfast.json``, and those of the worker laid over them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from holdfast_worker.models.errors import ModelConfigError

__all__ = ["CONFIG_FILE", "read_settings", "validated"]

CONFIG_FILE = "holdfast.json"

Config = TypeVar("Config", bound=BaseModel)


def read_settings(folder: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``holdfast.json`` with ``overrides`` laid over them, not yet validated.

    Raises:
        ModelConfigError: The file is not a JSON object.
    """
    path = folder / CONFIG_FILE
    try:
        stored = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelConfigError(f"{path} is not valid JSON ({error}); rewrite it") from error
    if not isinstance(stored, dict):
        raise ModelConfigError(f"{path} holds a {type(stored).__name__}, must hold one JSON object; rewrite it")
    return _merged(stored, overrides)


def validated(model: type[Config], folder: Path, settings: Mapping[str, Any]) -> Config:
    """The settings as a configuration of this kind.

    Raises:
        ModelConfigError: A field is missing, unknown or out of range.
    """
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'model'}: {e['msg']}" for e in error.errors())
        raise ModelConfigError(
            f"model in {folder}: {problems}; correct {CONFIG_FILE} or the worker's settings"
        ) from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
