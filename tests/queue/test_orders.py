import asyncio
import json
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.models import GuardInfo
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast.queue.orders import Delivery, Order, Scores, Tally, Votes
from tests.queue.builders import RETENTION_S, key_names, order, submit, take_one, tally


async def pending(redis: AsyncRedis, spec: GuardSpec) -> int:
    summary = await redis.xpending(keys.orders(spec.fingerprint), keys.ORDER_GROUP)
    return int(summary["pending"])


async def test_an_order_is_issued_once_by_its_index(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    assert await orders.issue(redis, spec.fingerprint, order(job))
    assert not await orders.issue(redis, spec.fingerprint, order(job))
    taken = await orders.take(redis, [spec.fingerprint], "worker", count=10, block_ms=None)
    assert [delivery.order for delivery in taken] == [order(job)]


async def test_ten_racing_certifiers_issue_an_order_once(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    issued = await asyncio.gather(*(orders.issue(redis, spec.fingerprint, order(job)) for _ in range(10)))
    assert sum(issued) == 1
    assert await redis.xlen(keys.orders(spec.fingerprint)) == 1


async def test_issuing_sets_the_job_running(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    record = await jobs.read(redis, job)
    assert record is not None
    assert record.state == "running"


async def test_an_ended_job_gets_no_order(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await jobs.finish(redis, job, "cancelled", retention_s=RETENTION_S)
    assert not await orders.issue(redis, spec.fingerprint, order(job))
    assert await redis.xlen(keys.orders(spec.fingerprint)) == 0


async def test_two_workers_never_hold_the_same_order(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    for index in range(6):
        await orders.issue(redis, spec.fingerprint, order(job, index))
    first = await orders.take(redis, [spec.fingerprint], "first", count=4, block_ms=None)
    second = await orders.take(redis, [spec.fingerprint], "second", count=4, block_ms=None)
    assert [delivery.order.index for delivery in first + second] == list(range(6))


async def test_a_tally_that_arrives_twice_counts_once(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    delivery = await take_one(redis, spec)
    assert await orders.complete(redis, delivery, tally(delivery.order, 7))
    assert not await orders.complete(redis, delivery, tally(delivery.order, 9))
    assert await orders.read_tallies(redis, job) == [tally(delivery.order, 7)]


@pytest.mark.parametrize(
    ("counted", "draws"),
    [
        (Tally(0, 10, Votes("//8=", near_tie="AIA=", positions=7)), 10),
        (Tally(0, 10, Votes("//8=")), 10),
        (Tally(6, 10, Scores("AAAAEA==", votes=9)), 4),
        (Tally(0, 10, Scores("AAAAEA==")), 10),
    ],
)
async def test_a_tally_goes_through_redis_unchanged(
    redis: AsyncRedis, spec: GuardSpec, counted: Tally, draws: int
) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    await orders.complete(redis, await take_one(redis, spec), counted)
    (read,) = await orders.read_tallies(redis, job)
    assert read == counted
    assert read.draws == draws


async def test_an_order_and_its_tally_are_plain_json(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, Order(job, 0, 0, 2))
    await orders.complete(redis, await take_one(redis, spec), Tally(0, 2, Votes("gA==")))
    (planned,), (counted,) = await redis.hvals(keys.plan(job)), await redis.hvals(keys.tallies(job))
    assert json.loads(planned) == {"job_id": job, "index": 0, "start": 0, "stop": 2}
    votes = {"unsafe": "gA==", "near_tie": None, "positions": 0}
    assert json.loads(counted) == {"start": 0, "stop": 2, "found": votes}


async def test_an_order_is_taken_as_it_was_issued_and_counts_its_draws(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    asked = Order(job, 0, 5, 12)
    await orders.issue(redis, spec.fingerprint, asked)
    assert (await take_one(redis, spec)).order == asked
    assert asked.draws == 7


@pytest.mark.parametrize(
    "change",
    [
        {"start": "0"},
        {"found": {"unsafe": 1.5}},
        {"found": {"unsafe": "gA==", "levels": "AAAA"}},
        {"found": {}},
        {"cells": [0]},
        {"operator_norm": 1.0},
    ],
)
async def test_a_tally_of_another_shape_is_refused(redis: AsyncRedis, spec: GuardSpec, change: dict[str, Any]) -> None:
    job = await submit(redis, spec)
    written = {"start": 0, "stop": 2, "found": {"unsafe": "gA=="}}
    await redis.hset(keys.tallies(job), 0, json.dumps(written))
    assert await orders.read_tallies(redis, job) == [Tally(0, 2, Votes("gA=="))]
    await redis.hset(keys.tallies(job), 0, json.dumps(written | change))
    with pytest.raises(ValidationError):
        await orders.read_tallies(redis, job)


def test_a_tally_read_as_the_other_kind_says_so() -> None:
    with pytest.raises(TypeError, match="were scored, must be votes"):
        _ = Tally(0, 2, Scores("AAAA")).votes
    with pytest.raises(TypeError, match="are votes, must be scores"):
        _ = Tally(0, 2, Votes("gA==")).scores


async def test_only_the_contiguous_prefix_of_tallies_is_read(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    for index in range(5):
        await orders.issue(redis, spec.fingerprint, order(job, index))
    for delivery in await orders.take(redis, [spec.fingerprint], "worker", count=5, block_ms=None):
        if delivery.order.index != 2:
            await orders.complete(redis, delivery, tally(delivery.order))
    assert [read.start for read in await orders.read_tallies(redis, job)] == [0, 10]
    assert [read.start for read in await orders.read_tallies(redis, job, first=3)] == [30, 40]
    assert await orders.read_tallies(redis, job, first=2) == []


async def test_a_long_prefix_is_read_whole(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    for index in range(1, 700):
        await orders.issue(redis, spec.fingerprint, order(job, index))
    for delivery in await orders.take(redis, [spec.fingerprint], "worker", count=700, block_ms=None):
        await orders.complete(redis, delivery, tally(delivery.order))
    assert await orders.read_tallies(redis, job) == []
    assert [read.start for read in await orders.read_tallies(redis, job, first=1)] == list(range(10, 7000, 10))


async def test_a_job_that_ended_takes_no_tally(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    delivery = await take_one(redis, spec)
    await jobs.finish(redis, job, "cancelled", retention_s=RETENTION_S)
    assert not await orders.complete(redis, delivery, tally(delivery.order))
    assert keys.tallies(job).removeprefix(keys.PREFIX) not in await key_names(redis)
    assert await pending(redis, spec) == 0


async def test_taking_and_completing_leaves_exactly_these_keys(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    delivery = await take_one(redis, spec)
    await orders.complete(redis, delivery, tally(delivery.order))
    stream = f"orders:{spec.fingerprint}"
    assert await key_names(redis) == {
        f"job:{job}", f"input:{job}", f"plan:{job}", f"tallies:{job}", "jobs:active", "tallies", stream,
        f"asked:anonymous:{spec.fingerprint}",
    }  # fmt: skip
    assert await redis.xlen(keys.orders(spec.fingerprint)) == 0
    assert await pending(redis, spec) == 0


async def test_a_dropped_order_leaves_no_tally_and_nothing_pending(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    await orders.drop(redis, await take_one(redis, spec))
    assert await orders.read_tallies(redis, job) == []
    assert (await redis.xlen(keys.orders(spec.fingerprint)), await pending(redis, spec)) == (0, 0)


async def claim(redis: AsyncRedis, spec: GuardSpec, worker: str) -> list[Delivery]:
    return await orders.claim_abandoned(redis, spec.fingerprint, worker, retention_s=RETENTION_S, idle_ms=0)


async def test_a_dead_workers_order_is_claimed_once(
    redis: AsyncRedis, broker: Broker, model: GuardInfo, spec: GuardSpec
) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    await take_one(redis, spec, "dead")
    with Heartbeat(broker, "heir", [model]):
        (claimed,) = await claim(redis, spec, "heir")
        assert (claimed.order, claimed.attempt) == (order(job), 2)
        assert await claim(redis, spec, "other heir") == []
    assert await orders.complete(redis, claimed, tally(claimed.order))
    assert await pending(redis, spec) == 0


async def test_a_worker_gets_back_the_order_that_it_lost(
    redis: AsyncRedis, broker: Broker, model: GuardInfo, spec: GuardSpec
) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    with Heartbeat(broker, "worker", [model]):
        await take_one(redis, spec, "worker")
        assert [delivery.order for delivery in await claim(redis, spec, "worker")] == [order(job)]


async def test_an_order_that_has_not_rested_is_not_claimed(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    await take_one(redis, spec, "dead")
    assert await orders.claim_abandoned(redis, spec.fingerprint, "heir", retention_s=RETENTION_S) == []


async def test_a_live_workers_order_is_never_claimed(
    redis: AsyncRedis, broker: Broker, model: GuardInfo, spec: GuardSpec
) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    with Heartbeat(broker, "live", [model]):
        await take_one(redis, spec, "live")
        assert await claim(redis, spec, "heir") == []
    assert len(await claim(redis, spec, "heir")) == 1


async def test_a_dead_workers_order_is_found_behind_a_thousand_of_a_live_one(
    redis: AsyncRedis, broker: Broker, model: GuardInfo, spec: GuardSpec
) -> None:
    job = await submit(redis, spec)
    for index in range(1001):
        await orders.issue(redis, spec.fingerprint, order(job, index))
    with Heartbeat(broker, "live", [model]):
        await orders.take(redis, [spec.fingerprint], "live", count=1000, block_ms=None)
        await take_one(redis, spec, "dead")
        assert [delivery.order.index for delivery in await claim(redis, spec, "heir")] == [1000]


async def test_a_failed_order_comes_back_with_its_next_attempt(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    await orders.retry(redis, await take_one(redis, spec), reason="out of luck", retention_s=RETENTION_S)
    again = await take_one(redis, spec, "another")
    assert (again.order, again.attempt) == (order(job), 2)


async def test_a_third_failure_buries_the_order_and_fails_its_job(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    for _ in range(3):
        await orders.retry(redis, await take_one(redis, spec), reason="RuntimeError", retention_s=RETENTION_S)
    record = await jobs.read(redis, job)
    assert record is not None
    assert record.problem is not None
    assert (record.state, record.problem.type) == ("failed", "urn:holdfast:problem:pass-failed")
    assert "draws 0..10 failed 3 times, last: RuntimeError" in record.problem.detail
    assert await redis.xlen(keys.DEAD_ORDERS) == 1
    assert (await redis.xlen(keys.orders(spec.fingerprint)), await pending(redis, spec)) == (0, 0)


async def test_an_order_that_kills_three_workers_fails_its_job(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    await take_one(redis, spec, "first")
    assert len(await claim(redis, spec, "second")) == 1
    assert len(await claim(redis, spec, "third")) == 1
    assert await claim(redis, spec, "fourth") == []
    record = await jobs.read(redis, job)
    assert record is not None
    assert record.state == "failed"
    assert await redis.xlen(keys.DEAD_ORDERS) == 1


async def test_two_callers_that_retry_one_delivery_requeue_it_once(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    delivery = await take_one(redis, spec)
    for _ in range(2):
        await orders.retry(redis, delivery, reason="twice told", retention_s=RETENTION_S)
    assert await redis.xlen(keys.orders(spec.fingerprint)) == 1
