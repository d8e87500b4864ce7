"""The worker loop, real queue, real guard: every order ends in a tally or in a stated failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, connect
from holdfast.queue.orders import Order, Tally
from holdfast_worker.models import registry
from holdfast_worker.models.registry import Guard
from holdfast_worker.sampler import Worker, run
from holdfast_worker.settings import WorkerSettings
from tests.workers.builders import FIELDS, png, spec_of, table_folder

CELLS = tuple(range(9))


@pytest.fixture(scope="module")
def guard() -> Guard:
    return registry.load("reference-guard", {"device": "cpu"})


@pytest.fixture
async def redis(guard: Guard) -> AsyncIterator[AsyncRedis]:
    async with connect(None).client() as client:
        await orders.open_streams(client, [guard.fingerprint])
        yield client


async def submit(redis: AsyncRedis, guard: Guard, job_id: str, *, text: str = "hello", suffix: str = "") -> None:
    record = jobs.JobRecord(job_id, "queued", spec_of(guard), "ab" * 32, datetime.now(UTC), (64, 64))
    await jobs.create(redis, record, jobs.JobInput(text, suffix, png(), FIELDS if guard.info.fields else {}))


async def work_until(
    redis: AsyncRedis, guard: Guard, done: Callable[[], Awaitable[bool]], worker: Worker | None = None
) -> None:
    """Runs a worker until `done`, 30 s at most."""
    worker = worker or Worker(WorkerSettings(), {guard.fingerprint: guard})
    task = asyncio.create_task(run(redis, worker))
    try:
        async with asyncio.timeout(30):
            while not await done():
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
    finally:
        while not task.done():  # Python 3.11's wait_for may swallow a cancellation (gh-86296)
            task.cancel()
            await asyncio.wait([task], timeout=0.5)


async def tallies(redis: AsyncRedis, guard: Guard, cuts: list[tuple[int, int]]) -> list[Tally]:
    await submit(redis, guard, "a")
    for index, (start, stop) in enumerate(cuts):
        await orders.issue(redis, guard.fingerprint, Order("a", index, start, stop, CELLS))

    async def all_in() -> bool:
        return len(await orders.read_tallies(redis, "a")) == len(cuts)

    await work_until(redis, guard, all_in)
    return await orders.read_tallies(redis, "a")


def total(found: list[Tally]) -> list[int]:
    return [sum(column) for column in zip(*(tally.unsafe for tally in found), strict=True)]


async def test_orders_become_tallies_and_leave_the_stream(redis: AsyncRedis, guard: Guard) -> None:
    found = await tallies(redis, guard, [(0, 16), (16, 32)])
    assert [(tally.start, tally.stop, tally.cells) for tally in found] == [(0, 16, CELLS), (16, 32, CELLS)]
    assert await redis.xlen(keys.orders(guard.fingerprint)) == 0


async def test_the_votes_are_the_same_however_the_draws_are_cut_into_orders(redis: AsyncRedis, guard: Guard) -> None:
    coarse = total(await tallies(redis, guard, [(0, 48)]))
    async with connect(None).client() as other:
        await orders.open_streams(other, [guard.fingerprint])
        assert total(await tallies(other, guard, [(0, 5), (5, 23), (23, 48)])) == coarse


async def test_an_input_the_guard_refuses_fails_its_job_and_says_why(redis: AsyncRedis, guard: Guard) -> None:
    await submit(redis, guard, "long", suffix="this tail has many more words than the slots can hold, far more")
    await orders.issue(redis, guard.fingerprint, Order("long", 0, 0, 16, CELLS))

    async def failed() -> bool:
        return not await jobs.is_open(redis, "long")

    await work_until(redis, guard, failed)
    record = await jobs.read(redis, "long")
    assert record is not None
    assert record.problem is not None
    assert record.problem.status == 422
    assert "slots" in record.problem.detail
    assert "tail" not in record.problem.detail


async def test_a_bad_order_fails_its_own_job_three_times_and_no_other(redis: AsyncRedis, guard: Guard) -> None:
    for job_id, cells in (("bad", (99,)), ("good", CELLS)):
        await submit(redis, guard, job_id)
        await orders.issue(redis, guard.fingerprint, Order(job_id, 0, 0, 16, cells))

    async def settled() -> bool:
        counted = await orders.read_tallies(redis, "good")
        return bool(counted) and not await jobs.is_open(redis, "bad")

    await work_until(redis, guard, settled)
    record = await jobs.read(redis, "bad")
    assert record is not None
    assert record.problem is not None
    assert record.problem.type.endswith("pass-failed")
    assert await redis.xlen(keys.DEAD_ORDERS) == 1
    assert await jobs.is_open(redis, "good")


async def test_orders_of_a_cancelled_job_are_dropped_unrun(redis: AsyncRedis, guard: Guard) -> None:
    await submit(redis, guard, "gone")
    await orders.issue(redis, guard.fingerprint, Order("gone", 0, 0, 16, CELLS))
    await jobs.finish(redis, "gone", "cancelled", retention_s=60)

    async def drained() -> bool:
        return bool(await redis.xlen(keys.orders(guard.fingerprint)) == 0)

    await work_until(redis, guard, drained)
    assert not await redis.exists(keys.tallies("gone"))


async def test_an_order_that_an_outage_cut_loose_is_run_again(redis: AsyncRedis, guard: Guard) -> None:
    worker = Worker(WorkerSettings(claim_every_s=0.1), {guard.fingerprint: guard})
    await submit(redis, guard, "a")
    await orders.issue(redis, guard.fingerprint, Order("a", 0, 0, 16, CELLS))
    await orders.take(redis, [guard.fingerprint], worker.id, count=1, block_ms=None)  # and never completed

    async def counted() -> bool:
        return bool(await orders.read_tallies(redis, "a"))

    await work_until(redis, guard, counted, worker)


async def test_one_worker_serves_a_tabular_guard_beside_another(
    redis: AsyncRedis, guard: Guard, tmp_path: Path
) -> None:
    table = registry.load(table_folder(tmp_path), {})
    await orders.open_streams(redis, [table.fingerprint])
    for job_id, served, cells in (("rows", table, (0,)), ("words", guard, CELLS)):
        await submit(redis, served, job_id)
        await orders.issue(redis, served.fingerprint, Order(job_id, 0, 0, 16, cells))

    async def counted() -> bool:
        return all([await orders.read_tallies(redis, job_id) for job_id in ("rows", "words")])

    guards = {served.fingerprint: served for served in (table, guard)}
    await work_until(redis, guard, counted, Worker(WorkerSettings(), guards))
    (rows,) = await orders.read_tallies(redis, "rows")
    assert (rows.positions, len(rows.outcomes or "")) == (2, 4)
