"""Guards by name: what ships with the worker, and any checkpoint folder."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from holdfast_worker.models.config import load_config
from holdfast_worker.models.errors import GuardConfigError
from holdfast_worker.models.llava import LlavaGuard
from holdfast_worker.models.loading import load_guard

__all__ = ["PACKAGED", "load"]

PACKAGED = {"reference-guard": "reference_guard"}
"""Name of a guard that ships with the worker → its folder beside this module."""


def load(folder_or_name: str | Path, overrides: Mapping[str, Any]) -> LlavaGuard:
    """Loads a guard.

    Args:
        folder_or_name: A name in ``PACKAGED``, or a checkpoint folder.
        overrides: Fields of ``GuardConfig`` laid over the folder's ``holdfast.json``.

    Raises:
        GuardConfigError: There is no such guard, or it cannot be served.
    """
    packaged = PACKAGED.get(str(folder_or_name))
    if packaged is not None:
        with resources.as_file(resources.files(__package__) / packaged) as folder:
            return load_guard(folder, load_config(folder, overrides))
    folder = Path(folder_or_name)
    if not folder.is_dir():
        raise GuardConfigError(
            f"guard {str(folder_or_name)!r} must be one of {sorted(PACKAGED)} or an existing folder; correct the name"
        )
    return load_guard(folder, load_config(folder, overrides))
