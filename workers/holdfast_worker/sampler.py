"""The worker's loop: take orders across jobs, batch, run, report.

What a draw turns out to be depends only on the job's seed and the draw's index (`sampling`), so an order
that is run twice, here or elsewhere, gives the same tally.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from redis.exceptions import RedisError

from holdfast.contract.models import Cost, EncoderInfo, GuardInfo
from holdfast.contract.problems import InputRefusedError
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast.queue.orders import Delivery
from holdfast_worker.models import errors, registry
from holdfast_worker.sampling import kinds
from holdfast_worker.sampling.kinds import Kind
from holdfast_worker.settings import WorkerSettings

_log = logging.getLogger(__name__)
_EMPTY_PAUSE_S = 0.02
_REDIS_PAUSE_S = 1.0
_INPUTS_KEPT = 64
_FIRST = 2  # orders taken together before any was run
_RESTORE_TRIES = 3
_RESTORE_PAUSE_S = 2.0


@dataclass
class Worker:
    """A worker's identity, its models by fingerprint, the inputs it has lately made ready, and its lease, if any.

    `infos` has one description for each name that is served, `fill` for each model the orders, like those that it ran
    last, that fill one forward pass.
    """

    settings: WorkerSettings
    models: dict[str, Kind]
    id: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    inputs: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    heartbeat: Heartbeat | None = None
    infos: tuple[GuardInfo | EncoderInfo, ...] = ()
    fill: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.infos = self.infos or tuple(kind.model.info for kind in self.models.values())


async def serve(broker: Broker, settings: WorkerSettings, worker_id: str, heartbeat: Heartbeat) -> None:
    """Loads the models, runs real passes through each, then takes orders until cancelled."""
    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
    served = await asyncio.to_thread(_load, settings, heartbeat)
    infos = tuple(model.info for model in served)
    worker = Worker(settings, kinds.by_fingerprint(served), id=worker_id, heartbeat=heartbeat, infos=infos)
    async with broker.client() as redis:
        await _until_reachable(redis, worker)
        await _announce(worker)
        _log.info("worker ready", extra={"worker": worker.id, "models": list(settings.models)})
        await run(redis, worker)


def _load(settings: WorkerSettings, heartbeat: Heartbeat) -> list[registry.Model]:
    """The models, one for each name; names that mean the same model share its orders."""
    served, costs = [], dict[str, Cost]()
    for at, name in enumerate(settings.models):
        heartbeat.announce((), loading=settings.models[at:])
        model = registry.load_served(name, settings.served)
        kind = kinds.kind_of(model)
        kind.warm_up()
        kinds.measure(kind, costs)
        served.append(model)
    registry.require_one_set_of_heads(served)
    return served


async def _until_reachable(redis: AsyncRedis, worker: Worker) -> None:
    while True:
        try:
            return await orders.open_streams(redis, worker.models)
        except RedisError as error:
            _log.warning("the queue cannot be reached, will try again: %s", error)
            await asyncio.sleep(_REDIS_PAUSE_S)


async def run(redis: AsyncRedis, worker: Worker) -> None:
    """Takes and runs orders until cancelled; what it had taken by then passes to other workers with its lease."""
    loop = asyncio.get_running_loop()
    claimed_at = loop.time()
    while True:
        await _restore_lost(worker)
        try:
            taken = []
            if loop.time() - claimed_at >= worker.settings.claim_every_s:
                taken = await _claim(redis, worker)
                claimed_at = loop.time()
            taken = taken or await _take(redis, worker)
            for fingerprint, kind in worker.models.items():
                mine = [delivery for delivery in taken if delivery.stream == keys.orders(fingerprint)]
                await _run_orders(redis, worker, kind, mine)
        except RedisError as error:
            _log.warning("the queue cannot be reached, will try again: %s", error)
            await asyncio.sleep(_REDIS_PAUSE_S)
            await _until_reachable(redis, worker)


async def _take(redis: AsyncRedis, worker: Worker) -> list[Delivery]:
    """Waits for an order, then up to `linger_s` for a fuller batch."""
    names, wanted = list(worker.models), worker.settings.batch_orders or max(worker.fill.values(), default=_FIRST)
    taken = await orders.take(redis, names, worker.id, count=wanted, block_ms=500)
    if not taken:
        await asyncio.sleep(_EMPTY_PAUSE_S)
    elif len(taken) < wanted and worker.settings.linger_s > 0:
        await asyncio.sleep(worker.settings.linger_s)
        taken += await orders.take(redis, names, worker.id, count=wanted - len(taken), block_ms=None)
    return taken


async def _claim(redis: AsyncRedis, worker: Worker) -> list[Delivery]:
    claimed = []
    for fingerprint in worker.models:
        claimed += await orders.claim_abandoned(redis, fingerprint, worker.id, retention_s=worker.settings.retention_s)
    if claimed:
        _log.warning("took over orders that no live worker was running", extra={"orders": len(claimed)})
    return claimed


async def _run_orders(redis: AsyncRedis, worker: Worker, kind: Kind, deliveries: Sequence[Delivery]) -> None:
    wanted = []
    for delivery in deliveries:
        try:
            ready = await _input(redis, worker, kind, delivery.order.job_id)
        except RedisError:
            raise
        except Exception as error:
            await _retry(redis, worker, delivery, error)
            continue
        if ready is None:
            await orders.drop(redis, delivery)
        else:
            wanted.append((delivery, ready))
    if wanted:
        await _run_ready(redis, worker, kind, wanted)


async def _restore_lost(worker: Worker) -> None:
    """Starts engines again that have died; until they run, their models are not announced.

    Raises:
        ModelError: One does not start; the worker ends with it, and its orders pass to others.
    """
    if not any(map(kinds.is_lost, worker.models.values())):
        return
    await _announce(worker)
    for kind in worker.models.values():
        for tries_left in reversed(range(_RESTORE_TRIES)):
            if not kinds.is_lost(kind):
                break
            _log.error("an engine died and is started again", extra={"model": kind.model.info.name})
            try:
                await asyncio.to_thread(kinds.restore, kind)
            except errors.ModelError:
                if not tries_left:
                    raise
                await asyncio.sleep(_RESTORE_PAUSE_S)
    await _announce(worker)


async def _announce(worker: Worker) -> None:
    """Says what is served: every name whose model can run orders now; the others are being loaded again."""
    if worker.heartbeat is not None:
        lost = [info for info in worker.infos if kinds.is_lost(worker.models[info.fingerprint])]
        alive = [info for info in worker.infos if info not in lost]
        await asyncio.to_thread(worker.heartbeat.announce, alive, loading=[info.name for info in lost])


async def _run_ready(redis: AsyncRedis, worker: Worker, kind: Kind, wanted: Sequence[tuple[Delivery, Any]]) -> None:
    await _restore_lost(worker)
    try:
        batch = [(delivery.order, ready) for delivery, ready in wanted]
        tallies = await asyncio.to_thread(kind.run, batch)
    except Exception as error:
        if len(wanted) == 1:
            await _retry(redis, worker, wanted[0][0], error)
            return
        for one in wanted:  # one bad order must not fail the others that happened to share its batch
            await _run_ready(redis, worker, kind, [one])
        return
    worker.fill[kind.model.fingerprint] = kinds.orders_to_fill(kind, batch)
    for (delivery, _), tally in zip(wanted, tallies, strict=True):
        await orders.complete(redis, delivery, tally)


async def _retry(redis: AsyncRedis, worker: Worker, delivery: Delivery, error: Exception) -> None:
    _log.error("an order failed", exc_info=error, extra={"job": delivery.order.job_id})
    await orders.retry(redis, delivery, reason=type(error).__name__, retention_s=worker.settings.retention_s)


async def _input(redis: AsyncRedis, worker: Worker, kind: Kind, job_id: str) -> Any | None:
    """The job's input, made ready, or None where the job has ended, by the model's refusal perhaps."""
    if not await jobs.is_open(redis, job_id):
        worker.inputs.pop(job_id, None)
        return None
    if job_id in worker.inputs:
        worker.inputs.move_to_end(job_id)
        return worker.inputs[job_id]
    record, given = await jobs.read(redis, job_id), await jobs.read_input(redis, job_id)
    if record is None or given is None:
        return None
    try:
        ready = await kind.prepare(redis, record, given)
    except errors.InputRefusedError as error:
        problem = InputRefusedError(str(error)).problem()
        await jobs.finish(redis, job_id, "failed", retention_s=worker.settings.retention_s, problem=problem)
        return None
    if ready is not None:
        worker.inputs[job_id] = ready
    while len(worker.inputs) > _INPUTS_KEPT:
        worker.inputs.popitem(last=False)
    return ready
