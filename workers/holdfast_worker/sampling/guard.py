"""From an order to its tally: what is drawn for each threat, and what is counted.

Which cells there are and what each of them means is the spec's to say (maths.md §5): under the suffix threat cell k has
k leading masked slots, under ``per_budget`` cell b is the smoothed guard of b slots, and otherwise there is one cell of
natural noise. What a draw turns out to be depends on the job's seed and the draw's index alone.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from holdfast.contract.base import ImageData
from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.jobs import JobInput, JobRecord
from holdfast.queue.orders import Order, Tally, Votes
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.examples import SEED
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
        For each order the log-odds of Unsafe, shape (draws, cells); above 0 is Unsafe.
    """
    parts = [list(draws_of(guard, ready, order)) for order, ready in wanted]
    found = iter(guard.margins([draws for part in parts for draws in part]))
    return [np.concatenate([next(found) for _ in part], axis=1) for part in parts]


def tally(ready: Ready, order: Order, found: NDArray[np.float32]) -> Tally:
    """Counts an order's margins: Unsafe draws per cell and, where each draw's mask matters, every outcome."""
    unsafe, masks_matter = found > 0, ready.spec.masks_matter
    return Tally(
        start=order.start,
        stop=order.stop,
        found=Votes(
            cells=cells_of(order),
            unsafe=tuple(map(int, unsafe.sum(axis=0))),
            outcomes=np.packbits(unsafe[:, 0]).tobytes().hex() if masks_matter else None,
            positions=len(ready.prepared.tail_base) if masks_matter else 0,
        ),
    )


def cells_of(order: Order) -> tuple[int, ...]:
    """The cells that an order asks for.

    Raises:
        ValueError: It names none, as for an encoder.
    """
    if order.cells is None:
        raise ValueError(f"order {order.index} has no cells, must name those of a guard; issue orders for that")
    return order.cells


def draws_of(guard: Guard, ready: Ready, order: Order) -> Iterator[Draws]:
    """The draws of an order in its cells, in the order of its cells; several where cells have guards of their own."""
    spec, prepared, every, asked = ready.spec, ready.prepared, ready.spec.cells, cells_of(order)
    if max(asked) >= len(every):
        raise ValueError(f"cell {max(asked)} must be at most {len(every) - 1}, the last of this job")
    for slots, group in groupby((every[index] for index in asked), key=lambda cell: cell.slots):
        base, cells = prepared.tail_base[:slots] if spec.scope == "per_budget" else prepared.tail_base, list(group)
        if spec.text == "none":
            tails = np.tile(base, (order.stop - order.start, len(cells), 1))
        else:
            tails = guard.inputs.noised(spec, base, cells, seed=ready.seed, start=order.start, stop=order.stop)
        yield Draws(replace(prepared, tail_base=base), ready.seed, spec.sigma, order.start, order.stop, tails)


def example(guard: Guard, index: int) -> Ready:
    """The guard's default request on one of its examples."""
    info, given = guard.info, guard.inputs.example(index)
    asked = Input(fields=given.fields) if given.fields else Input(text=given.text, image=ImageData(data="given"))
    spec = resolve(CertificationRequest(model=info.name, input=asked), info)
    return prepare(guard, spec, SEED, given)


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
        return self.model.room(ready.prepared, cells=len(cells_of(order)))

    def warm_up(self) -> None:  # noqa: D102
        ready = example(self.model, 0)
        self.run([(Order("warm-up", 0, 0, 4, tuple(range(len(ready.spec.cells)))), ready)])
