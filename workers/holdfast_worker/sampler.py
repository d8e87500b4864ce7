"""The worker's loop: take orders across jobs, batch, run, report.

What a draw turns out to be depends only on the job's seed and the draw's index (`drawing`), so an order that is run
twice, here or elsewhere, gives the same tally.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from redis.exceptions import RedisError

from holdfast.contract.problems import InputRefusedError
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast.queue.orders import Delivery, Tally
from holdfast_worker import drawing
from holdfast_worker.drawing import Ready
from holdfast_worker.models import errors, registry
from holdfast_worker.models.registry import Guard
from holdfast_worker.settings import WorkerSettings

__all__ = ["Worker", "run", "serve"]

_log = logging.getLogger(__name__)
_EMPTY_PAUSE_S = 0.02
_REDIS_PAUSE_S = 1.0
_INPUTS_KEPT = 64


@dataclass
class Worker:
    """A worker's identity, its guards by fingerprint, and the inputs it has lately prepared."""

    settings: WorkerSettings
    guards: dict[str, Guard]
    id: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    inputs: OrderedDict[str, Ready] = field(default_factory=OrderedDict)


async def serve(broker: Broker) -> None:
    """Loads the guards, runs a real pass through each, then takes orders until cancelled."""
    settings = WorkerSettings()
    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
    guards = await asyncio.to_thread(_load, settings)
    worker = Worker(settings, guards)
    async with broker.client() as redis:
        await _until_reachable(redis, worker)
        with Heartbeat(broker, worker.id, [guard.info for guard in guards.values()]):
            _log.info("worker ready", extra={"worker": worker.id, "models": list(settings.models)})
            await run(redis, worker)


def _load(settings: WorkerSettings) -> dict[str, Guard]:
    guards = {}
    for name in settings.models:
        guard = registry.load_served(name, settings.guards)
        drawing.warm_up(guard)
        guards[guard.fingerprint] = guard
    return guards


async def _until_reachable(redis: AsyncRedis, worker: Worker) -> None:
    while True:
        try:
            return await orders.open_streams(redis, worker.guards)
        except RedisError as error:
            _log.warning("the queue cannot be reached, will try again: %s", error)
            await asyncio.sleep(_REDIS_PAUSE_S)


async def run(redis: AsyncRedis, worker: Worker) -> None:
    """Takes and runs orders until cancelled; what it had taken by then passes to other workers with its lease."""
    loop = asyncio.get_running_loop()
    claimed_at = loop.time()
    while True:
        try:
            taken = []
            if loop.time() - claimed_at >= worker.settings.claim_every_s:
                taken = await _claim(redis, worker)
                claimed_at = loop.time()
            taken = taken or await _take(redis, worker)
            for fingerprint, guard in worker.guards.items():
                mine = [delivery for delivery in taken if delivery.stream == keys.orders(fingerprint)]
                await _run_orders(redis, worker, guard, mine)
        except RedisError as error:
            _log.warning("the queue cannot be reached, will try again: %s", error)
            await asyncio.sleep(_REDIS_PAUSE_S)
            await _until_reachable(redis, worker)


async def _take(redis: AsyncRedis, worker: Worker) -> list[Delivery]:
    """Waits for an order, then up to `linger_s` for a fuller batch."""
    names, wanted = list(worker.guards), worker.settings.batch_orders
    taken = await orders.take(redis, names, worker.id, count=wanted, block_ms=500)
    if not taken:
        await asyncio.sleep(_EMPTY_PAUSE_S)
    elif len(taken) < wanted and worker.settings.linger_s > 0:
        await asyncio.sleep(worker.settings.linger_s)
        taken += await orders.take(redis, names, worker.id, count=wanted - len(taken), block_ms=None)
    return taken


async def _claim(redis: AsyncRedis, worker: Worker) -> list[Delivery]:
    claimed = []
    for fingerprint in worker.guards:
        claimed += await orders.claim_abandoned(redis, fingerprint, worker.id, retention_s=worker.settings.retention_s)
    if claimed:
        _log.warning("took over orders that no live worker was running", extra={"orders": len(claimed)})
    return claimed


async def _run_orders(redis: AsyncRedis, worker: Worker, guard: Guard, deliveries: Sequence[Delivery]) -> None:
    wanted = []
    for delivery in deliveries:
        ready = await _input(redis, worker, guard, delivery.order.job_id)
        if ready is None:
            await orders.drop(redis, delivery)
        else:
            wanted.append((delivery, ready))
    if not wanted:
        return
    try:
        tallies = await asyncio.to_thread(_tallies, guard, wanted)
    except Exception as error:
        if len(wanted) > 1:  # one bad order must not fail the others that happened to share its batch
            for delivery, _ in wanted:
                await _run_orders(redis, worker, guard, [delivery])
            return
        _log.exception("an order failed", extra={"job": wanted[0][0].order.job_id})
        reason = type(error).__name__
        await orders.retry(redis, wanted[0][0], reason=reason, retention_s=worker.settings.retention_s)
        return
    for (delivery, _), tally in zip(wanted, tallies, strict=True):
        await orders.complete(redis, delivery, tally)


async def _input(redis: AsyncRedis, worker: Worker, guard: Guard, job_id: str) -> Ready | None:
    """The job's prepared input, or None where the job has ended, by the guard's refusal perhaps."""
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
        ready = await asyncio.to_thread(drawing.prepare, guard, record.spec, record.seed, given)
    except errors.InputRefusedError as error:
        problem = InputRefusedError(str(error)).problem()
        await jobs.finish(redis, job_id, "failed", retention_s=worker.settings.retention_s, problem=problem)
        return None
    worker.inputs[job_id] = ready
    while len(worker.inputs) > _INPUTS_KEPT:
        worker.inputs.popitem(last=False)
    return ready


def _tallies(guard: Guard, wanted: Sequence[tuple[Delivery, Ready]]) -> list[Tally]:
    batch = [(delivery.order, ready) for delivery, ready in wanted]
    found = drawing.margins(guard, batch)
    return [drawing.tally(ready, order, margins) for (order, ready), margins in zip(batch, found, strict=True)]
