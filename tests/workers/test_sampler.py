"""The worker loop, real queue, real guard: every order ends in a tally or in a stated failure."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from holdfast.certificates import unpacked
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, connect
from holdfast.queue.leases import Heartbeat, served_models
from holdfast.queue.orders import Order, Scores, Tally, Votes
from holdfast.queue.settled import Settled
from holdfast_worker.models import registry
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import EngineLostError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.models.registry import Model
from holdfast_worker.sampler import Worker, run
from holdfast_worker.sampling.kinds import by_fingerprint, kind_of, orders_to_fill
from holdfast_worker.settings import WorkerSettings
from tests.waiting import PATIENCE_S
from tests.workers.builders import FIELDS, SEED, png, ready_for, spec_of, table_folder
from tests.workers.engines import split_guard
from tests.workers.feature_builders import feature_spec_of, feature_tally, ready_features, small_encoder

SHAPE = (1, 9)  # tails and cells of the default request


@pytest.fixture(scope="module")
def guard() -> Guard:
    return registry.require_guard(registry.load("reference-guard", {"device": "cpu"}))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return small_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
async def redis(guard: Guard, encoder: Encoder) -> AsyncIterator[AsyncRedis]:
    async with connect(None).client() as client:
        await orders.open_streams(client, [guard.fingerprint, encoder.fingerprint])
        yield client


async def submit(redis: AsyncRedis, guard: Guard, job_id: str, *, text: str = "hello", suffix: str = "") -> None:
    record = jobs.JobRecord(job_id, "queued", spec_of(guard), SEED, datetime.now(UTC), (64, 64))
    await jobs.create(
        redis, record, jobs.JobInput(text, suffix, png(), FIELDS if guard.info.fields else {}), retention_s=3600
    )


async def submit_features(redis: AsyncRedis, encoder: Encoder, job_id: str, image: bytes, draws: int = 32) -> None:
    """A job on a head of an encoder, with one order out."""
    spec = feature_spec_of(encoder, prototypes="prototypes")
    record = jobs.JobRecord(job_id, "queued", spec, SEED, datetime.now(UTC), (24, 20))
    await jobs.create(redis, record, jobs.JobInput(image_png=image), retention_s=3600)
    await orders.issue(redis, encoder.fingerprint, Order(job_id, 0, 0, draws))


async def work_until(
    redis: AsyncRedis, model: Model, done: Callable[[], Awaitable[bool]], worker: Worker | None = None
) -> None:
    """Runs a worker until `done`."""
    worker = worker or Worker(WorkerSettings(), by_fingerprint([model]))
    task = asyncio.create_task(run(redis, worker))
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await done():
                assert not task.done(), task.exception()
                await asyncio.sleep(0.02)
    finally:
        while not task.done():  # Python 3.11's wait_for may swallow a cancellation (gh-86296)
            task.cancel()
            await asyncio.wait([task], timeout=0.5)


async def tallies(
    redis: AsyncRedis, guard: Guard, cuts: list[tuple[int, int]], job_id: str = "a", worker: Worker | None = None
) -> list[Tally]:
    await submit(redis, guard, job_id)
    for index, (start, stop) in enumerate(cuts):
        await orders.issue(redis, guard.fingerprint, Order(job_id, index, start, stop))

    async def all_in() -> bool:
        return len(await orders.read_tallies(redis, job_id)) == len(cuts)

    await work_until(redis, guard, all_in, worker)
    return await orders.read_tallies(redis, job_id)


def total(found: list[Tally]) -> list[bool]:
    """Every vote, one draw behind the other."""
    planes = [unpacked(tally.votes.unsafe, (tally.draws, *SHAPE)) for tally in found]
    return [bool(vote) for vote in np.concatenate(planes).ravel()]


async def test_orders_become_tallies_and_leave_the_stream(redis: AsyncRedis, guard: Guard) -> None:
    found = await tallies(redis, guard, [(0, 16), (16, 32)])
    assert [(tally.start, tally.stop) for tally in found] == [(0, 16), (16, 32)]
    assert len(total(found)) == 32 * 9
    assert await redis.xlen(keys.orders(guard.fingerprint)) == 0


async def test_the_votes_are_the_same_however_the_draws_are_cut_into_orders(redis: AsyncRedis, guard: Guard) -> None:
    coarse = total(await tallies(redis, guard, [(0, 48)]))
    async with connect(None).client() as other:
        await orders.open_streams(other, [guard.fingerprint])
        assert total(await tallies(other, guard, [(0, 5), (5, 23), (23, 48)])) == coarse


async def test_an_input_the_guard_refuses_fails_its_job_and_says_why(redis: AsyncRedis, guard: Guard) -> None:
    await submit(redis, guard, "long", suffix="this tail has many more words than the slots can hold, far more")
    await orders.issue(redis, guard.fingerprint, Order("long", 0, 0, 16))

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
    worker = Worker(WorkerSettings(), by_fingerprint([guard]))
    sound = ready_for(guard)
    beyond = torch.cat((sound.prepared.prefix, torch.tensor([400_000])))  # no token of the model
    worker.inputs["bad"] = replace(sound, prepared=replace(sound.prepared, prefix=beyond))
    for job_id in ("bad", "good"):
        await submit(redis, guard, job_id)
        await orders.issue(redis, guard.fingerprint, Order(job_id, 0, 0, 16))

    async def settled() -> bool:
        counted = await orders.read_tallies(redis, "good")
        return bool(counted) and not await jobs.is_open(redis, "bad")

    await work_until(redis, guard, settled, worker)
    record = await jobs.read(redis, "bad")
    assert record is not None
    assert record.problem is not None
    assert record.problem.type.endswith("pass-failed")
    assert await redis.xlen(keys.DEAD_ORDERS) == 1
    assert await jobs.is_open(redis, "good")


async def test_orders_of_a_cancelled_job_are_dropped_unrun(redis: AsyncRedis, guard: Guard) -> None:
    await submit(redis, guard, "gone")
    await orders.issue(redis, guard.fingerprint, Order("gone", 0, 0, 16))
    await jobs.finish(redis, "gone", "cancelled", retention_s=60)

    async def drained() -> bool:
        return bool(await redis.xlen(keys.orders(guard.fingerprint)) == 0)

    await work_until(redis, guard, drained)
    assert not await redis.exists(keys.tallies("gone"))


async def test_an_order_that_an_outage_cut_loose_is_run_again(redis: AsyncRedis, guard: Guard) -> None:
    worker = Worker(WorkerSettings(claim_every_s=0.1), by_fingerprint([guard]))
    await submit(redis, guard, "a")
    await orders.issue(redis, guard.fingerprint, Order("a", 0, 0, 16))
    await orders.take(redis, [guard.fingerprint], worker.id, count=1, block_ms=None)  # and never completed

    async def counted() -> bool:
        return bool(await orders.read_tallies(redis, "a"))

    await work_until(redis, guard, counted, worker)


async def test_one_worker_serves_a_tabular_guard_beside_another(
    redis: AsyncRedis, guard: Guard, tmp_path: Path
) -> None:
    table = registry.require_guard(registry.load(table_folder(tmp_path), {}))
    await orders.open_streams(redis, [table.fingerprint])
    for job_id, served in (("rows", table), ("words", guard)):
        await submit(redis, served, job_id)
        await orders.issue(redis, served.fingerprint, Order(job_id, 0, 0, 16))

    async def counted() -> bool:
        return all([await orders.read_tallies(redis, job_id) for job_id in ("rows", "words")])

    await work_until(redis, guard, counted, Worker(WorkerSettings(), by_fingerprint([table, guard])))
    (rows,) = await orders.read_tallies(redis, "rows")
    assert rows.votes.positions == 2
    assert unpacked(rows.votes.unsafe, (16, 1, 1)).shape == (16, 1, 1)


async def tally_by_worker(redis: AsyncRedis, encoder: Encoder, job_id: str) -> Tally:
    async def counted() -> bool:
        return bool(await orders.read_tallies(redis, job_id))

    await work_until(redis, encoder, counted)
    return (await orders.read_tallies(redis, job_id))[0]


async def test_an_encoders_order_becomes_levels_and_its_job_is_settled(redis: AsyncRedis, encoder: Encoder) -> None:
    await submit_features(redis, encoder, "pixels", png(24, 20))
    expected = ready_features(encoder, feature_spec_of(encoder, prototypes="prototypes"))
    assert await tally_by_worker(redis, encoder, "pixels") == feature_tally(encoder, expected, 0, 32)
    assert Settled.from_fields(await jobs.read_settled(redis, "pixels")).label == expected.settled.label
    assert await redis.xlen(keys.orders(encoder.fingerprint)) == 0


async def test_a_worker_scores_against_what_another_one_settled(redis: AsyncRedis, encoder: Encoder) -> None:
    await submit_features(redis, encoder, "shared", png(24, 20))
    own = ready_features(encoder, feature_spec_of(encoder, prototypes="prototypes"))
    foreign = replace(own.settled, label=((own.settled.label or 0) + 1) % 4)
    await jobs.settle(redis, "shared", foreign.to_fields())
    expected = feature_tally(encoder, replace(own, settled=foreign), 0, 32)
    assert await tally_by_worker(redis, encoder, "shared") == expected != feature_tally(encoder, own, 0, 32)


async def test_a_worker_that_settles_second_scores_against_the_first(
    redis: AsyncRedis, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit_features(redis, encoder, "raced", png(24, 20))
    own = ready_features(encoder, feature_spec_of(encoder, prototypes="prototypes"))
    first = replace(own.settled, label=((own.settled.label or 0) + 1) % 4)
    read, settle = jobs.read_settled, jobs.settle

    async def overtaken(redis: AsyncRedis, job_id: str) -> dict[str, bytes]:
        found = await read(redis, job_id)
        await settle(redis, job_id, first.to_fields())
        return found

    monkeypatch.setattr(jobs, "read_settled", overtaken)
    assert await tally_by_worker(redis, encoder, "raced") == feature_tally(encoder, replace(own, settled=first), 0, 32)


async def test_an_image_the_encoder_refuses_fails_its_job_and_says_why(redis: AsyncRedis, encoder: Encoder) -> None:
    await submit_features(redis, encoder, "wide", png(1, 8193))

    async def failed() -> bool:
        return not await jobs.is_open(redis, "wide")

    await work_until(redis, encoder, failed)
    record = await jobs.read(redis, "wide")
    assert record is not None
    assert record.problem is not None
    assert (record.problem.status, await redis.exists(keys.settled("wide"))) == (422, 0)
    assert "must have at most 8192" in record.problem.detail


async def test_a_job_that_cannot_be_settled_fails_alone(
    redis: AsyncRedis, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"prototypes": replace(encoder.heads["prototypes"], fingerprint="sha256:another")}
    await submit_features(redis, encoder, "broken", png(24, 20))
    monkeypatch.setattr(encoder, "heads", heads)
    await submit_features(redis, encoder, "sound", png(24, 20))

    async def both() -> bool:
        return bool(await orders.read_tallies(redis, "sound")) and not await jobs.is_open(redis, "broken")

    await work_until(redis, encoder, both)
    record = await jobs.read(redis, "broken")
    assert record is not None
    assert record.problem is not None
    assert "failed 3 times, last: ModelConfigError" in record.problem.detail


async def test_one_worker_serves_an_encoder_beside_a_guard(redis: AsyncRedis, guard: Guard, encoder: Encoder) -> None:
    await submit(redis, guard, "words")
    await orders.issue(redis, guard.fingerprint, Order("words", 0, 0, 16))
    await submit_features(redis, encoder, "pixels", png(24, 20))

    async def counted() -> bool:
        return all([await orders.read_tallies(redis, job_id) for job_id in ("words", "pixels")])

    await work_until(redis, guard, counted, Worker(WorkerSettings(), by_fingerprint([guard, encoder])))
    words, pixels = [(await orders.read_tallies(redis, job_id))[0] for job_id in ("words", "pixels")]
    assert (type(words.found), type(pixels.found)) == (Votes, Scores)


async def test_when_an_engine_dies_only_the_orders_in_flight_are_run_again(guard: Guard) -> None:
    assert isinstance(guard, LlavaGuard)
    split, engine = split_guard(guard)
    broker, cuts = connect(None), [(0, 8), (8, 16), (16, 24)]
    async with broker.client() as redis:
        await orders.open_streams(redis, [split.fingerprint])
        undisturbed = total(await tallies(redis, split, cuts))
        loop, served = asyncio.get_running_loop(), []

        def look() -> None:
            served.append(asyncio.run_coroutine_threadsafe(served_models(redis), loop).result(10))

        engine.read, engine.calls_left, engine.while_starting = [], 1, look
        with Heartbeat(broker, "w", [split.info]) as heartbeat:
            worker = Worker(WorkerSettings(batch_orders=2), by_fingerprint([split]), "w", heartbeat=heartbeat)
            assert total(await tallies(redis, split, cuts, "b", worker)) == undisturbed
            assert await served_models(redis) == {split.info.name: split.info}
    assert served == [{}]
    assert len(engine.read) == 3  # the first two orders together, a warm-up, and the third once more


async def test_an_order_that_kills_the_engine_fails_its_own_job_and_no_other(guard: Guard) -> None:
    assert isinstance(guard, LlavaGuard)
    split, engine = split_guard(guard)
    poisoned = ready_for(split)
    prefix = torch.cat((poisoned.prepared.prefix, torch.tensor([400_000])))
    poisoned = replace(poisoned, prepared=replace(poisoned.prepared, prefix=prefix))
    async with connect(None).client() as redis:
        await orders.open_streams(redis, [split.fingerprint])
        await submit(redis, split, "poisoned")
        await orders.issue(redis, split.fingerprint, Order("poisoned", 0, 0, 8))
        await submit(redis, split, "sound")
        await orders.issue(redis, split.fingerprint, Order("sound", 0, 0, 8))
        worker = Worker(WorkerSettings(), by_fingerprint([split]))
        worker.inputs["poisoned"] = poisoned

        # One session for both jobs: a worker that is stopped with an order in hand has used up one of its tries.
        async def both_ended() -> bool:
            counted = await orders.read_tallies(redis, "sound")
            return bool(counted) and not await jobs.is_open(redis, "poisoned") and not engine.lost

        await work_until(redis, split, both_ended, worker)
        sound = await orders.read_tallies(redis, "sound")
        record = await jobs.read(redis, "poisoned")
    assert record is not None
    assert record.problem is not None
    assert "failed 3 times, last: EngineLostError" in record.problem.detail
    assert engine.starts == 5  # at load, once for the two together and thrice for the poisoned one
    assert len(sound) == 1


async def test_a_worker_whose_engine_does_not_start_again_ends(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(guard, LlavaGuard)
    split, engine = split_guard(guard)
    monkeypatch.setattr("holdfast_worker.sampler._RESTORE_PAUSE_S", 0.0)
    engine.stop()
    engine.calls_left = 0
    engine.while_starting = lambda: setattr(engine, "calls_left", 0)
    async with connect(None).client() as redis:
        with pytest.raises(EngineLostError):
            await run(redis, Worker(WorkerSettings(), by_fingerprint([split])))
    assert engine.starts == 4


async def test_a_worker_takes_as_many_orders_as_fill_a_pass_and_fewer_where_memory_is_short(
    redis: AsyncRedis, guard: Guard
) -> None:
    assert isinstance(guard, LlavaGuard)
    limit = guard.batching.limit
    worker = Worker(WorkerSettings(), by_fingerprint([guard]))
    try:
        await tallies(redis, guard, [(0, 4), (4, 8)], "a", worker)
        roomy = worker.fill[guard.fingerprint]
        guard.batching.limit = limit // 4
        await tallies(redis, guard, [(0, 4), (4, 8)], "b", worker)
        assert 1 <= worker.fill[guard.fingerprint] <= roomy // 3
    finally:
        guard.batching.limit = limit


def test_orders_of_an_encoder_fill_its_batch(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder))
    order = Order("a", 0, 0, 8)
    assert orders_to_fill(kind_of(encoder), [(order, ready)]) == min(64, encoder.batching.limit // 8)
