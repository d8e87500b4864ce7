"""An encoder's job on a real queue: scores in, one certificate out, whatever happens on the way to it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from holdfast.certificates import verify
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.requests import FeatureTarget
from holdfast.contract.features.spec import FeatureSpec
from holdfast.queue import jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, connect
from tests.certifier.driving import JOB, certified
from tests.certifier.feature_specs import ASKED, HEAD, settled, spec, tally


@pytest.fixture
async def redis() -> AsyncIterator[AsyncRedis]:
    async with connect(None).client() as client:
        await orders.open_streams(client, ["sha256:0"])
        yield client


async def certify(redis: AsyncRedis, asked: FeatureSpec, *, seed: int = 0, mean: float = 0.9) -> FeatureCertificate:
    record = jobs.JobRecord(JOB, "queued", asked, "ab" * 32, datetime(2026, 1, 1, tzinfo=UTC), (64, 64))
    await jobs.create(redis, record, jobs.JobInput(image_png=b"png"), retention_s=3600)
    await jobs.settle(redis, JOB, settled(asked).to_fields())
    certificate = await certified(redis, record, lambda order: tally(asked, order, mean), seed=seed)
    assert isinstance(certificate, FeatureCertificate)
    return certificate


@pytest.mark.parametrize("changes", ASKED.values(), ids=ASKED)
async def test_the_certificate_follows_from_its_own_evidence(redis: AsyncRedis, changes: dict[str, object]) -> None:
    certificate = await certify(redis, spec(**changes))
    assert all(check.ok for check in verify(certificate.model_dump(mode="json")))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("changes", [ASKED["a head"], ASKED["any time"]])
async def test_the_certificate_is_the_same_in_whatever_order_tallies_arrive(
    redis: AsyncRedis, seed: int, changes: dict[str, object]
) -> None:
    async with connect(None).client() as other:
        await orders.open_streams(other, ["sha256:0"])
        straight = await certify(other, spec(**changes), seed=1000)
    found = await certify(redis, spec(**changes), seed=seed)
    assert found.model_dump(exclude={"finished_at"}) == straight.model_dump(exclude={"finished_at"})


async def test_a_fixed_number_of_draws_is_taken_exactly(redis: AsyncRedis) -> None:
    certificate = await certify(redis, spec(draws=1001))
    assert (certificate.evidence.passes, certificate.evidence.stopped) == (1001, "draws_spent")
    assert sum(certificate.evidence.channels[0].counts) == 1001


async def test_a_target_in_reach_ends_the_sampling_early(redis: AsyncRedis) -> None:
    target = FeatureTarget(epsilon=0.1, cosine=0.5)
    certificate = await certify(redis, spec(stop="any_time", draws=100_000, target=target))
    assert certificate.target is not None
    assert (certificate.target.certified, certificate.evidence.stopped) == (True, "target")
    assert certificate.evidence.passes <= 256


async def test_a_target_out_of_reach_ends_the_sampling_early(redis: AsyncRedis) -> None:
    target = FeatureTarget(epsilon=0.5, cosine=0.9)
    certificate = await certify(redis, spec(stop="any_time", draws=100_000, target=target))
    assert certificate.target is not None
    assert (certificate.target.certified, certificate.evidence.stopped) == (False, "not_certifiable")
    assert certificate.evidence.passes <= 1024


async def test_a_feature_that_noise_destroys_is_not_certified(redis: AsyncRedis) -> None:
    certificate = await certify(redis, spec(), mean=0.5)
    assert [row.radius for row in certificate.radii] == [None, None]
    assert all(row.cosine_at_least is None for row in certificate.bounds)


async def test_every_statement_has_its_equal_share_of_alpha(redis: AsyncRedis) -> None:
    certificate = await certify(redis, spec(head=HEAD))
    assert len(certificate.evidence.alpha_split) == 6
    assert sum(certificate.evidence.alpha_split.values()) == pytest.approx(0.001)


async def test_a_finished_job_keeps_neither_image_nor_reference(redis: AsyncRedis) -> None:
    await certify(redis, spec())
    kept = {key.decode() for key in await redis.keys("*")}
    jobs_own = {keys.job(JOB), keys.tallies(JOB), keys.events(JOB)}
    assert kept == {*jobs_own, keys.TALLY_HINTS, keys.orders("sha256:0"), keys.asked("anonymous", "sha256:0")}
