"""The worker's loop: take orders across jobs, batch, run, report.

What a draw turns out to be depends only on the job's seed and the draw's index, so an order that is run twice, here or
elsewhere, gives the same tally.
"""

import asyncio
import io
import logging
import os
import secrets
import socket
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from redis.exceptions import RedisError

from holdfast.certificates import AbsorbingKernel, TokenKernel, UniformKernel, suffix_draws
from holdfast.contract.models import ModelInfo
from holdfast.contract.problems import InputRefusedError
from holdfast.contract.requests import CertificationSpec
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast.queue.orders import Delivery, Tally
from holdfast_worker.models import errors, registry
from holdfast_worker.models.llava import Draws, LlavaGuard, PreparedInput
from holdfast_worker.noise import replace_tokens
from holdfast_worker.settings import WorkerSettings

__all__ = ["Worker", "model_info", "run", "serve", "warm_up"]

_log = logging.getLogger(__name__)
_EMPTY_PAUSE_S = 0.02
_REDIS_PAUSE_S = 1.0
_INPUTS_KEPT = 64


@dataclass(frozen=True)
class _Input:
    """A job's input, ready for draws."""

    spec: CertificationSpec
    seed: str
    prepared: PreparedInput


@dataclass
class Worker:
    """A worker's identity, its guards by fingerprint, and the inputs it has lately prepared."""

    settings: WorkerSettings
    guards: dict[str, LlavaGuard]
    id: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
    inputs: OrderedDict[str, _Input] = field(default_factory=OrderedDict)


async def serve(broker: Broker) -> None:
    """Loads the guards, runs a real pass through each, then takes orders until cancelled."""
    settings = WorkerSettings()
    if settings.torch_threads is not None:
        torch.set_num_threads(settings.torch_threads)
    guards = await asyncio.to_thread(_load, settings)
    worker = Worker(settings, guards)
    async with broker.client() as redis:
        await _until_reachable(redis, worker)
        with Heartbeat(broker, worker.id, [model_info(guard) for guard in guards.values()]):
            _log.info("worker ready", extra={"worker": worker.id, "models": list(settings.models)})
            await run(redis, worker)


def _load(settings: WorkerSettings) -> dict[str, LlavaGuard]:
    guards = {}
    for name in settings.models:
        overrides = dict(settings.guards.get(name, {}))
        guard = registry.load(overrides.pop("folder", name), {**overrides, "name": name})
        warm_up(guard)
        guards[guard.fingerprint] = guard
    return guards


def warm_up(guard: LlavaGuard) -> None:
    """Runs real passes: a guard that cannot run them must not announce itself."""
    defaults, config = guard.config.defaults, guard.config
    blank = np.full((config.noise_height, config.noise_width, 3), 128, dtype=np.uint8)
    prepared = guard.prepare("warm up", "", blank, slots=defaults.slots)
    kernel = UniformKernel(defaults.beta, len(guard.alphabet))
    guard.votes([_draws(guard, prepared, kernel, "00" * 32, defaults.sigma, range(4), range(defaults.slots + 1))])


def model_info(guard: LlavaGuard) -> ModelInfo:
    """The guard as the API describes it."""
    config = guard.config
    return ModelInfo.model_validate(
        {
            "name": config.name,
            "fingerprint": guard.fingerprint,
            "space": {"channels": 3, "height": config.noise_height, "width": config.noise_width},
            "alphabet_size": len(guard.alphabet),
            "defaults": config.defaults.model_dump(),
            "limits": {
                "max_slots": config.max_slots,
                "max_text_bytes": config.max_text_bytes,
                "token_kernels": ("uniform",) if config.mask_token is None else ("uniform", "absorbing"),
            },
            "false_flag": config.false_flag,
        }
    )


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


async def _run_orders(redis: AsyncRedis, worker: Worker, guard: LlavaGuard, deliveries: Sequence[Delivery]) -> None:
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
        tallies = await asyncio.to_thread(_tally, guard, wanted)
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


async def _input(redis: AsyncRedis, worker: Worker, guard: LlavaGuard, job_id: str) -> _Input | None:
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
    text, suffix, png = given
    try:
        prepared = await asyncio.to_thread(lambda: guard.prepare(text, suffix, _decode(png), slots=record.spec.slots))
    except errors.InputRefusedError as error:
        problem = InputRefusedError(str(error)).problem()
        await jobs.finish(redis, job_id, "failed", retention_s=worker.settings.retention_s, problem=problem)
        return None
    worker.inputs[job_id] = _Input(record.spec, record.seed, prepared)
    while len(worker.inputs) > _INPUTS_KEPT:
        worker.inputs.popitem(last=False)
    return worker.inputs[job_id]


def _decode(png: bytes) -> np.ndarray:
    """The RGB pixels, uint8 (H, W, 3), of the gateway's own PNG."""
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.array(image.convert("RGB"))


def _tally(guard: LlavaGuard, wanted: Sequence[tuple[Delivery, _Input]]) -> list[Tally]:
    batch = [
        _draws(
            guard,
            ready.prepared,
            _kernel(ready.spec),
            ready.seed,
            ready.spec.sigma,
            range(delivery.order.start, delivery.order.stop),
            delivery.order.cells,
        )
        for delivery, ready in wanted
    ]
    return [
        Tally(delivery.order.start, delivery.order.stop, delivery.order.cells, tuple(map(int, votes.sum(axis=0))))
        for (delivery, _), votes in zip(wanted, guard.votes(batch), strict=True)
    ]


def _draws(
    guard: LlavaGuard,
    prepared: PreparedInput,
    kernel: TokenKernel,
    seed: str,
    sigma: float,
    indexes: range,
    cells: Sequence[int],
) -> Draws:
    """The draws of these indexes in these cells: image noise by seed and index, tails with their tokens replaced."""
    slots = len(prepared.tail_base)
    drawn = suffix_draws(kernel, slots=slots, seed=seed, start=indexes.start, stop=indexes.stop)
    tails = replace_tokens(drawn, prepared.tail_base, guard.alphabet, guard.mask_id)
    return Draws(prepared, seed, sigma, indexes.start, indexes.stop, tails[:, list(cells)])


def _kernel(spec: CertificationSpec) -> TokenKernel:
    if spec.token_kernel == "uniform":
        return UniformKernel(spec.beta, spec.alphabet_size)
    return AbsorbingKernel(spec.beta)
