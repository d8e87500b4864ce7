"""Reading, waiting for and cancelling a certification."""

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from holdfast.contract.jobs import Progress
from holdfast.contract.problems import PassFailedError
from holdfast.queue import events, jobs, keys
from holdfast.queue.broker import AsyncRedis, Broker
from tests.gateway.inputs import URL, assert_problem, body, certificate, submitted
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("worker")

BORN_IN_1970 = f"cert_{1:012x}{2:016x}"


def born_now(number: int) -> str:
    return f"cert_{int(datetime.now(UTC).timestamp() * 1000):012x}{number:016x}"


async def end(redis: AsyncRedis, job: str) -> None:
    """Ends the job as a certifier does."""
    assert await jobs.finish(redis, job, "done", retention_s=60, certificate=certificate(job))


async def test_an_open_job_answers_with_its_newest_progress(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    await events.publish(redis, job, Progress(draws=90, max_draws=900, frontier=(0.5, None)))
    answer = await http.get(f"{URL}/{job}")
    assert answer.status_code == 200
    assert answer.json()["state"] == "queued"
    expected = {"draws": 90, "max_draws": 900, "seconds_left": None, "frontier": [0.5, None], "verdict": "abstained"}
    assert answer.json()["progress"] == expected


async def test_a_done_job_answers_with_its_certificate(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    await end(redis, job)
    answer = await http.get(f"{URL}/{job}")
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["id"], answer.json()["max_tokens"]) == ("done", job, None)


async def test_a_failed_job_answers_with_its_problem(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    problem = PassFailedError("draws 0..10 failed").problem()
    await jobs.finish(redis, job, "failed", retention_s=60, problem=problem)
    answer = (await http.get(f"{URL}/{job}")).json()
    assert answer["state"] == "failed"
    assert answer["problem"]["type"] == "urn:holdfast:problem:pass-failed"


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("GET", "/events")])
async def test_unknown_jobs_are_not_found_and_old_ones_gone(http: httpx.AsyncClient, method: str, tail: str) -> None:
    for foreign in (born_now(1), "cert_1", "cert_" + "f" * 28, "%00", "%ed%a0%80"):
        assert_problem(await http.request(method, f"{URL}/{foreign}{tail}"), 404, "not-found")
    assert_problem(await http.request(method, f"{URL}/{BORN_IN_1970}{tail}"), 410, "gone")


async def test_cancelling_ends_the_job_and_deletes_its_input(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    answer = await http.delete(f"{URL}/{job}")
    assert answer.status_code == 200
    assert answer.json()["state"] == "cancelled"
    assert answer.json()["finished_at"] is not None
    assert await jobs.read_input(redis, job) is None
    assert not await redis.exists(keys.ACTIVE_JOBS)
    assert (await http.get(f"{URL}/{job}")).json()["state"] == "cancelled"


async def test_an_ended_job_cannot_be_cancelled(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    done, cancelled = await submitted(http), await submitted(http)
    await end(redis, done)
    await http.delete(f"{URL}/{cancelled}")
    for job, state in ((done, "done"), (cancelled, "cancelled")):
        problem = assert_problem(await http.delete(f"{URL}/{job}"), 409, "job-finished")
        assert f"is {state} already" in problem["detail"]


async def end_soon(broker: Broker, outcome: jobs.Outcome) -> None:
    async with broker.client() as redis:
        (job,) = await eventually(lambda: jobs.active_jobs(redis))
        await events.publish(redis, job, Progress(draws=9, max_draws=900))
        made = certificate(job) if outcome == "done" else None
        await jobs.finish(redis, job, outcome, retention_s=60, certificate=made)


@pytest.mark.parametrize(("outcome", "status"), [("done", 200), ("failed", 202), ("cancelled", 202)])
async def test_waiting_ends_with_the_job(
    http: httpx.AsyncClient, broker: Broker, outcome: jobs.Outcome, status: int
) -> None:
    ending = asyncio.create_task(end_soon(broker, outcome))
    answer = await asyncio.wait_for(http.post(URL, json=body(), headers={"Prefer": "wait=30"}), 10)
    await ending
    assert (answer.status_code, answer.json()["state"]) == (status, outcome)
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"


async def test_waiting_in_vain_answers_with_the_job(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    answer = await asyncio.wait_for(http.post(URL, json=body(), headers={"Prefer": "wait=1"}), 10)
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert (await http.get(f"{URL}/{answer.json()['id']}")).status_code == 200


@pytest.mark.parametrize("prefer", ["wait=300", "respond-async, wait=60", 'WAIT="61"; x=y'])
async def test_the_longest_wait_is_a_minute(http: httpx.AsyncClient, broker: Broker, prefer: str) -> None:
    ending = asyncio.create_task(end_soon(broker, "done"))
    answer = await http.post(URL, json=body(), headers={"Prefer": prefer})
    await ending
    assert answer.headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("prefer", ["", "respond-async", "wait", "wait=-1", "wait=soon", "await=5"])
async def test_a_preference_that_is_not_understood_is_passed_over(http: httpx.AsyncClient, prefer: str) -> None:
    answer = await http.post(URL, json=body(), headers={"Prefer": prefer})
    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers
