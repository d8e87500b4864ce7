"""A name for exactly one base classifier: equal fingerprints vote alike on equal draws."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holdfast_worker.models.guard.config import CONFIG_FILE, GuardConfig
from holdfast_worker.models.guard.policies import policy_text

__all__ = ["digest", "fingerprint", "weights_and_files"]

_RULES = {"layout", "decision", "answer", "answer_prefix", "max_new_tokens", "unparseable"}
_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


def fingerprint(folder: Path, config: GuardConfig, alphabet: NDArray[np.int64], *, dtype: str, device: str) -> str:
    """Hashes all that a vote depends on besides the draw itself.

    SHA-256 over framed (name, bytes) pairs: every weight, configuration, tokenizer, template and image-processor file
    of the folder by name except ``holdfast.json``, then the policy's text, the user template, the verdict, filler and
    mask tokens, the alphabet's ids (little-endian int64), the tiling, the noise size, the number type, and the kind of
    device, since the noise of a seed differs between kinds. What is not the default of layout and decision rule follows
    them, if anything. Limits, defaults and the served name are left out.

    Args:
        folder: Checkpoint folder.
        config: The guard's settings.
        alphabet: Replacement alphabet, shape (V,).
        dtype: Number type in use, e.g. ``float32``.
        device: Kind of device in use, ``cpu`` or ``cuda``.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.
    """
    prompt = config.model_dump(include={"user_template", "unsafe_tokens", "safe_tokens", "filler_token", "mask_token"})
    space = config.model_dump(include={"tiles", "noise_height", "noise_width"})
    rules = config.model_dump(include=_RULES, exclude_defaults=True)
    return digest(
        [
            *weights_and_files(folder),
            ("policy", policy_text(config.policy).encode()),
            ("prompt", json.dumps(prompt, sort_keys=True).encode()),
            ("alphabet", alphabet.astype("<i8").tobytes()),
            ("computation", json.dumps(space | {"dtype": dtype, "device": device}, sort_keys=True).encode()),
            *([("rules", json.dumps(rules, sort_keys=True).encode())] if rules else []),
        ]
    )


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
