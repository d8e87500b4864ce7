"""What every fingerprint is made of: digests of a folder's files, and of all else that its results depend on."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from holdfast_worker.models.folder import CONFIG_FILE

__all__ = ["digest", "weights_and_files"]

_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")


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
