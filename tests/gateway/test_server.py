"""The role `gateway` on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from holdfast.contract.jobs import Progress
from holdfast.queue import events, jobs
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast_service.gateway.app import serve
from holdfast_service.listening import listen
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import URL, assert_nothing_queued, assert_problem, body, submitted
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
def listening() -> list[socket.socket]:
    return listen("127.0.0.1", 0)


@pytest.fixture
async def serving(broker: Broker, listening: list[socket.socket]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(serve(broker, ServiceSettings(), listening))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def http(listening: list[socket.socket], serving: asyncio.Task[None]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{listening[0].getsockname()[1]}", timeout=PATIENCE_S
    ) as client:
        yield client


async def test_progress_streams_before_the_job_ends(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    async with http.stream("GET", f"{URL}/{job}/events", timeout=PATIENCE_S) as answer:
        lines = answer.aiter_lines()
        await events.publish(redis, job, Progress(draws=9, max_draws=900))
        assert [await anext(lines) for _ in range(2)][1] == "event: progress"
        await http.delete(f"{URL}/{job}")
        assert "event: cancelled" in [line async for line in lines]


@pytest.mark.parametrize("announced", [True, False])
async def test_the_refusal_of_a_large_body_reaches_its_sender(
    http: httpx.AsyncClient, redis: AsyncRedis, announced: bool
) -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(10**6)

    content = bytes(50 * 10**6) if announced else large()
    answer = await http.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 413, "too-large")
    await assert_nothing_queued(redis)
    assert (await http.get("/readyz")).status_code == 200


async def test_cancelling_the_role_ends_its_streams_and_closes_its_port(
    http: httpx.AsyncClient, serving: asyncio.Task[None], caplog: pytest.LogCaptureFixture
) -> None:
    job = await submitted(http)
    async with http.stream("GET", f"{URL}/{job}/events", timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        serving.cancel()
        last = [line async for line in answer.aiter_lines()]  # ends as a stream should: nothing is cut off
    assert last == ["event: closing", f'data: {{"id":"{job}","lost":true}}', ""]
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(httpx.ConnectError):
        await http.get("/healthz")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_role_that_is_cancelled_twice_still_ends_its_streams(
    http: httpx.AsyncClient, serving: asyncio.Task[None]
) -> None:
    job = await submitted(http)
    async with http.stream("GET", f"{URL}/{job}/events", timeout=PATIENCE_S) as answer:
        serving.cancel()
        await asyncio.sleep(0)
        serving.cancel()
        sent = [line async for line in answer.aiter_lines()]
        assert sent[0] == "event: closing"
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_who_waits_for_a_certificate_when_the_role_ends_keeps_the_id_of_the_job(
    http: httpx.AsyncClient, serving: asyncio.Task[None], redis: AsyncRedis
) -> None:
    waiting = asyncio.create_task(http.post(URL, json=body(), headers={"Prefer": "wait=60"}, timeout=PATIENCE_S))
    queued: set[str] = set()
    while not queued:
        await asyncio.sleep(0.01)
        queued = await jobs.active_jobs(redis)
    serving.cancel()
    answer = await waiting
    assert answer.status_code == 202
    assert {answer.json()["id"]} == queued
    assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"
