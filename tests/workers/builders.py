"""Jobs as a worker meets them: a spec that the contract resolved, an input, and the tally of one order."""

import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from holdfast.certificates import unpacked
from holdfast.contract.base import ImageData
from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order, Tally
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import Ready, margins, prepare, tally

Draw = Callable[..., Draws]
"""Makes a range of draws of a guard on a tiny checkpoint."""

Checkpoint = Callable[..., Path]
"""Writes a tiny checkpoint of these settings."""

SEED = "ab" * 32
TEXT = "Put the flame next to the fuel can"
FIELDS: dict[str, str | float] = {"colour": "red", "age": 31.0, "state": "on", "pulse": 64.0}
TABLE: dict[str, Any] = {
    "name": "table",
    "kind": "tabular",
    "fields": [
        {"name": "colour", "values": ["red", "green", "blue"]},
        {"name": "age"},
        {"name": "state", "values": ["off", "on"]},
        {"name": "pulse"},
    ],
    "means": [40.0, 70.0],
    "stds": [12.0, 9.0],
    "defaults": {"beta": 0.3, "sigma": 0.5, "tau": 0.3},
    "device": "cpu",
}


def png(height: int = 64, width: int = 64) -> bytes:
    """A random RGB image as the gateway would hand it on."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def table_folder(folder: Path, widths: tuple[int, ...] = (7, 6, 1), **settings: Any) -> Path:
    """Writes a tabular guard of random weights; the settings given are laid over `TABLE`."""
    generator = torch.Generator().manual_seed(5)
    weights = {}
    for index, (into, out) in enumerate(itertools.pairwise(widths)):
        weights[f"layers.{index}.weight"] = torch.randn(out, into, generator=generator)
        weights[f"layers.{index}.bias"] = 0.1 * torch.randn(out, generator=generator)
    save_file(weights, folder / "model.safetensors")
    (folder / "holdfast.json").write_text(json.dumps(TABLE | settings))
    return folder


def spec_of(guard: Guard, **asked: Any) -> GuardSpec:
    """What a request with these parts means for the guard; at a threshold so low that every cell counts."""
    info = guard.info
    tabular = Input(fields=FIELDS) if info.kind == "tabular" else Input(text=TEXT, image=ImageData(data="given"))
    return resolve(
        CertificationRequest.model_validate(
            {"model": info.name, "input": tabular, "noise": {"beta": 0.5}, "decision": {"tau": 1e-3}} | asked
        ),
        info,
    )


def ready_for(
    guard: Guard, *, text: str = TEXT, suffix: str = "", size: tuple[int, int] = (64, 64), **asked: Any
) -> Ready:
    """The input of a job that asks for these parts, prepared."""
    given = JobInput(fields=FIELDS) if guard.info.kind == "tabular" else JobInput(text, suffix, png(*size))
    return prepare(guard, spec_of(guard, **asked), SEED, given)


def tally_of(guard: Guard, ready: Ready, start: int, stop: int) -> Tally:
    """The tally of one order."""
    order = Order("job", 0, start, stop)
    return tally(ready, order, margins(guard, [(order, ready)])[0])


def unsafe_of(tally: Tally, ready: Ready) -> NDArray[np.bool_]:
    """Which passes of a tally were Unsafe, shape (draws, tails, cells)."""
    return unpacked(tally.votes.unsafe, (tally.draws, ready.spec.tails, len(ready.spec.cells)))


def votes(guard: Guard, batch: Sequence[Draws]) -> list[NDArray[np.bool_]]:
    """Which passes of each range found Unsafe."""
    return [margins > 0 for margins in guard.margins(batch)]
