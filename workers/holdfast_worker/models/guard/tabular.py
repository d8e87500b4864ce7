"""The tabular guard: a small network on categorical and numeric fields that says Safe or Unsafe.

Its input is the one-hot categorical fields, in the order of the fields, then the standardised numeric ones. Token noise
replaces categorical values, each within its own field; Gaussian noise goes onto the standardised numeric fields.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from holdfast.certificates import field_draws
from holdfast.certificates.noise.lattice import REACH
from holdfast.certificates.noise.version import SAMPLER
from holdfast.contract.guard.spec import Cell, GuardSpec
from holdfast.contract.models import Cost, GuardInfo, Limits, NoiseSpace
from holdfast.queue.jobs import JobInput
from holdfast_worker.gaussian import to_lattice
from holdfast_worker.models.batching import Batching
from holdfast_worker.models.draws import (
    Draws,
    PreparedInput,
    images_of_draws,
    margins_by_range,
    noisy_images,
    size,
    take,
)
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError
from holdfast_worker.models.folder import digest, weights_and_files
from holdfast_worker.models.guard.announced import default_spec, tie_band, with_cost, with_tails
from holdfast_worker.models.guard.config import TabularConfig
from holdfast_worker.models.weights import find_device, opened
from holdfast_worker.noise import kernel_of

WEIGHTS_FILE = "model.safetensors"
_PASSES = 8192  # of one run of the network: it is small, and its inputs are
_EVERY_NUMBER = (-sys.float_info.max, sys.float_info.max)

Layer = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class TabularInput:
    """The input side of a tabular guard.

    Attributes:
        config: The guard's settings.
        device: Where prepared inputs lie.
    """

    config: TabularConfig
    device: torch.device

    def info(self, fingerprint: str, cost: Cost | None = None) -> GuardInfo:
        """The guard of this fingerprint as the API describes it, with what its draws cost where that was measured."""
        config = self.config
        info = GuardInfo(
            name=config.name,
            kind="tabular",
            fingerprint=fingerprint,
            space=NoiseSpace(channels=1, height=1, width=len(config.numeric), range=_EVERY_NUMBER),
            alphabets=tuple(len(field.values) for field in config.categorical),
            fields=config.fields,
            defaults=config.defaults,
            limits=Limits(max_slots=0, max_text_bytes=1, max_tokens=len(config.categorical)),
            tie_band=tie_band(config.tie_band, _dtype(config)),
            false_flag=config.false_flag,
        )
        if "tails" not in config.defaults.model_fields_set:
            info = with_tails(info, 1)  # nothing is read once for all tails: another image draw costs what a tail does
        return with_cost(info, cost, default_spec(info, self.example(0)))

    @property
    def closing(self) -> int:
        """As ``GuardInputs.closing``: what a pass costs besides its fields counts as one of them."""
        return 1

    def example(self, index: int) -> JobInput:
        """As ``GuardInputs.example``: each field's values in turn, and the mean of every number."""
        numbers = iter(self.config.means)
        return JobInput(
            fields={
                field.name: field.values[index % len(field.values)] if field.values else next(numbers)
                for field in self.config.fields
            }
        )

    def noised(
        self, spec: GuardSpec, base: NDArray[np.int64], cells: Sequence[Cell], *, seed: str, start: int, stop: int
    ) -> NDArray[np.int64]:
        """As ``GuardInputs.noised``: every field by its own kernel, the same tails in every cell."""
        if any(cell.leading_masked or not cell.at_least for cell in cells):
            raise ValueError(f"cells {cells} must leave every field to the kernel; ask for the l0 threat")
        # The tails of a draw are as many rows of fields, one behind the other (``holdfast.certificates.tail_masks``).
        kernels = [kernel_of(spec.token_kernel, spec.beta, size) for size in spec.alphabets] * spec.tails
        noise = field_draws(kernels, seed=seed, start=start, stop=stop)
        codes = np.where(noise.masked, noise.replacement, np.tile(base, spec.tails))
        return codes.reshape(stop - start, spec.tails, 1, len(base)).repeat(len(cells), axis=2)

    def prepare_job(self, spec: GuardSpec, given: JobInput) -> PreparedInput:
        """As ``GuardInputs.prepare_job``."""
        return self.prepare(given.fields)

    def prepare(self, fields: Mapping[str, str | float]) -> PreparedInput:
        """Encodes an input: a value per field, text for a categorical one and a number for the others.

        Raises:
            InputRefusedError: A field is missing, unknown, or has a value that is none of its own.
        """
        if len(fields) != len(self.config.fields) or not all(field.name in fields for field in self.config.fields):
            names = ", ".join(field.name for field in self.config.fields)
            raise InputRefusedError(f"the {len(fields)} fields given must be exactly: {names}; correct them")
        codes = [_code(field.name, field.values, fields[field.name]) for field in self.config.categorical]
        numbers = [_number(field.name, fields[field.name]) for field in self.config.numeric]
        means, stds = np.array(self.config.means), np.array(self.config.stds)
        with np.errstate(over="ignore"):
            standard = (np.array(numbers) - means) / stds
        if not (np.abs(standard) <= np.finfo(np.float32).max).all():
            raise InputRefusedError("a numeric field is too large to be standardised in float32; correct it")
        # Float32 has all of the lattice within these limits, and what lies beyond is clipped with its noise anyway.
        limited = torch.from_numpy(standard).clamp_(-2 * REACH, 2 * REACH)
        return PreparedInput(
            clean=to_lattice(limited).float().to(self.device)[None, None],
            prefix=torch.empty(0, dtype=torch.int64, device=self.device),
            tail_base=np.array(codes, dtype=np.int64),
        )


class TabularGuard:
    """A loaded tabular guard; see ``Guard``.

    Attributes:
        config: The guard's settings.
        fingerprint: Name of exactly this base classifier.
        device: Where it runs.
        dtype: Number type of weights and activations.
        inputs: What encodes fields.
        batching: How many passes, tails of all draws, one run of the network holds.
        cost: What a draw costs here, once it was measured.
        engine: None: everything runs in this process.
    """

    engine = None
    cost: Cost | None = None

    def __init__(self, layers: Sequence[Layer], *, config: TabularConfig, fingerprint: str) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.device = layers[0][0].device
        self.dtype = layers[0][0].dtype
        self.inputs = TabularInput(config, self.device)
        self.batching = Batching(_PASSES)
        self._layers = layers
        sizes = [len(field.values) for field in config.categorical]
        self._one_hot = sum(sizes)
        self._first = torch.tensor([0, *sizes[:-1]], device=self.device).cumsum(0)

    @property
    def info(self) -> GuardInfo:
        """The guard as the API describes it."""
        return self.inputs.info(self.fingerprint, self.cost)

    def room(self, prepared: PreparedInput, *, tails: int) -> int:
        """As ``Guard.room``."""
        return self.batching.room(tails)

    @torch.inference_mode()
    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        """As ``Guard.margins``: the network's logits."""
        if not batch:
            return []
        most = max(draws.draw_passes for draws in batch)
        found = list(self.batching.parts(list(batch), self._logits, size=size, cut=take, units=most))
        return margins_by_range(batch, torch.cat(found).cpu().numpy(), exact="float64")

    def _logits(self, batch: list[Draws]) -> Tensor:
        hidden = torch.cat([self._encoded(draws) for draws in batch]).to(self.dtype)
        for index, (weight, bias) in enumerate(self._layers):
            hidden = functional.linear(functional.relu(hidden) if index else hidden, weight, bias)
        return hidden[:, 0].float()

    def _encoded(self, draws: Draws) -> Tensor:
        """The network's input for every draw, tail and cell, shape (passes, one-hot and numeric)."""
        codes = torch.as_tensor(draws.tails, device=self.device).flatten(0, 2) + self._first
        one_hot = torch.zeros(len(codes), self._one_hot, device=self.device).scatter_(1, codes, 1.0)
        numeric = noisy_images(draws).flatten(1)[images_of_draws([draws]).to(self.device)]
        return torch.cat((one_hot, numeric.repeat_interleave(draws.draw_passes, dim=0)), dim=1)


def _dtype(config: TabularConfig) -> torch.dtype:
    return torch.float64 if config.dtype == "float64" else torch.float32


def _code(name: str, values: tuple[str, ...], given: str | float) -> int:
    if given not in values:
        raise InputRefusedError(f"field {name} must be one of its {len(values)} values; see the model's fields")
    return values.index(str(given))


def _number(name: str, given: str | float) -> float:
    if isinstance(given, str | bool) or not math.isfinite(given):
        raise InputRefusedError(f"field {name} must be a finite number; correct it")
    return float(given)


def load_tabular(folder: Path, config: TabularConfig) -> TabularGuard:
    """Loads a tabular guard from ``model.safetensors``: ``layers.0.weight``, ``layers.0.bias``, and so on.

    Linear layers with ReLU between them; the last has one output, Unsafe above 0. One layer is a linear model.

    Args:
        folder: The guard's folder.
        config: Its settings.

    Raises:
        ModelConfigError: The folder or the settings cannot be served; the message says what to change.
    """
    device = find_device(config.device)
    dtype = _dtype(config)
    width = sum(len(field.values) for field in config.categorical) + len(config.numeric)
    layers = [(w.to(device, dtype), b.to(device, dtype)) for w, b in _layers(folder / WEIGHTS_FILE, width)]
    inputs = config.model_dump(include={"fields", "means", "stds"})
    computation = {"dtype": config.dtype, "sampler": SAMPLER}
    name = digest(
        [
            *((file, content) for file, content in weights_and_files(folder) if file == WEIGHTS_FILE),
            ("inputs", json.dumps(inputs, sort_keys=True).encode()),
            ("computation", json.dumps(computation, sort_keys=True).encode()),
        ]
    )
    return TabularGuard(layers, config=config, fingerprint=name)


def _layers(path: Path, width: int) -> list[Layer]:
    with opened(path) as file:
        names = file.keys()
        stored: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    count = len(stored) // 2
    wanted = {f"layers.{index}.{part}" for index in range(count) for part in ("weight", "bias")}
    if not stored or set(stored) != wanted:
        raise ModelConfigError(
            f"{path} holds {len(stored)} tensors, must hold layers.0.weight, layers.0.bias and so on; rename them"
        )
    layers = [(stored[f"layers.{index}.weight"], stored[f"layers.{index}.bias"]) for index in range(count)]
    for index, (weight, bias) in enumerate(layers):
        rows = 1 if index == count - 1 else len(bias)
        if weight.shape != (rows, width) or bias.shape != (rows,) or not rows:
            raise ModelConfigError(
                f"layers.{index} has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}, must have"
                f" {(rows, width)} and {(rows,)}; correct the fields or the weights"
            )
        if not (weight.isfinite().all() and bias.isfinite().all()):
            raise ModelConfigError(f"layers.{index} has a number that is not finite, all must be; save it again")
        width = rows
    return layers
