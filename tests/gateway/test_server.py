"""The role `gateway` on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from holdfast.contract.jobs import Progress
from holdfast.queue import events
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast_service.gateway.app import serve
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import URL, assert_nothing_queued, assert_problem, submitted

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture
async def serving(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Task[None]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HOLDFAST_PORT", str(probe.getsockname()[1]))
    task = asyncio.create_task(serve(broker))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def http(serving: asyncio.Task[None]) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{ServiceSettings().port}") as client:
        for _ in range(100):
            try:
                await client.get("/healthz")
                break
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
        yield client


async def test_progress_streams_before_the_job_ends(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    async with http.stream("GET", f"{URL}/{job}/events", timeout=5) as answer:
        lines = answer.aiter_lines()
        await events.publish(redis, job, Progress(passes=9, max_passes=900))
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


async def test_cancelling_the_role_closes_its_port_even_under_an_open_stream(
    http: httpx.AsyncClient, serving: asyncio.Task[None]
) -> None:
    job = await submitted(http)
    async with http.stream("GET", f"{URL}/{job}/events", timeout=10) as answer:
        assert answer.status_code == 200
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(serving), 6)
    with pytest.raises(httpx.ConnectError):
        await http.get("/healthz")
