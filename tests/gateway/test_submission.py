"""What a good request leaves in the queue."""

import hashlib
import logging
from io import BytesIO

import httpx
import pytest
from PIL import Image

from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.models import GuardInfo
from holdfast.queue import jobs, keys
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast_service.gateway.app import create_app
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import PNG, URL, assert_problem, body, encoded, submitted


@pytest.mark.usefixtures("worker")
async def test_a_request_is_queued_with_the_models_defaults(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    answer = await http.post(URL, json=body(noise={"sigma": 0.5}, epsilons=[1, 0, 1]))
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/certifications/{job['id']}"
    assert (job["state"], job["progress"]["draws"], job["progress"]["max_draws"]) == ("queued", 0, 900)
    record = await jobs.read(redis, job["id"])
    assert record is not None
    assert isinstance(record.spec, GuardSpec)
    assert (record.spec.sigma, record.spec.beta, record.spec.epsilons) == (0.5, 0.25, (0.0, 1.0))
    assert (record.input_size, len(record.seed)) == ((4, 6), 64)


@pytest.mark.usefixtures("worker")
async def test_the_input_is_queued_as_our_own_png(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    file = encoded(Image.open(BytesIO(PNG)), "WEBP", lossless=True)
    request = {"input": {"text": "tëxt", "suffix": "tail", "image": body(image=file)["input"]["image"]}}
    job = (await http.post(URL, json=request)).json()["id"]
    found = await jobs.read_input(redis, job)
    assert found is not None
    assert (found.text, found.suffix, found.image_png[:8]) == ("tëxt", "tail", b"\x89PNG\r\n\x1a\n")
    assert Image.open(BytesIO(found.image_png)).tobytes() == Image.open(BytesIO(PNG)).tobytes()


@pytest.mark.usefixtures("worker")
async def test_a_request_leaves_exactly_these_keys(
    http: httpx.AsyncClient, redis: AsyncRedis, model: GuardInfo
) -> None:
    job = await submitted(http)
    assert {key.decode() for key in await redis.keys("*")} == {
        keys.job(job), keys.inputs(job), keys.ACTIVE_JOBS, keys.TALLY_HINTS, keys.WORKERS, keys.worker("worker"),
        keys.asked("anonymous", model.fingerprint),
    }  # fmt: skip


async def test_without_a_live_worker_nothing_is_queued(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    answer = await http.post(URL, json=body())
    assert_problem(answer, 503, "no-worker")
    assert int(answer.headers["retry-after"]) > 0
    assert await redis.keys("*") == []


@pytest.mark.usefixtures("worker")
class TestAFullQueue:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        return ServiceSettings(max_active_jobs=2)

    async def test_refuses_a_third_job_until_one_ends(self, http: httpx.AsyncClient) -> None:
        first, _ = await submitted(http), await submitted(http)
        answer = await http.post(URL, json=body())
        problem = assert_problem(answer, 429, "queue-full")
        assert problem["detail"] == "2 jobs are queued or running, the limit is 2; try later"
        assert int(answer.headers["retry-after"]) > 0
        await http.delete(f"{URL}/{first}")
        assert (await http.post(URL, json=body())).status_code == 202


async def seeds(broker: Broker, root_seed: str | None, *requests: dict[str, object]) -> list[str]:
    app = create_app(broker, ServiceSettings(root_seed=root_seed))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
        broker.client() as redis,
    ):
        ids = [(await http.post(URL, json=request)).json()["id"] for request in requests]
        records = [await jobs.read(redis, job) for job in ids]
    return [record.seed for record in records if record is not None]


@pytest.mark.usefixtures("worker")
async def test_without_a_root_seed_equal_requests_get_different_draws(broker: Broker) -> None:
    first, second = await seeds(broker, None, body(), body())
    assert first != second


@pytest.mark.usefixtures("worker")
async def test_a_root_seed_gives_equal_requests_equal_draws(broker: Broker) -> None:
    as_webp = encoded(Image.open(BytesIO(PNG)), "WEBP", lossless=True)
    found = await seeds(broker, "root", body(), body(), body(image=as_webp), body(epsilons=[1, 0.5, 0.25, 0]))
    assert len(set(found)) == 1
    assert len(bytes.fromhex(found[0])) == hashlib.sha256().digest_size


@pytest.mark.usefixtures("worker")
async def test_whatever_differs_in_a_request_changes_its_draws(broker: Broker) -> None:
    tall = encoded(Image.new("RGB", (2, 3)))
    wide = encoded(Image.new("RGB", (3, 2)))
    moved = {"input": {**body()["input"], "text": "Love the way you", "suffix": " smell today"}}
    variants = [body(), body(text="Another text"), body(image=tall), body(image=wide), body(noise={"sigma": 1}), moved]
    found = await seeds(broker, "root", *variants) + await seeds(broker, "another root", body())
    assert len(set(found)) == len(found) == 7


async def test_the_log_tells_job_and_model_but_no_input(
    http: httpx.AsyncClient, broker: Broker, model: GuardInfo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Heartbeat(broker, "worker", [model]):
        job = await submitted(http)
        await http.post(URL, json=body(text="Love", noise={"beta": 2}))
    record = next(record for record in caplog.records if getattr(record, "job", None) == job)
    assert record.__dict__["model"] == "reference-guard"
    assert "Love" not in caplog.text
    assert body()["input"]["image"]["data"][:40] not in caplog.text


@pytest.mark.usefixtures("worker")
async def test_no_answer_log_or_event_tells_a_seed_before_the_certificate_does(
    http: httpx.AsyncClient, redis: AsyncRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    created = await http.post(URL, json=body())
    job = created.json()["id"]
    record = await jobs.read(redis, job)
    assert record is not None
    answers = [created, await http.get(f"{URL}/{job}"), await http.get(URL), await http.delete(f"{URL}/{job}")]
    answers += [await http.get(f"{URL}/{job}/events"), await http.get(f"{URL}/{job}"), await http.get("/metrics")]
    told = [answer.text + str(answer.headers) for answer in answers]
    assert all(record.seed not in text for text in (*told, caplog.text, repr(record)))
