"""From an order to its tally: what is drawn for each threat, and what is counted.

Every image draw is scored by r independent tails in every cell (maths.md §10). Which cells there are and what each of
them means is the spec's to say: under the suffix threat cell k has k leading masked slots, under ``per_budget`` cell b
is the smoothed guard of b slots, and otherwise there is one cell of the kernel's own noise. The cells of one tail share
its randomness. What a draw turns out to be depends on the job's seed and the draw's index alone.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import packed
from holdfast.contract.guard.spec import GuardSpec
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.jobs import JobInput, JobRecord
from holdfast.queue.orders import Order, Tally, Votes
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.examples import SEED
from holdfast_worker.models.guard.announced import default_spec
from holdfast_worker.models.guard.voting import Guard


@dataclass(frozen=True, eq=False)
class Ready:
    """A job's input, ready for draws."""

    spec: GuardSpec
    seed: str
    prepared: PreparedInput


def prepare(guard: Guard, spec: GuardSpec, seed: str, given: JobInput) -> Ready:
    """Prepares an input for the threat that the spec names.

    Args:
        guard: The guard that will vote.
        spec: What is certified.
        seed: The job's secret seed.
        given: Text, suffix and the image as PNG, or fields.

    Raises:
        InputRefusedError: The input does not fit the guard or the threat.
    """
    return Ready(spec, seed, guard.inputs.prepare_job(spec, given))


def margins(guard: Guard, wanted: Sequence[tuple[Order, Ready]]) -> list[NDArray[np.float32]]:
    """Runs orders of any jobs of one guard together.

    Returns:
        For each order the log-odds of Unsafe, shape (draws, tails, cells); above 0 is Unsafe.
    """
    parts = [list(draws_of(guard, ready, order)) for order, ready in wanted]
    found = iter(guard.margins([draws for part in parts for draws in part]))
    return [np.concatenate([next(found) for _ in part], axis=2) for part in parts]


def tally(ready: Ready, order: Order, found: NDArray[np.float32]) -> Tally:
    """An order's votes, as planes."""
    unsafe, near_tie = votes_of(ready, found)
    return Tally(
        start=order.start,
        stop=order.stop,
        found=Votes(
            unsafe=packed(unsafe),
            near_tie=packed(near_tie) if near_tie.any() else None,
            positions=len(ready.prepared.tail_base) if ready.spec.masks_matter else 0,
        ),
    )


def votes_of(ready: Ready, found: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which margins are Unsafe, and which so near a tie that they count against whichever side claims."""
    return found > 0, np.abs(found.astype(np.float64)) <= ready.spec.tie_band


def draws_of(guard: Guard, ready: Ready, order: Order) -> Iterator[Draws]:
    """The draws of an order in the job's cells, in their order; several where cells have smoothed guards of their own.

    Every such guard has its own slots, and tails of its own over them; the image noise is the draw's in all.
    """
    spec, prepared = ready.spec, ready.prepared
    for slots, group in groupby(spec.cells, key=lambda cell: cell.slots):
        base, cells = prepared.tail_base[:slots] if spec.scope == "per_budget" else prepared.tail_base, list(group)
        if spec.text in ("none", "append"):
            tails = np.tile(base, (order.draws, spec.tails, len(cells), 1))
        else:
            tails = guard.inputs.noised(spec, base, cells, seed=ready.seed, start=order.start, stop=order.stop)
        yield Draws(replace(prepared, tail_base=base), ready.seed, spec.sigma, order.start, order.stop, tails)


def example(guard: Guard, index: int) -> Ready:
    """The guard's default request on one of its examples."""
    given = guard.inputs.example(index)
    return prepare(guard, default_spec(guard.info, given), SEED, given)


@dataclass(frozen=True, eq=False)
class GuardKind:
    """What a worker does with a guard; see ``Kind``."""

    model: Guard

    async def prepare(self, redis: AsyncRedis, record: JobRecord, given: JobInput) -> Ready:  # noqa: D102
        if not isinstance(record.spec, GuardSpec):
            raise TypeError(f"job {record.id} asks a guard for features, must ask for votes; name an encoder")
        return await asyncio.to_thread(prepare, self.model, record.spec, record.seed, given)

    def run(self, batch: Sequence[tuple[Order, Ready]]) -> list[Tally]:  # noqa: D102
        found = margins(self.model, batch)
        return [tally(ready, order, part) for (order, ready), part in zip(batch, found, strict=True)]

    def room(self, order: Order, ready: Ready) -> int:  # noqa: D102
        return self.model.room(ready.prepared, tails=ready.spec.draw_passes)

    def warm_up(self) -> None:  # noqa: D102
        self.run([(Order("warm-up", 0, 0, 4), example(self.model, 0))])
