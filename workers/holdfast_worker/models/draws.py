"""One prepared input, the ranges of its draws, and the margins of a guard on them, whatever guard it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast_worker.gaussian import noisy
from holdfast_worker.models.errors import ModelOutputError


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """One input on the device, ready for any number of draws.

    Attributes:
        clean: What Gaussian noise is added to, float32 on the lattice: the image in noise space, (3, height, width) in
            [0,1], or the standardised numeric fields, (1, 1, n); empty where a text stands alone.
        prefix: Token ids before the slots, image placeholders expanded, shape (P,); none in a tabular input.
        tail_base: What token noise is written over, shape (slots,): the clean slot tokens, or each categorical field's
            value as an index into its values.
    """

    clean: Tensor
    prefix: Tensor
    tail_base: NDArray[np.int64]

    @property
    def pictured(self) -> bool:
        """Whether there is anything to see."""
        return self.clean.numel() > 0


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws ``[start, stop)`` of one prepared input.

    Attributes:
        prepared: The input.
        seed: The job's secret seed; with the draw's index it fixes the Gaussian noise.
        sigma: Standard deviation of the Gaussian noise, at least 0.
        start: First draw index.
        stop: One past the last draw index.
        tails: Noised slots, shape (stop - start, tails, cells, slots).
    """

    prepared: PreparedInput
    seed: str
    sigma: float
    start: int
    stop: int
    tails: NDArray[np.int64]

    def __post_init__(self) -> None:
        shape = self.tails.shape
        if not 0 <= self.start < self.stop:
            raise ValueError(
                f"draws [{self.start}, {self.stop}) must satisfy 0 <= start < stop; ask for a nonempty range"
            )
        if len(shape) != 4 or shape[0] != self.stop - self.start or shape[3] != len(self.prepared.tail_base):
            raise ValueError(
                f"tails of shape {shape} must be (draws, tails, cells, slots) with {self.stop - self.start} draws and"
                f" {len(self.prepared.tail_base)} slots; build them by noised for this range"
            )

    @property
    def passes(self) -> int:
        """Verdicts that these draws give: one per draw, tail and cell."""
        return len(self.tails) * self.draw_passes

    @property
    def draw_passes(self) -> int:
        """Verdicts that each draw gives: one per tail and cell."""
        return int(self.tails.shape[1] * self.tails.shape[2])

    @property
    def images(self) -> int:
        """Different images among the draws: one per draw, or a single one where no noise is added."""
        return len(self.tails) if self.sigma else 1

    def part(self, start: int, stop: int) -> "Draws":
        """The draws at offsets ``[start, stop)`` of this range."""
        tails = self.tails[start:stop]
        return Draws(self.prepared, self.seed, self.sigma, self.start + start, self.start + stop, tails)


def noisy_images(draws: Draws) -> Tensor:
    """The different images of the draws, shape (``draws.images``, *shape of ``clean``); fresh memory."""
    clean = draws.prepared.clean
    if not draws.sigma:
        return clean[None].clone()
    return noisy(clean[None], sigma=draws.sigma, seed=draws.seed, start=draws.start, stop=draws.stop)


def images_of_draws(batch: list[Draws]) -> Tensor:
    """Which of the batch's images each of its draws sees, shape (draws,)."""
    sizes = torch.tensor([draws.images for draws in batch])
    first = sizes.cumsum(0) - sizes
    return torch.cat(
        [
            at + (torch.arange(len(draws.tails)) if draws.sigma else torch.zeros(len(draws.tails), dtype=torch.int64))
            for at, draws in zip(first, batch, strict=True)
        ]
    )


def size(batch: Sequence[Draws]) -> int:
    """Draws in a batch."""
    return sum(len(draws.tails) for draws in batch)


def take(pending: list[Draws], most: int) -> tuple[list[Draws], list[Draws]]:
    """Cuts off the first ``most`` draws.

    Returns:
        What was cut off, and the rest.
    """
    room = most
    for index, draws in enumerate(pending):
        if room == 0:
            return pending[:index], pending[index:]
        count = len(draws.tails)
        if count > room:
            rest = [draws.part(room, count), *pending[index + 1 :]]
            return [*pending[:index], draws.part(0, room)], rest
        room -= count
    return pending, []


def margins_by_range(batch: Sequence[Draws], values: NDArray[np.float32], *, exact: str) -> list[NDArray[np.float32]]:
    """Cuts a batch's margins, one behind the other, into its ranges.

    Args:
        batch: The ranges.
        values: Log-odds of Unsafe of every pass, shape (passes,).
        exact: The number type to use where they are no numbers.

    Returns:
        For each range shape (draws, tails, cells).

    Raises:
        ModelOutputError: One is not finite, which is no vote either way.
    """
    parts = np.split(finite(values, exact=exact), np.cumsum([draws.passes for draws in batch]))
    return [part.reshape(draws.tails.shape[:3]) for draws, part in zip(batch, parts, strict=False)]


def finite(values: NDArray[np.float32], *, exact: str) -> NDArray[np.float32]:
    """The margins themselves.

    Args:
        values: Log-odds of Unsafe, of any shape.
        exact: The number type to use where they are no numbers.

    Raises:
        ModelOutputError: One is not finite, which is no vote either way.
    """
    if bad := values.size - int(np.isfinite(values).sum()):
        raise ModelOutputError(
            f"{bad} of {values.size} margins are not finite, all must be; check the weights or use dtype={exact}"
        )
    return values
