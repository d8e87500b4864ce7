"""The certifier on a real queue: one certificate whatever happens on the way to it."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from holdfast.certificates import verify
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.requests import Target
from holdfast.contract.guard.spec import GuardSpec
from holdfast.queue import events, jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, connect
from holdfast_service.certifier.guard.allocation import AHEAD
from holdfast_service.certifier.loop import advance
from tests.certificates.issued import NUMBERS
from tests.certifier.driving import JOB, SETTINGS, certified, work
from tests.certifier.specs import SEED, Rate, spec, tally

SPEC = spec(max_passes=3000)
# Above this beta the smallest alphabet has no latent form.
FIELDS = {"kind": "tabular", "slots": 3, "alphabets": (5, 9, 3), "beta": 0.6, "space": NUMBERS}


@pytest.fixture
async def redis() -> AsyncIterator[AsyncRedis]:
    async with connect(None).client() as client:
        await orders.open_streams(client, [SPEC.fingerprint])
        yield client


async def submit(redis: AsyncRedis, asked: GuardSpec = SPEC) -> jobs.JobRecord:
    record = jobs.JobRecord(JOB, "queued", asked, SEED, datetime.now(UTC), (asked.space.height, asked.space.width))
    await jobs.create(redis, record, jobs.JobInput("text", "", b"png"), retention_s=3600)
    return record


async def certify(redis: AsyncRedis, seed: int = 0, asked: GuardSpec = SPEC, rate: Rate = 0.97) -> Certificate:
    record = await submit(redis, asked)
    certificate = await certified(redis, record, lambda order: tally(asked, order, rate), seed=seed)
    assert isinstance(certificate, Certificate)
    return certificate


def timeless(certificate: Certificate) -> dict[str, object]:
    return certificate.model_dump(exclude={"created_at", "finished_at", "signature"})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("changes", [{}, {"text": "l0", "slots": 0, "max_tokens": 2}, {"scope": "per_budget"}])
async def test_the_certificate_is_the_same_in_whatever_order_tallies_arrive(
    redis: AsyncRedis, seed: int, changes: dict[str, object]
) -> None:
    asked = spec(max_passes=900, **changes)
    async with connect(None).client() as other:
        await orders.open_streams(other, [SPEC.fingerprint])
        straight = await certify(other, 1000, asked)
    assert timeless(await certify(redis, seed, asked)) == timeless(straight)


async def test_a_certifier_that_starts_in_the_middle_finishes_the_job(redis: AsyncRedis) -> None:
    await submit(redis)
    view = await advance(redis, SETTINGS, JOB)
    await work(redis, SPEC.fingerprint, lambda order: tally(SPEC, order, 0.97), random.Random(0))
    view = await advance(redis, SETTINGS, JOB, view)
    assert view is not None
    assert view.counted == AHEAD
    fresh = await advance(redis, SETTINGS, JOB)
    assert fresh is not None
    assert (fresh.counted, fresh.wanted, fresh.progress) == (view.counted, view.wanted, view.progress)


async def test_a_finished_job_keeps_no_input_and_leaves_the_active_set(redis: AsyncRedis) -> None:
    await certify(redis)
    kept = {key.decode() for key in await redis.keys("*")}
    own = {keys.job(JOB), keys.tallies(JOB), keys.events(JOB)}
    model = {keys.orders(SPEC.fingerprint), keys.asked("anonymous", SPEC.fingerprint)}
    assert kept == own | model | {keys.TALLY_HINTS}
    for key in (keys.job(JOB), keys.tallies(JOB), keys.events(JOB)):
        assert 0 < await redis.ttl(key) <= SETTINGS.retention_s


async def test_progress_grows_and_the_last_event_is_the_outcome(redis: AsyncRedis) -> None:
    certificate = await certify(redis)
    seen = [event async for event in events.follow(redis, JOB, wait_s=1) if event is not None]
    assert [event.name for event in seen[-2:]] == ["progress", "done"]
    progress = await events.last_progress(redis, JOB)
    assert progress is not None
    assert (progress.passes, progress.verdict) == (certificate.evidence.passes, "unsafe")
    assert list(progress.frontier) == [point.radius for point in certificate.frontier]


async def test_orders_stop_when_the_job_is_cancelled(redis: AsyncRedis) -> None:
    await submit(redis)
    await advance(redis, SETTINGS, JOB)
    assert await jobs.finish(redis, JOB, "cancelled", retention_s=60)
    assert await advance(redis, SETTINGS, JOB) is None
    (first, *_) = await orders.take(redis, [SPEC.fingerprint], "worker", count=100, block_ms=None)
    assert not await orders.complete(redis, first, tally(SPEC, first.order, 1.0))
    assert not await redis.exists(keys.tallies(JOB))


@pytest.mark.parametrize(
    ("changes", "rate", "verdict", "max_tokens"),
    [
        ({}, 1.0, "unsafe", 8),
        ({}, 0.0, "safe", 3),
        ({"verdict": "unsafe"}, 0.0, "abstained", None),
        ({"method": "neyman_pearson"}, 1.0, "unsafe", 8),
        ({"method": "neyman_pearson"}, 0.0, "safe", 5),
        ({"scope": "per_budget"}, 1.0, "unsafe", 8),
        ({"scope": "per_budget", "method": "neyman_pearson", "verdict": "unsafe"}, 1.0, "unsafe", 8),
        ({"text": "none", "slots": 0, "max_tokens": 0}, 1.0, "unsafe", 0),
        ({"sigma": 0.0, "epsilons": (0.0,)}, 1.0, "unsafe", 8),
        ({"text": "l0", "slots": 0, "max_tokens": 2}, 1.0, "unsafe", 2),
        ({"text": "l0", "slots": 0, "max_tokens": 2}, 0.0, "safe", 2),
        ({"text": "l0", "max_tokens": 2, **FIELDS}, 1.0, "unsafe", 2),
        ({"target": Target(tokens=3, epsilon=0.25), "max_tokens": 3}, 1.0, "unsafe", 3),
        ({"token_kernel": "absorbing", "stop": "fixed"}, 1.0, "unsafe", 8),
    ],
)  # fmt: skip
async def test_every_threat_verdict_and_method_gives_a_certificate_that_verifies(
    redis: AsyncRedis, changes: dict[str, object], rate: float, verdict: str, max_tokens: int | None
) -> None:
    asked = spec(**{"max_passes": 1800, **changes})
    certificate = await certify(redis, asked=asked, rate=rate)
    assert (certificate.verdict, certificate.max_tokens) == (verdict, max_tokens)
    assert certificate.reason.lower().startswith(verdict)
    failed = [check for check in verify(certificate.model_dump(mode="json")) if not check.ok]
    assert not failed


async def test_a_text_only_certificate_has_no_image_budget(redis: AsyncRedis) -> None:
    certificate = await certify(redis, asked=spec(sigma=0.0, epsilons=(0.0,), max_passes=900), rate=1.0)
    assert {point.radius for point in certificate.frontier} == {0.0}
    assert certificate.threat.image == "none"
    assert "leaves the rest as it is" in certificate.notice[2]


async def test_the_notice_says_what_the_guard_must_have_said_of_it(redis: AsyncRedis) -> None:
    notes = ("The guard sees each image as one tile.", "An answer that gives neither verdict counts as Unsafe.")
    certificate = await certify(redis, asked=spec(notes=notes, max_passes=900), rate=1.0)
    plain = await certify(redis, asked=spec(max_passes=900), rate=1.0)
    assert certificate.notice == (*plain.notice, *notes)
    assert all(check.ok for check in verify(certificate.model_dump(mode="json")))


@pytest.mark.parametrize("method", ["auto", "neyman_pearson"])
async def test_neyman_pearsons_radii_say_which_attackers_they_leave_out(redis: AsyncRedis, method: str) -> None:
    certificate = await certify(redis, asked=spec(method=method, max_passes=900), rate=1.0)
    assert any("tokens of the alphabet only, no special tokens" in line for line in certificate.notice)


@pytest.mark.parametrize(
    "changes", [{"method": "stratified"}, {"token_kernel": "absorbing"}, {"text": "none", "slots": 0, "max_tokens": 0}]
)
async def test_what_covers_every_token_leaves_no_attacker_out(redis: AsyncRedis, changes: dict[str, object]) -> None:
    certificate = await certify(redis, asked=spec(max_passes=900, **changes), rate=1.0)
    assert not any("alphabet" in line for line in certificate.notice)


async def test_the_certificate_states_what_it_rests_on(redis: AsyncRedis) -> None:
    certificate = await certify(redis)
    evidence = certificate.evidence
    assert evidence.passes == sum(cell.draws for cell in evidence.cells)
    assert evidence.passes == sum((order.stop - order.start) * len(order.cells) for order in evidence.orders)
    assert evidence.alpha_split == {"unsafe": 0.5, "safe": 0.5}
    assert len(certificate.worst_case) == 9 * len(SPEC.epsilons)
    assert certificate.space.alphabets == SPEC.alphabets
    assert certificate.seed == SEED
    assert all(row.unsafe_probability_at_least <= row.unsafe_probability_at_most for row in certificate.worst_case)
