"""The certifier on a real queue: one certificate whatever happens on the way to it."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import numpy as np
import pytest

from holdfast.contract.certificates import Certificate
from holdfast.contract.models import NoiseSpace
from holdfast.contract.requests import CertificationSpec
from holdfast.queue import events, jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, connect
from holdfast.queue.orders import Order, Tally
from holdfast_service.certifier.loop import advance
from holdfast_service.settings import ServiceSettings

SETTINGS = ServiceSettings(orders_ahead=5)
JOB = "cert_0000000000000123456789abcdef"
SPEC = CertificationSpec(
    model="guard",
    fingerprint="sha256:0",
    token_kernel="uniform",
    alphabet_size=480,
    slots=8,
    beta=0.9,
    sigma=0.25,
    tau=0.3,
    alpha=0.01,
    max_passes=3000,
    stop="any_time",
    tolerance=0.05,
    epsilons=(0.0, 0.5),
    space=NoiseSpace(channels=3, height=64, width=64),
    false_flag=None,
)


@pytest.fixture
async def redis() -> AsyncIterator[AsyncRedis]:
    async with connect(None).client() as client:
        await orders.open_streams(client, [SPEC.fingerprint])
        yield client


async def submit(redis: AsyncRedis) -> None:
    record = jobs.JobRecord(JOB, "queued", SPEC, "00" * 32, datetime.now(UTC), (64, 64))
    await jobs.create(redis, record, text="text", suffix="", image_png=b"png")


def outcome(order: Order, rate: float) -> Tally:
    """A tally that depends on the draws' indexes alone, as a worker's does."""
    unsafe = np.random.default_rng(order.index).binomial(order.stop - order.start, rate, len(order.cells))
    return Tally(order.start, order.stop, order.cells, tuple(map(int, unsafe)))


async def work(redis: AsyncRedis, rng: random.Random, rate: float = 0.97) -> None:
    """Runs every order that is out, in an order of its own."""
    taken = await orders.take(redis, [SPEC.fingerprint], "worker", count=100, block_ms=None)
    rng.shuffle(taken)
    for delivery in taken:
        await orders.complete(redis, delivery, outcome(delivery.order, rate))
        if rng.random() < 0.5:
            await advance(redis, SETTINGS, JOB)


async def certify(redis: AsyncRedis, seed: int, rate: float = 0.97) -> Certificate:
    await submit(redis)
    rng = random.Random(seed)
    for _ in range(100):
        await advance(redis, SETTINGS, JOB)
        record = await jobs.read(redis, JOB)
        assert record is not None
        if record.certificate is not None:
            return record.certificate
        await work(redis, rng, rate)
    raise AssertionError("never certified")


def timeless(certificate: Certificate) -> dict[str, object]:
    return certificate.model_dump(exclude={"created_at", "finished_at"})


@pytest.mark.parametrize("seed", range(8))
async def test_the_certificate_is_the_same_in_whatever_order_tallies_arrive(redis: AsyncRedis, seed: int) -> None:
    async with connect(None).client() as other:
        await orders.open_streams(other, [SPEC.fingerprint])
        straight = await certify(other, 1000)
    assert timeless(await certify(redis, seed)) == timeless(straight)


async def test_a_certifier_that_starts_in_the_middle_finishes_the_job(redis: AsyncRedis) -> None:
    await submit(redis)
    view = await advance(redis, SETTINGS, JOB)
    await work(redis, random.Random(0))
    view = await advance(redis, SETTINGS, JOB, view)
    assert view is not None
    assert view.counted == 5
    fresh = await advance(redis, SETTINGS, JOB)
    assert fresh is not None
    assert (fresh.found, fresh.counted) == (view.found, view.counted)


async def test_a_finished_job_keeps_no_input_and_leaves_the_active_set(redis: AsyncRedis) -> None:
    await certify(redis, 0)
    kept = {key.decode() for key in await redis.keys("*")}
    expected = {keys.job(JOB), keys.tallies(JOB), keys.events(JOB), keys.TALLY_HINTS, keys.orders(SPEC.fingerprint)}
    assert kept == expected
    for key in (keys.job(JOB), keys.tallies(JOB), keys.events(JOB)):
        assert 0 < await redis.ttl(key) <= SETTINGS.retention_s


async def test_progress_grows_and_the_last_event_is_the_outcome(redis: AsyncRedis) -> None:
    certificate = await certify(redis, 0)
    seen = [event async for event in events.follow(redis, JOB, wait_s=1) if event is not None]
    assert [event.name for event in seen[-2:]] == ["progress", "done"]
    progress = await events.last_progress(redis, JOB)
    assert progress is not None
    assert progress.passes == certificate.evidence.passes
    assert list(progress.frontier) == [point.radius for point in certificate.frontier]


async def test_orders_stop_when_the_job_is_cancelled(redis: AsyncRedis) -> None:
    await submit(redis)
    await advance(redis, SETTINGS, JOB)
    assert await jobs.finish(redis, JOB, "cancelled", retention_s=60)
    assert await advance(redis, SETTINGS, JOB) is None
    (first, *_) = await orders.take(redis, [SPEC.fingerprint], "worker", count=100, block_ms=None)
    assert not await orders.complete(redis, first, outcome(first.order, 1.0))
    assert not await redis.exists(keys.tallies(JOB))


async def test_an_input_that_is_not_flagged_is_abstained_and_says_so(redis: AsyncRedis) -> None:
    certificate = await certify(redis, 0, rate=0.01)
    assert certificate.verdict == "abstained"
    assert certificate.max_tokens is None
    assert all(point.radius is None and point.method is None for point in certificate.frontier)
    assert certificate.evidence.stopped == "not_certifiable"
    assert any("no certificate of safety" in line for line in certificate.notice)


async def test_the_certificate_states_what_it_rests_on(redis: AsyncRedis) -> None:
    certificate = await certify(redis, 0)
    assert certificate.verdict == "unsafe"
    assert certificate.evidence.passes == sum(cell.draws for cell in certificate.evidence.cells)
    assert certificate.evidence.alpha == SPEC.alpha
    assert len(certificate.worst_case) == 9 * len(SPEC.epsilons)
    assert certificate.space.token_alphabet == SPEC.alphabet_size
    assert certificate.seed == "00" * 32
