"""The gateway as an ASGI app, and as the role `gateway` of a process."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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

__all__ = ["create_app", "serve"]

_READ_TIMEOUT_S = KEEP_ALIVE_S + 5  # above the longest blocking read
_GRACE_S = 3


def create_app(broker: Broker, settings: ServiceSettings) -> FastAPI:
    """The REST service on this broker; it connects when its lifespan starts."""
    metrics = new_metrics()
    keys = _published_keys(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = broker.client(read_timeout_s=_READ_TIMEOUT_S)
        app.state.gateway = Gateway(redis, settings, metrics, keys, CapacityLimiter(os.cpu_count() or 1))
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


async def serve(broker: Broker) -> None:
    """Serves until the process is signalled or the task cancelled; open requests get three seconds to end."""
    settings = ServiceSettings()
    config = uvicorn.Config(
        create_app(broker, settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
