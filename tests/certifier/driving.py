"""Runs a job to its certificate through the certifier, whatever happens on the way."""

import random
from collections.abc import Callable

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.queue import jobs, orders
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast_service.certifier.loop import advance
from holdfast_service.settings import ServiceSettings

SETTINGS = ServiceSettings()
JOB = "cert_0000000000000123456789abcdef"
Report = Callable[[Order], Tally]


async def work(redis: AsyncRedis, fingerprint: str, report: Report, rng: random.Random) -> None:
    """Runs every order that is out, in an order of its own, while certifiers come that have just started."""
    taken = await orders.take(redis, [fingerprint], "worker", count=100, block_ms=None)
    rng.shuffle(taken)
    for delivery in taken:
        await orders.complete(redis, delivery, report(delivery.order))
        if rng.random() < 0.1:
            await advance(redis, SETTINGS, JOB)


async def certified(
    redis: AsyncRedis, record: JobRecord, report: Report, *, seed: int = 0
) -> Certificate | FeatureCertificate:
    """The certificate of a queued job, by a certifier that forgets what it has counted now and then."""
    rng, view = random.Random(seed), None
    for _ in range(1000):
        view = await advance(redis, SETTINGS, JOB, view if rng.random() > 0.05 else None)
        now = await jobs.read(redis, JOB)
        assert now is not None
        if now.certificate is not None:
            return now.certificate
        assert now.is_open, now.problem
        await work(redis, record.spec.fingerprint, report, rng)
    raise AssertionError("never certified")
