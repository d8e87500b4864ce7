"""What every guard does, whatever runs it: inputs made ready, noise written over them, draws voted on."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast.contract.guard.spec import Cell, GuardSpec
from holdfast.contract.models import Cost, GuardInfo
from holdfast.queue.jobs import JobInput
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.vllm.engine import Engine


class GuardSettings(Protocol):
    """What is read of any guard's settings."""

    @property
    def name(self) -> str:
        """Name under which the API serves the guard."""

    @property
    def kind(self) -> str:
        """What it is; the loader and the settings of a folder go by it."""


class GuardInputs(Protocol):
    """The input side of a guard."""

    @property
    def closing(self) -> int:
        """Positions of a tail behind its slots."""

    def prepare_job(self, spec: GuardSpec, given: JobInput) -> PreparedInput:
        """Prepares a job's input for the threat that its spec names.

        Raises:
            InputRefusedError: The input does not fit the guard or the threat.
        """

    def noised(
        self, spec: GuardSpec, base: NDArray[np.int64], cells: Sequence[Cell], *, seed: str, start: int, stop: int
    ) -> NDArray[np.int64]:
        """Draws a job's token noise and writes it over slots.

        Args:
            spec: What is certified; it names the kernel and how many tails a draw has.
            base: A prepared input's ``tail_base``, or the first slots of it, shape (slots,).
            cells: What the tails of each cell have in common; otherwise they are the same tails.
            seed: The job's secret seed.
            start: First draw index.
            stop: One past the last draw index.

        Returns:
            Shape (draws, tails, cells, slots): the spec's r tails of a draw are independent of each other.
        """

    def example(self, index: int) -> JobInput:
        """One of some inputs that are fixed: what the guard is warmed up and examined on."""


class Guard(Protocol):
    """What votes on draws; one thread at a time may call it.

    Attributes:
        cost: What a draw costs here; None until it was measured.
    """

    cost: Cost | None

    @property
    def config(self) -> GuardSettings:
        """The guard's settings."""

    @property
    def fingerprint(self) -> str:
        """Name of exactly this base classifier."""

    @property
    def info(self) -> GuardInfo:
        """The guard as the API describes it, with what its draws cost once that was measured."""

    @property
    def inputs(self) -> GuardInputs:
        """What prepares inputs."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def dtype(self) -> torch.dtype:
        """Number type of weights and activations."""

    @property
    def engine(self) -> Engine | None:
        """What runs its language model outside this process, and may die there; None: nothing does."""

    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        """The log-odds of Unsafe against Safe of the draws of any jobs; above 0 is Unsafe, a tie is Safe.

        Margins move with the shape of a batch, by no more than ``info.tie_band`` as is assumed: a vote that close to a
        tie may fall either way when it is redone in other company.

        Args:
            batch: Ranges of draws, in any mixture of jobs and shapes.

        Returns:
            For each range shape (draws, tails, cells).

        Raises:
            ModelOutputError: The model returned a number that is not finite.
            EngineLostError: The engine died; none of the draws is answered.
            torch.OutOfMemoryError: A single draw does not fit the device.
        """

    def room(self, prepared: PreparedInput, *, tails: int) -> int:
        """Draws of an input with so many tails, of all cells together, that one forward pass takes."""
