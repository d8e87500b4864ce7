"""What a worker does for a job of either kind: warm its model up, make its input ready, run its orders."""

import asyncio
from collections.abc import Sequence

from holdfast.contract.features.spec import FeatureSpec
from holdfast.contract.guard.spec import GuardSpec
from holdfast.queue import jobs
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.jobs import JobInput, JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast.queue.settled import Settled
from holdfast_worker.models.draws import PreparedInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.tabular import TabularGuard
from holdfast_worker.models.registry import Model
from holdfast_worker.models.vllm.guard import VllmGuard
from holdfast_worker.sampling import features as encoding
from holdfast_worker.sampling import guard as drawing
from holdfast_worker.sampling.features import ReadyFeatures

__all__ = ["Ready", "is_lost", "make_ready", "orders_to_fill", "restore", "tallies", "warm_up"]

Ready = drawing.Ready | ReadyFeatures

_MOST_ORDERS = 64  # taken at once, so that no worker hoards what others could run
_TABULAR_DRAWS = 1024  # a tabular guard's passes cost next to nothing


def warm_up(model: Model) -> None:
    """Runs a real order at the model's defaults: one that cannot run it must not announce itself."""
    if isinstance(model, Encoder):
        encoding.warm_up(model)
    else:
        drawing.warm_up(model)


def is_lost(model: Model) -> bool:
    """Whether the engine behind the model has died, so that it answers nothing before ``restore``."""
    return isinstance(model, VllmGuard) and model.lost


def restore(model: Model) -> None:
    """Starts a lost model's engine again and runs a real order.

    Raises:
        ModelError: It does not start, or died of that order.
    """
    if isinstance(model, VllmGuard):
        model.restore()
        warm_up(model)


async def make_ready(redis: AsyncRedis, model: Model, record: JobRecord, given: JobInput) -> Ready | None:
    """Prepares a job's input for draws; for an encoder also finds what is settled, or settles it for all workers.

    Returns:
        The input, or ``None`` where the job has ended meanwhile.

    Raises:
        InputRefusedError: The input does not fit the model or the threat.
    """
    match model, record.spec:
        case Encoder() as encoder, FeatureSpec() as spec:
            prepared = await asyncio.to_thread(encoding.prepare_features, encoder, spec, given)
            settled = await _settled(redis, encoder, spec, record, prepared)
            return None if settled is None else ReadyFeatures(spec, record.seed, prepared, settled)
        case (LlavaGuard() | VllmGuard() | TabularGuard()) as guard, GuardSpec() as spec:
            return await asyncio.to_thread(drawing.prepare, guard, spec, record.seed, given)
    raise TypeError(f"job {record.id} asks a {type(model).__name__} for what only the other kind of model does")


async def _settled(
    redis: AsyncRedis, encoder: Encoder, spec: FeatureSpec, record: JobRecord, prepared: PreparedInput
) -> Settled | None:
    fields = await jobs.read_settled(redis, record.id)
    if not fields:
        found = await asyncio.to_thread(encoding.settle, encoder, spec, record.seed, prepared)
        # Another worker may have been first, and on another device its floats differ: what the queue says counts.
        fields = await jobs.settle(redis, record.id, found.to_fields())
    return Settled.from_fields(fields) if fields else None


def tallies(model: Model, batch: Sequence[tuple[Order, Ready]]) -> list[Tally]:
    """Runs orders of any jobs of one model together."""
    if isinstance(model, Encoder):
        return encoding.score(model, [(order, ready) for order, ready in batch if isinstance(ready, ReadyFeatures)])
    votes = [(order, ready) for order, ready in batch if isinstance(ready, drawing.Ready)]
    found = drawing.margins(model, votes)
    return [drawing.tally(ready, order, margins) for (order, ready), margins in zip(votes, found, strict=True)]


def orders_to_fill(model: Model, batch: Sequence[tuple[Order, Ready]]) -> int:
    """Orders like these that fill one forward pass of the model, by the limit that its memory has taught it."""
    draws = sum(order.stop - order.start for order, _ in batch) / len(batch)
    return max(1, min(_MOST_ORDERS, int(min(_room(model, order, ready) for order, ready in batch) // draws)))


def _room(model: Model, order: Order, ready: Ready) -> int:
    """Draws like an order's that one forward pass takes."""
    match model, ready:
        case LlavaGuard(), drawing.Ready():
            return model.batch_limit // model.positions(ready.prepared, cells=len(drawing.cells_of(order)))
        case VllmGuard(), drawing.Ready():
            return model.batch_limit // model.inputs.pixels.image_tokens
        case Encoder(), ReadyFeatures():
            return model.batch_limit
    return _TABULAR_DRAWS
