import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.problems import InternalError
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis
from tests.queue.builders import RETENTION_S, key_names, order, submit, take_one, tally


async def test_a_created_job_reads_back_whole(redis: AsyncRedis, spec: GuardSpec) -> None:
    written = jobs.JobRecord(jobs.new_id(), "queued", spec, "5eed", datetime.now(UTC), (48, 64))
    given = jobs.JobInput("τext", "", b"\x00\xff", {"job": "τeacher", "age": 31.5})
    await jobs.create(redis, written, given, retention_s=3600)
    assert await jobs.read(redis, written.id) == written
    assert await jobs.read_input(redis, written.id) == given
    assert await jobs.active_jobs(redis) == {written.id}
    assert await jobs.is_open(redis, written.id)


async def test_creating_a_job_tells_the_certifiers(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    ((_, hint),) = await redis.xrange(keys.TALLY_HINTS)
    assert hint == {b"job": job.encode()}


async def test_a_job_that_was_never_made_is_none(redis: AsyncRedis) -> None:
    assert await jobs.read(redis, jobs.new_id()) is None
    assert not await jobs.is_open(redis, jobs.new_id())
    assert not await jobs.finish(redis, jobs.new_id(), "cancelled", retention_s=RETENTION_S)


async def test_of_ten_racing_callers_one_ends_the_job(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    outcomes: list[jobs.Outcome] = ["cancelled", "failed"] * 5
    ended = await asyncio.gather(*(jobs.finish(redis, job, what, retention_s=RETENTION_S) for what in outcomes))
    assert sum(ended) == 1
    record = await jobs.read(redis, job)
    assert record is not None
    assert record.state == outcomes[ended.index(True)]
    assert await redis.xlen(keys.events(job)) == 1


async def test_ending_a_job_deletes_its_input_and_what_was_settled_and_leaves_exactly_these_keys(
    redis: AsyncRedis, spec: GuardSpec
) -> None:
    job = await submit(redis, spec)
    await orders.issue(redis, spec.fingerprint, order(job))
    delivery = await take_one(redis, spec)
    await jobs.settle(redis, job, {"label": b"3"})
    await orders.complete(redis, delivery, tally(delivery.order))
    await jobs.finish(redis, job, "cancelled", retention_s=RETENTION_S)
    assert await key_names(redis) == {
        f"job:{job}", f"tallies:{job}", f"events:{job}", "tallies", f"orders:{spec.fingerprint}",
        f"asked:anonymous:{spec.fingerprint}",
    }  # fmt: skip
    assert await jobs.read_input(redis, job) is None


async def test_of_two_workers_that_settle_a_job_both_get_what_the_first_found(
    redis: AsyncRedis, spec: GuardSpec
) -> None:
    job = await submit(redis, spec)
    assert await jobs.read_settled(redis, job) == {}
    first, second = {"reference": b"\x00\xff\r\n", "label": b"3"}, {"reference": b"\x01", "more": b"x"}
    assert await jobs.settle(redis, job, first) == first
    assert await jobs.settle(redis, job, second) == first
    assert await jobs.read_settled(redis, job) == first


async def test_a_megabyte_of_embedding_settles_whole(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    found = {"embedding": bytes(range(256)) * 16384, "reference": bytes(range(256))}
    assert await jobs.settle(redis, job, found) == found


async def test_nothing_is_settled_for_a_job_that_has_ended(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await jobs.settle(redis, job, {"label": b"3"})
    await jobs.finish(redis, job, "cancelled", retention_s=RETENTION_S)
    assert await jobs.read_settled(redis, job) == {}
    assert await jobs.settle(redis, job, {"label": b"4"}) == {}
    assert f"settled:{job}" not in await key_names(redis)


async def test_what_an_ended_job_leaves_expires_after_the_retention_time(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    await jobs.finish(redis, job, "failed", retention_s=RETENTION_S, problem=InternalError("broken").problem())
    for key in (keys.job(job), keys.events(job)):
        assert RETENTION_S - 10 <= await redis.ttl(key) <= RETENTION_S


async def test_a_failed_job_keeps_its_problem(redis: AsyncRedis, spec: GuardSpec) -> None:
    job = await submit(redis, spec)
    problem = InternalError("broken").problem()
    await jobs.finish(redis, job, "failed", retention_s=RETENTION_S, problem=problem)
    record = await jobs.read(redis, job)
    assert record is not None
    assert (record.state, record.problem, record.is_open) == ("failed", problem, False)
    assert record.finished_at is not None
    assert record.finished_at >= record.created_at


def test_ids_sort_by_age_and_tell_it() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)  # ids count whole ones
    older = jobs.new_id()
    time.sleep(0.002)
    younger = jobs.new_id()
    born = jobs.made_at(older)
    assert older < younger
    assert born is not None
    assert before <= born <= datetime.now(UTC)


@pytest.mark.parametrize(
    "foreign", ["", "cert_", "cert_0123", "cert_" + "g" * 28, "job_" + "0" * 28, "cert_" + "f" * 28, "cert_" + "٣" * 28]
)
def test_a_foreign_id_tells_no_age(foreign: str) -> None:
    assert jobs.made_at(foreign) is None


async def asked(redis: AsyncRedis, spec: GuardSpec, seed: str, *, client: str = "anonymous") -> int:
    """How many questions the certificate of a job with this seed will say were asked."""
    record = jobs.JobRecord(jobs.new_id(), "queued", spec, seed, datetime.now(UTC), (48, 64))
    await jobs.create(redis, record, jobs.JobInput("a text"), retention_s=60, client=client)
    read = await jobs.read(redis, record.id)
    assert read is not None
    return read.questions_asked


async def test_a_clients_distinct_questions_to_a_model_are_counted_and_a_repeated_one_is_no_new_try(
    redis: AsyncRedis, spec: GuardSpec
) -> None:
    other = spec.model_copy(update={"fingerprint": "sha256:another"})
    assert [await asked(redis, spec, seed) for seed in ("one", "two", "one", "three")] == [1, 2, 2, 3]
    assert await asked(redis, spec, "four", client="someone else") == 1
    assert await asked(redis, other, "one") == 1
    assert await asked(redis, spec, "four") == 4


async def test_a_question_counts_for_the_retention_time(redis: AsyncRedis, spec: GuardSpec) -> None:
    await asked(redis, spec, "old")
    key = keys.asked("anonymous", spec.fingerprint)
    ((member, when),) = await redis.zrange(key, 0, -1, withscores=True)
    assert b"old" not in member
    await redis.zadd(key, {member: when - 50})
    assert await asked(redis, spec, "new") == 2
    await redis.zadd(key, {member: when - 70})
    assert await asked(redis, spec, "newest") == 2
    assert 0 < await redis.ttl(key) <= 60
