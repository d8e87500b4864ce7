"""Server-sent events: replay, resume, live, and how they end."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from holdfast.contract.jobs import Progress
from holdfast.queue import events, jobs
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast_service.gateway import following
from holdfast_service.gateway.app import create_app
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import URL, assert_problem, submitted
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("worker")


@dataclass(frozen=True)
class Sent:
    id: str
    event: str
    data: str


def parsed(text: str) -> list[Sent]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [Sent(**dict(line.split(": ", 1) for line in block.splitlines())) for block in blocks]


async def cancelled_job(http: httpx.AsyncClient, redis: AsyncRedis) -> str:
    job = await submitted(http)
    for draws in (9, 18):
        await events.publish(redis, job, Progress(draws=draws, max_draws=900))
    await http.delete(f"{URL}/{job}")
    return job


async def test_an_ended_jobs_events_replay_to_its_outcome(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await cancelled_job(http, redis)
    answer = await http.get(f"{URL}/{job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    sent = parsed(answer.text)
    assert [event.event for event in sent] == ["progress", "progress", "cancelled"]
    assert Progress.model_validate_json(sent[1].data).draws == 18
    assert sent[2].data == f'{{"id": "{job}", "state": "cancelled"}}'


async def test_a_stream_resumes_after_the_last_event_that_was_seen(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await cancelled_job(http, redis)
    sent = parsed((await http.get(f"{URL}/{job}/events")).text)
    for seen, left in ((0, sent[1:]), (1, sent[2:])):
        answer = await http.get(f"{URL}/{job}/events", headers={"Last-Event-ID": sent[seen].id})
        assert parsed(answer.text) == left


async def test_a_stream_that_was_seen_to_its_end_is_empty_and_stays_closed(
    http: httpx.AsyncClient, redis: AsyncRedis
) -> None:
    job = await cancelled_job(http, redis)
    last = parsed((await http.get(f"{URL}/{job}/events")).text)[-1].id
    answer = await http.get(f"{URL}/{job}/events", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("event_id", ["x", "1-2-3", "-1", "$", "9" * 30])
async def test_an_event_id_that_is_not_ours_is_refused(http: httpx.AsyncClient, event_id: str) -> None:
    job = await submitted(http)
    answer = await http.get(f"{URL}/{job}/events", headers={"Last-Event-ID": event_id})
    problem = assert_problem(answer, 422, "invalid-value")
    assert problem["errors"][0]["path"] == "header.last-event-id"


async def test_events_arrive_while_the_job_runs(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    job = await submitted(http)
    follower = asyncio.create_task(http.get(f"{URL}/{job}/events"))
    await asyncio.sleep(0.05)
    await events.publish(redis, job, Progress(draws=9, max_draws=900))
    await jobs.finish(redis, job, "failed", retention_s=60)
    answer = await asyncio.wait_for(follower, PATIENCE_S)
    assert [event.event for event in parsed(answer.text)] == ["progress", "failed"]


async def chunks(app: FastAPI, path: str, enough: bytes, satisfied: asyncio.Event, *, leave: bool) -> list[bytes]:
    """What the app sends for a GET of `path`; with the chunk `enough` the client is satisfied, and may hang up."""
    sent: list[bytes] = []

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if enough in sent[-1]:
            satisfied.set()

    async def receive() -> dict[str, Any]:
        await (satisfied if leave else asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    await app({**scope, "headers": [], "http_version": "1.1", "asgi": {"spec_version": "2.3"}}, receive, send)
    return sent


async def test_a_silent_stream_is_kept_alive_until_the_client_leaves(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "KEEP_ALIVE_S", 0.05)
    job = await submitted(http)
    reading = chunks(app, f"{URL}/{job}/events", b": keep-alive\n\n", asyncio.Event(), leave=True)
    sent = await asyncio.wait_for(reading, PATIENCE_S)
    assert sent[-1] == b": keep-alive\n\n"
    assert (await http.get("/readyz")).status_code == 200


async def test_the_stream_of_a_job_that_vanished_ends(
    app: FastAPI, http: httpx.AsyncClient, redis: AsyncRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "KEEP_ALIVE_S", 0.05)
    job, waits = await submitted(http), asyncio.Event()
    reading = asyncio.create_task(chunks(app, f"{URL}/{job}/events", b": keep-alive\n\n", waits, leave=False))
    await asyncio.wait_for(waits.wait(), PATIENCE_S)
    await redis.flushall()
    assert set(await asyncio.wait_for(reading, PATIENCE_S)) == {b"", b": keep-alive\n\n"}


@pytest.mark.parametrize(("redis_url", "lost"), [(None, "true"), ("redis://127.0.0.1:9/0", "false")])
async def test_a_stream_that_ends_with_the_service_says_whether_the_job_is_lost_with_it(
    broker: Broker, redis_url: str | None, lost: str
) -> None:
    app = create_app(broker, ServiceSettings.model_validate({"redis_url": redis_url}))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://g") as http:
        job = await submitted(http)
        app.state.closing.set()
        answer = await http.get(f"{URL}/{job}/events")
    assert answer.text == f'event: closing\ndata: {{"id":"{job}","lost":{lost}}}\n\n'
