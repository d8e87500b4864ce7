"""The gateway as an ASGI app, and as the role `gateway` of a process."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from socket import socket

import uvicorn
from anyio import CapacityLimiter
from fastapi import FastAPI

from holdfast.contract.jobs import KeySet
from holdfast.queue.broker import Broker
from holdfast.signing import SigningKey, key_set
from holdfast_service.gateway import certifications, features, models, probes, verification
from holdfast_service.gateway.context import Gateway
from holdfast_service.gateway.following import KEEP_ALIVE_S
from holdfast_service.gateway.limits import BodyLimit
from holdfast_service.gateway.metrics import Observed, new_metrics
from holdfast_service.gateway.problems import handle_problems
from holdfast_service.settings import ServiceSettings

_log = logging.getLogger(__name__)
_READ_TIMEOUT_S = KEEP_ALIVE_S + 5  # above the longest blocking read
_GRACE_S = 3


def create_app(broker: Broker, settings: ServiceSettings) -> FastAPI:
    """The REST service on this broker; it connects when its lifespan starts."""
    metrics = new_metrics()
    keys = _published_keys(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = broker.client(read_timeout_s=_READ_TIMEOUT_S)
        limiter = CapacityLimiter(os.cpu_count() or 1)
        app.state.gateway = Gateway(redis, settings, metrics, keys, limiter, app.state.closing)
        try:
            yield
        finally:
            await redis.aclose()

    app = FastAPI(
        title="Holdfast",
        version="1",
        description="Certifies how far an attacker can push an input before the verdict can change.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.closing = asyncio.Event()
    for part in (certifications, features, verification, models, probes):
        app.include_router(part.router)
    handle_problems(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(Observed, metrics=metrics)
    return app


def _published_keys(settings: ServiceSettings) -> KeySet:
    secret = settings.signing_key
    current = SigningKey.from_text(secret.get_secret_value()) if secret is not None else None
    return key_set(current, settings.verification_keys)


class _Server(uvicorn.Server):
    """Leaves signals to the process: it ends when its role is cancelled."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(broker: Broker, settings: ServiceSettings, listening: Sequence[socket]) -> None:
    """Serves on these sockets until cancelled; then streams end, and other open requests get three seconds to."""
    app = create_app(broker, settings)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE_S
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(list(listening)))
    for bound in listening:
        host, port, *_ = bound.getsockname()
        _log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    try:
        await asyncio.shield(serving)
    finally:
        app.state.closing.set()
        server.should_exit = True
        while not serving.done():  # however often it is cancelled meanwhile
            with suppress(asyncio.CancelledError):
                await asyncio.shield(serving)
