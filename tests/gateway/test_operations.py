"""Models, liveness, readiness, metrics, request ids, and a queue that is away."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from holdfast.contract.models import GuardInfo
from holdfast.queue import jobs, keys
from holdfast.queue.broker import AsyncRedis, Broker, connect
from holdfast.queue.leases import Heartbeat
from holdfast_service.gateway.app import create_app
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import URL, assert_problem, body, submitted


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app while it runs."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
    ):
        yield http


METRICS = "holdfast_http_requests_total"


async def scraped(http: httpx.AsyncClient) -> dict[str, float]:
    lines = (await http.get("/metrics")).text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


async def test_models_are_those_of_live_workers(http: httpx.AsyncClient, broker: Broker, model: GuardInfo) -> None:
    assert (await http.get("/v1/models")).json() == {"models": []}
    assert_problem(await http.get("/v1/models/reference-guard"), 503, "no-worker")
    other = model.model_copy(update={"name": "another-guard"})
    with Heartbeat(broker, "first", [model]), Heartbeat(broker, "second", [other, model]):
        listed = (await http.get("/v1/models")).json()["models"]
        assert [found["name"] for found in listed] == ["another-guard", "reference-guard"]
        assert GuardInfo.model_validate((await http.get("/v1/models/reference-guard")).json()) == model
        assert_problem(await http.get("/v1/models/third"), 404, "not-found")


async def test_ready_means_a_live_worker(http: httpx.AsyncClient, broker: Broker, model: GuardInfo) -> None:
    answer = await http.get("/readyz")
    assert_problem(answer, 503, "no-worker")
    assert int(answer.headers["retry-after"]) > 0
    with Heartbeat(broker, "worker", [model]):
        assert (await http.get("/readyz")).json() == {
            "status": "ready", "models": ["reference-guard"], "loading": [], "workers": {"reference-guard": 1}
        }  # fmt: skip


async def test_what_is_still_being_loaded_is_said_wherever_it_is_missed(
    http: httpx.AsyncClient, broker: Broker, model: GuardInfo
) -> None:
    with Heartbeat(broker, "worker", [], loading=["reference-guard", "large-guard"]) as heartbeat:
        for method, path in (("GET", "/readyz"), ("GET", "/v1/models/reference-guard"), ("POST", URL)):
            answer = await http.request(method, path, json=body())
            problem = assert_problem(answer, 503, "loading")
            assert problem["detail"] == "a worker is loading large-guard, reference-guard; try again shortly"
            assert int(answer.headers["retry-after"]) > 0
        found = await scraped(http)
        assert (found["holdfast_live_workers"], found["holdfast_loading_workers"]) == (0, 1)
        heartbeat.announce([model], loading=["large-guard"])
        ready = (await http.get("/readyz")).json()
        assert (ready["models"], ready["loading"]) == (["reference-guard"], ["large-guard"])
        assert_problem(await http.get("/v1/models/large-guard"), 503, "loading")
        assert_problem(await http.get("/v1/models/other"), 404, "not-found")
    assert_problem(await http.get("/readyz"), 503, "no-worker")


async def test_a_model_that_one_worker_serves_and_another_loads_is_served(
    http: httpx.AsyncClient, broker: Broker, model: GuardInfo
) -> None:
    with Heartbeat(broker, "first", [model]), Heartbeat(broker, "second", [], loading=[model.name]):
        assert (await http.get("/readyz")).json()["loading"] == []
        assert (await http.post(URL, json=body())).status_code == 202


@pytest.mark.usefixtures("worker")
async def test_a_queue_that_is_away_is_a_503_and_the_process_lives(http: httpx.AsyncClient, broker: Broker) -> None:
    assert broker.embedded is not None
    broker.embedded.connected = False
    for method, path in (("GET", "/readyz"), ("GET", "/v1/models"), ("POST", URL), ("GET", f"{URL}/{jobs.new_id()}")):
        answer = await http.request(method, path, json=body())
        assert_problem(answer, 503, "queue-unreachable")
        assert int(answer.headers["retry-after"]) > 0
    assert (await http.get("/healthz")).json() == {"status": "alive"}
    assert (await scraped(http))["holdfast_queue_up"] == 0
    broker.embedded.connected = True
    assert (await http.get("/readyz")).status_code == 200


async def test_a_refused_connection_to_redis_is_a_503() -> None:
    app = create_app(connect("redis://127.0.0.1:1"), ServiceSettings())
    async with running(app) as http:
        assert_problem(await http.get("/readyz"), 503, "queue-unreachable")
        assert (await http.get("/healthz")).status_code == 200


async def test_a_redis_that_hangs_holds_no_probe_for_longer_than_seconds(redis_url: str) -> None:
    app = create_app(connect(redis_url), ServiceSettings())
    async with running(app) as http:
        process = int((await app.state.gateway.redis.info("server"))["process_id"])
        os.kill(process, signal.SIGSTOP)
        started = time.monotonic()
        try:
            ready, metrics = await asyncio.gather(http.get("/readyz"), http.get("/metrics"))
        finally:
            os.kill(process, signal.SIGCONT)
    assert time.monotonic() - started < 15
    assert_problem(ready, 503, "queue-unreachable")
    assert "holdfast_queue_up 0.0" in metrics.text


async def test_a_redis_without_memory_is_a_full_queue(redis_url: str, model: GuardInfo) -> None:
    broker = connect(redis_url)
    app = create_app(broker, ServiceSettings())
    async with running(app) as http:
        redis = app.state.gateway.redis
        before = await jobs.active_jobs(redis)
        with Heartbeat(broker, "worker", [model]):
            await redis.config_set("maxmemory", "1")
            try:
                assert_problem(await http.post(URL, json=body()), 429, "queue-full")
            finally:
                await redis.config_set("maxmemory", "0")
            assert await jobs.active_jobs(redis) == before


async def test_a_defect_is_a_500_that_names_the_request_and_nothing_else(
    http: httpx.AsyncClient, redis: AsyncRedis, caplog: pytest.LogCaptureFixture
) -> None:
    job = jobs.new_id()
    await redis.hset(keys.job(job), "spec", "no JSON")
    answer = await http.get(f"{URL}/{job}", headers={"X-Request-Id": "a-request"})
    problem = assert_problem(answer, 500, "internal")
    assert "a-request" in problem["detail"]
    assert "Traceback" not in answer.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/v1/models/none", "/nowhere", "/metrics", "/openapi.json"])
async def test_every_response_carries_the_id_of_its_request(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path, headers={"X-Request-Id": "01J:a.b_c-d"})
    assert answer.headers.get_list("x-request-id") == ["01J:a.b_c-d"]


@pytest.mark.parametrize("insane", ["", "a b", "x" * 101, "<script>", "ä"])
async def test_a_request_id_that_is_no_token_is_replaced(http: httpx.AsyncClient, insane: str) -> None:
    headers = {b"X-Request-Id": insane.encode()}
    ids = [(await http.get("/healthz", headers=headers)).headers["x-request-id"] for _ in range(2)]
    assert all(len(made) == 32 for made in ids)
    assert ids[0] != ids[1]


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("GET", "/v1/models/"), ("POST", "/v1")])
async def test_no_such_route_is_not_found(http: httpx.AsyncClient, method: str, path: str) -> None:
    assert_problem(await http.request(method, path), 404, "not-found")


async def test_another_method_is_not_allowed_and_told_which_are(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/models")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


@pytest.mark.usefixtures("worker")
async def test_the_queues_gauges_are_read_at_the_scrape(http: httpx.AsyncClient) -> None:
    await submitted(http)
    found = await scraped(http)
    assert (found["holdfast_jobs_active"], found["holdfast_live_workers"], found["holdfast_queue_up"]) == (1, 1, 1)


@pytest.mark.usefixtures("worker")
async def test_requests_are_counted_by_template_method_and_status(http: httpx.AsyncClient) -> None:
    job = await submitted(http)
    await http.get(f"{URL}/{job}")
    await http.get(f"{URL}/cert_1")
    found = await scraped(http)
    route = f'route="{URL}/{{job_id}}"'
    assert found[f'{METRICS}{{method="POST",route="{URL}",status="202"}}'] == 1
    assert found[f'{METRICS}{{method="GET",{route},status="200"}}'] == 1
    assert found[f'{METRICS}{{method="GET",{route},status="404"}}'] == 1
    assert found[f'holdfast_http_request_duration_seconds_count{{method="GET",{route}}}'] == 2


async def test_no_client_can_make_up_a_label(http: httpx.AsyncClient) -> None:
    for number in range(20):
        for path in (f"/nowhere/{number}", f"{URL}/cert_{number}", f"/v1/models/{number}"):
            await http.request(f"METHOD{number}", path)
            await http.get(path)
    counted = [name for name in await scraped(http) if name.startswith(METRICS)]
    methods_and_routes = {(name.split('method="')[1].split('"')[0], name.split('route="')[1].split('"')[0])
                          for name in counted}  # fmt: skip
    templates = {"unmatched", f"{URL}/{{job_id}}", "/v1/models/{name}"}
    assert methods_and_routes == {(method, route) for method in ("other", "GET") for route in templates}


async def test_two_apps_count_apart(app: FastAPI, http: httpx.AsyncClient, broker: Broker) -> None:
    await http.get("/healthz")
    other = create_app(broker, ServiceSettings())
    async with running(other) as second:
        assert not [name for name in await scraped(second) if "healthz" in name]
    assert [name for name in await scraped(http) if "healthz" in name]


async def test_the_request_log_has_templates_for_paths(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="holdfast_service")
    await http.get("/v1/models/a-private-name?secret=1")
    assert "GET /v1/models/{name}: 503" in caplog.text
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("holdfast_service")]
    assert not [message for message in logged if "private" in message or "secret" in message]


async def test_a_worker_whose_engine_is_lost_is_not_ready_until_it_is_back(
    http: httpx.AsyncClient, broker: Broker, model: GuardInfo
) -> None:
    with Heartbeat(broker, "worker", [model]) as heartbeat:
        assert (await http.get("/readyz")).status_code == 200
        heartbeat.announce([])
        assert_problem(await http.get("/readyz"), 503, "no-worker")
        heartbeat.announce([model])
        assert (await http.get("/readyz")).json()["models"] == [model.name]
