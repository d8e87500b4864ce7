"""Jobs and orders for queue tests."""

from datetime import UTC, datetime

import numpy as np

from holdfast.certificates import packed
from holdfast.contract.guard.spec import GuardSpec
from holdfast.queue import jobs, orders
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.orders import Delivery, Order, Tally, Votes

RETENTION_S = 3600


async def submit(redis: AsyncRedis, spec: GuardSpec) -> str:
    """Queues a job and returns its id."""
    record = jobs.JobRecord(jobs.new_id(), "queued", spec, "5eed", datetime.now(UTC), (48, 64))
    await jobs.create(redis, record, jobs.JobInput("a text", "a tail", b"\x89PNG pixels"), retention_s=3600)
    return record.id


def order(job_id: str, index: int = 0) -> Order:
    return Order(job_id, index, 10 * index, 10 * index + 10)


def tally(of: Order, unsafe: int = 7) -> Tally:
    """So many of an order's draws were Unsafe, the first ones, in one cell by one tail."""
    return Tally(of.start, of.stop, Votes(packed(np.arange(of.draws) < unsafe)))


async def take_one(redis: AsyncRedis, spec: GuardSpec, worker: str = "worker") -> Delivery:
    (delivery,) = await orders.take(redis, [spec.fingerprint], worker, count=1, block_ms=None)
    return delivery


async def key_names(redis: AsyncRedis) -> set[str]:
    return {key.decode().removeprefix("holdfast:") for key in await redis.keys("*")}
