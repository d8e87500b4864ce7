"""What a worker does for a job, whatever kind of model it asks: one object a kind, and what is the same for all."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from holdfast.contract.models import Cost
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.jobs import JobInput, JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.registry import Model
from holdfast_worker.sampling.cost import measured_cost
from holdfast_worker.sampling.features import EncoderKind
from holdfast_worker.sampling.guard import GuardKind, example

_MOST_ORDERS = 64  # taken at once, so that no worker hoards what others could run


class Kind(Protocol):
    """One model and what is done with its kind; ``ready`` is what its own ``prepare`` made of a job."""

    @property
    def model(self) -> Model:
        """The model."""

    async def prepare(self, redis: AsyncRedis, record: JobRecord, given: JobInput) -> Any | None:
        """Makes a job's input ready for draws.

        Returns:
            The input, or ``None`` where the job has ended meanwhile.

        Raises:
            InputRefusedError: The input does not fit the model or the threat.
        """

    def run(self, batch: Sequence[tuple[Order, Any]]) -> list[Tally]:
        """Runs orders of any jobs together."""

    def room(self, order: Order, ready: Any) -> int:
        """Draws like an order's that one forward pass takes."""

    def warm_up(self) -> None:
        """Runs a real order at the model's defaults: one that cannot run it must not announce itself."""


def kind_of(model: Model) -> Kind:
    """The model with what is done with its kind."""
    return EncoderKind(model) if isinstance(model, Encoder) else GuardKind(model)


def by_fingerprint(models: Iterable[Model]) -> dict[str, Kind]:
    """The models that take orders; names that mean the same model share its orders."""
    return {model.fingerprint: kind_of(model) for model in models}


def measure(kind: Kind, known: dict[str, Cost]) -> None:
    """Measures what a guard's draws cost here; names that mean the same model have the cost of the first.

    Args:
        kind: A model, warm.
        known: Costs by fingerprint, those that were measured before; this model's is added.
    """
    if not isinstance(kind, GuardKind):
        return
    guard = kind.model
    if guard.fingerprint not in known:
        known[guard.fingerprint] = measured_cost(guard, example(guard, 0))
    guard.cost = known[guard.fingerprint]


def is_lost(kind: Kind) -> bool:
    """Whether the engine behind the model has died, so that it answers nothing before ``restore``."""
    return kind.model.engine is not None and kind.model.engine.lost


def restore(kind: Kind) -> None:
    """Starts a lost model's engine again and runs a real order.

    Raises:
        ModelError: It does not start, or died of that order.
    """
    if kind.model.engine is not None:
        kind.model.engine.start()
        kind.warm_up()


def orders_to_fill(kind: Kind, batch: Sequence[tuple[Order, Any]]) -> int:
    """Orders like these that fill one forward pass of the model, by the limit that its memory has taught it."""
    draws = sum(order.draws for order, _ in batch) / len(batch)
    return max(1, min(_MOST_ORDERS, int(min(kind.room(order, ready) for order, ready in batch) // draws)))
