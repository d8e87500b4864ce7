"""The real gateway on a loopback port, with its queue in reach: what a worker and certifier would do, a test does."""

import asyncio
import base64
import functools
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import Progress
from holdfast.contract.problems import Problem
from holdfast.queue import events, jobs, keys
from holdfast.queue.broker import AsyncRedis, Broker, connect
from holdfast_service.gateway.app import create_app
from holdfast_service.settings import ServiceSettings
from tests.waiting import PATIENCE_S, until

T = TypeVar("T")
SIGNING_KEY = base64.b64encode(bytes(range(32))).decode()
SETTINGS = ServiceSettings(redis_url=None, retention_s=3600, signing_key=SecretStr(SIGNING_KEY))


@dataclass(frozen=True)
class Gateway:
    """A running gateway and the event loop that it shares with the test's writes to the queue."""

    url: str
    broker: Broker
    loop: asyncio.AbstractEventLoop
    app: FastAPI
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        """Ends it as `holdfast serve` ends: followers are told."""
        self.loop.call_soon_threadsafe(self.app.state.closing.set)
        self.vanish()

    def vanish(self) -> None:
        """Ends it without a word."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def _do(self, act: Callable[[AsyncRedis], Coroutine[Any, Any, T]]) -> T:
        async def on_a_client() -> T:
            async with self.broker.client() as redis:
                return await act(redis)

        return asyncio.run_coroutine_threadsafe(on_a_client(), self.loop).result(PATIENCE_S)

    def publish(self, job_id: str, *draws: int) -> None:
        for count in draws:
            progress = Progress(draws=count, max_draws=100, frontier=(1.5, None))
            self._do(functools.partial(events.publish, job_id=job_id, progress=progress))

    def finish(self, job_id: str, certificate: Certificate | FeatureCertificate) -> None:
        mine = certificate.model_copy(update={"id": job_id})
        assert self._do(lambda redis: jobs.finish(redis, job_id, "done", retention_s=60, certificate=mine))

    def fail(self, job_id: str, problem: Problem) -> None:
        assert self._do(lambda redis: jobs.finish(redis, job_id, "failed", retention_s=60, problem=problem))

    def forget_events(self, job_id: str) -> None:
        assert self._do(lambda redis: redis.delete(keys.events(job_id))) == 1

    def record(self, job_id: str) -> jobs.JobRecord:
        record = self._do(lambda redis: jobs.read(redis, job_id))
        assert record is not None
        return record

    def state(self, job_id: str) -> str:
        return self.record(job_id).state

    def spec(self, job_id: str) -> Any:
        """What the job certifies: a guard's spec or an encoder's, as the test knows."""
        return self.record(job_id).spec

    def input(self, job_id: str) -> jobs.JobInput:
        given = self._do(lambda redis: jobs.read_input(redis, job_id))
        assert given is not None
        return given

    def active(self) -> set[str]:
        return set(self._do(jobs.active_jobs))

    @contextmanager
    def finishing_the_next_job(self, certificate: Certificate | FeatureCertificate) -> Iterator[None]:
        """Certifies whatever is submitted first while the context is open."""
        thread = threading.Thread(target=self._finish_next, args=(certificate,))
        thread.start()
        try:
            yield
        finally:
            thread.join(PATIENCE_S)

    def _finish_next(self, certificate: Certificate | FeatureCertificate) -> None:
        (job_id,) = until(self.active)
        self.publish(job_id, 50)
        self.finish(job_id, certificate)


@contextmanager
def running_gateway() -> Iterator[Gateway]:
    broker = connect(None)
    app = create_app(broker, SETTINGS)
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server, loop = uvicorn.Server(config), asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(server, loop))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Gateway(f"http://127.0.0.1:{port}", broker, loop, app, server, thread)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


def _run(server: uvicorn.Server, loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # ends what a wait that was given up has left
        runner.run(server.serve())
