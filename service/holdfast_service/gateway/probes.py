"""What an operator asks: is it alive, can it take work, what has it counted."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict
from redis.exceptions import RedisError

from holdfast.contract.problems import NoWorkerError, QueueUnreachableError
from holdfast.queue import keys
from holdfast.queue.leases import live_workers, served_models
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.problems import documented
from holdfast_service.gateway.submission import no_worker

__all__ = ["router"]

_PATIENCE_S = 2  # a probe answers before its prober gives up

router = APIRouter(tags=["operations"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(frozen=True)

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The service takes work for these models."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ready"] = "ready"
    models: tuple[str, ...]


@router.get("/healthz", summary="Liveness")
async def healthz() -> Alive:
    """Answers while the process lives, whatever the state of the queue."""
    return Alive()


@router.get("/readyz", summary="Readiness", responses=documented(QueueUnreachableError, NoWorkerError))
async def readyz(gateway: GatewayOfApp) -> Ready:
    """Answers 200 when the queue can be reached and a worker lives."""
    async with asyncio.timeout(_PATIENCE_S):
        served = await served_models(gateway.redis)
    if not served:
        raise no_worker()
    return Ready(models=tuple(sorted(served)))


@router.get(
    "/metrics",
    summary="Metrics in Prometheus' text format",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(gateway: GatewayOfApp) -> Response:
    """Counts of this process, and the queue's gauges where the queue answers."""
    known = gateway.metrics
    try:
        async with asyncio.timeout(_PATIENCE_S):
            active = float(await gateway.redis.scard(keys.ACTIVE_JOBS))
            workers = float(len(await live_workers(gateway.redis)))
        known.queue_up.set(1)
    except (RedisError, TimeoutError):
        active = workers = float("nan")
        known.queue_up.set(0)
    known.jobs_active.set(active)
    known.live_workers.set(workers)
    return Response(generate_latest(known.registry), media_type=CONTENT_TYPE_LATEST)
