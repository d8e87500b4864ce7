"""What is examined, and loading it again in another number type, engine or layout."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from holdfast_worker.models import registry
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.registry import Model


@dataclass(frozen=True)
class Absent:
    """A way of computing that cannot be had here, and why."""

    why: str


@dataclass(frozen=True)
class Examined:
    """What is examined, and how thoroughly.

    Attributes:
        folder: A checkpoint folder, or the name of a model that ships with the worker.
        overrides: Fields of its configuration, its name among them.
        draws: Draws in all; every input gets an equal share.
        layouts: Whether the other layout of the prompt is compared as well.
    """

    folder: str | Path
    overrides: Mapping[str, Any]
    draws: int = 32
    layouts: bool = False

    def load(self, **changed: Any) -> Model:
        """Loads it with these fields changed.

        Raises:
            ModelConfigError: It cannot be served so.
        """
        return registry.load(self.folder, {**self.overrides, **changed})

    def try_load(self, **changed: Any) -> Model | Absent:
        """As ``load``, or why it cannot be had; what was loaded before is freed first where nobody holds it."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            return self.load(**changed)
        except torch.OutOfMemoryError:
            return Absent(f"with {', '.join(f'{k}={v}' for k, v in changed.items())} it does not fit the device")
        except ModelConfigError as error:
            return Absent(str(error))


def close(model: Model) -> None:
    """Ends what the model runs outside this process, if anything."""
    if model.engine is not None:
        model.engine.stop()
