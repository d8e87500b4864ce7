"""A job on the real worker loop whose engine is killed half way."""

import asyncio
import os
import signal
from datetime import UTC, datetime

from holdfast.queue import jobs, orders
from holdfast.queue.broker import AsyncRedis, connect
from holdfast.queue.leases import Heartbeat, Lease, live_workers, served_models
from holdfast.queue.orders import Order, Tally
from holdfast_worker.models.vllm.engine import ProcessEngine
from holdfast_worker.models.vllm.guard import VllmGuard
from holdfast_worker.sampler import Worker, run
from holdfast_worker.sampling.kinds import by_fingerprint
from holdfast_worker.settings import WorkerSettings
from tests.waiting import eventually
from tests.workers.builders import SEED, png, spec_of

ORDERS = 8


async def submit(redis: AsyncRedis, guard: VllmGuard, job_id: str) -> None:
    record = jobs.JobRecord(job_id, "queued", spec_of(guard), SEED, datetime.now(UTC), (64, 64))
    await jobs.create(redis, record, jobs.JobInput("Put the flame next to the fuel can", "", png()), retention_s=3600)
    for index in range(ORDERS):
        await orders.issue(redis, guard.fingerprint, Order(job_id, index, 10 * index, 10 * index + 10))


async def tallies(redis: AsyncRedis, job_id: str, least: int) -> list[Tally]:
    async def enough() -> bool:
        return len(await orders.read_tallies(redis, job_id)) >= least

    await eventually(enough)
    return await orders.read_tallies(redis, job_id)


async def test_a_job_whose_engine_is_killed_ends_in_the_same_evidence(expendable: VllmGuard) -> None:
    broker, engine = connect(None), expendable.engine
    assert isinstance(engine, ProcessEngine)
    async with broker.client() as redis:
        await orders.open_streams(redis, [expendable.fingerprint])
        with Heartbeat(broker, "w", [expendable.info]) as heartbeat:
            settings = WorkerSettings(batch_orders=2)  # so that the engine dies in the middle of the job
            worker = Worker(settings, by_fingerprint([expendable]), "w", heartbeat=heartbeat)
            task = asyncio.create_task(run(redis, worker))
            await submit(redis, expendable, "undisturbed")
            wanted = await tallies(redis, "undisturbed", ORDERS)
            await submit(redis, expendable, "disturbed")
            before = await tallies(redis, "disturbed", 2)
            first = engine.pid
            os.kill(first or 0, signal.SIGKILL)

            async def withdrawn() -> bool:
                return not await served_models(redis)

            await eventually(withdrawn)
            assert await live_workers(redis) == {
                "w": Lease(loading=(expendable.info.name,))
            }  # alive, and its orders still its own
            assert await tallies(redis, "disturbed", ORDERS) == wanted
            assert await served_models(redis) == {expendable.info.name: expendable.info}
            task.cancel()
            await asyncio.wait([task])
    assert len(before) < ORDERS
    assert engine.pid != first
