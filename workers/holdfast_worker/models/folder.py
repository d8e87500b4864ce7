"""A model's folder: its settings in ``holdfast.json`` with the worker's laid over them, and digests of its files."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from holdfast_worker.models.errors import ModelConfigError

CONFIG_FILE = "holdfast.json"
_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")
_ENGINE = {"engine", "engine_batch", "engine_memory", "vllm_url"}  # another arithmetic, within rounding the same guard
_HARMLESS = _ENGINE | {
    "name",
    "device",
    "batch_limit",
    "tie_band",
    "max_slots",
    "max_text_bytes",
    "max_tokens",
    "text_alone",
    "false_flag",
}

Config = TypeVar("Config", bound=BaseModel)


def load_config(kind: type[Config], folder: Path, overrides: Mapping[str, Any]) -> Config:
    """Reads ``holdfast.json`` and lays the given fields over it; nested objects merge field by field.

    Args:
        kind: What the settings are of: ``GuardConfig``, ``TabularConfig`` or ``EncoderConfig``.
        folder: A model's folder; it need not hold ``holdfast.json`` when ``overrides`` gives what has no default.
        overrides: Fields of that kind.

    Raises:
        ModelConfigError: The file is not a JSON object, or a field is missing, unknown or out of range.
    """
    settings = read_settings(folder, overrides)
    if "false_flag" in kind.model_fields and set(overrides) - _HARMLESS:
        settings = _unmeasured(settings, overrides)
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'model'}: {e['msg']}" for e in error.errors())
        raise ModelConfigError(
            f"model in {folder}: {problems}; correct {CONFIG_FILE} or the worker's settings"
        ) from error


def read_settings(folder: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of ``holdfast.json`` with ``overrides`` laid over them, not yet validated.

    Raises:
        ModelConfigError: The file is not a JSON object.
    """
    path = folder / CONFIG_FILE
    return _merged(read_object(path) if path.is_file() else {}, overrides)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file of a model's folder holds.

    Raises:
        ModelConfigError: It is missing, or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelConfigError(
            f"{path.parent} holds no {path.name}, must be a checkpoint folder; correct the path"
        ) from None
    except ValueError as error:
        raise ModelConfigError(f"{path} is not valid JSON ({error}); rewrite it") from error
    if not isinstance(content, dict):
        raise ModelConfigError(f"{path} holds a {type(content).__name__}, must hold one JSON object; rewrite it")
    return content


def model_type(folder: Path, known: Collection[str], *, remedy: str) -> str:
    """The architecture that a checkpoint's ``config.json`` names.

    Raises:
        ModelConfigError: It is none of those known; ``remedy`` says what then.
    """
    found = read_object(folder / "config.json").get("model_type")
    if not isinstance(found, str) or found not in known:
        raise ModelConfigError(f"model_type={found!r} must be one of {', '.join(known)}{remedy}")
    return found


def _unmeasured(settings: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the folder's false-flag bounds, as an override changes what those were measured on."""
    defaults, given = dict(settings.get("defaults") or {}), overrides.get("defaults") or {}
    if isinstance(defaults.get("l0"), Mapping):
        l0 = given.get("l0") or {}
        defaults["l0"] = {**defaults["l0"], "false_flag": l0.get("false_flag")}
    if "append" in defaults:
        defaults["append"] = given.get("append")
    return {**settings, "defaults": defaults, "false_flag": overrides.get("false_flag")}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def weights_and_files(folder: Path) -> list[tuple[str, bytes]]:
    """Name and SHA-256 of every file of a checkpoint folder that may decide a vote, ``holdfast.json`` left out."""
    paths = [path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES and path.name != CONFIG_FILE]
    return [(path.name, _file_digest(path)) for path in paths]


def digest(parts: Iterable[tuple[str, bytes]]) -> str:
    """SHA-256 over framed (name, bytes) pairs, as ``sha256:`` and 64 hexadecimal digits."""
    found = hashlib.sha256()
    for name, content in parts:
        found.update(len(name).to_bytes(8, "big") + name.encode() + len(content).to_bytes(8, "big") + content)
    return f"sha256:{found.hexdigest()}"


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
