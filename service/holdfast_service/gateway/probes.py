"""What an operator asks: is it alive, can it take work, what has it counted."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict
from redis.exceptions import RedisError

from holdfast.contract.problems import LoadingError, NoWorkerError, QueueUnreachableError
from holdfast.queue import keys
from holdfast.queue.leases import live_workers, offer
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.problems import documented
from holdfast_service.gateway.submission import unserved

_PATIENCE_S = 2  # a probe answers before its prober gives up

router = APIRouter(tags=["operations"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(frozen=True)

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The service takes work for these models; `loading` are on their way, `workers` says how many serve each."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ready"] = "ready"
    models: tuple[str, ...]
    loading: tuple[str, ...]
    workers: dict[str, int]


@router.get("/healthz", summary="Liveness")
async def healthz() -> Alive:
    """Answers while the process lives, whatever the state of the queue."""
    return Alive()


@router.get("/readyz", summary="Readiness", responses=documented(QueueUnreachableError, LoadingError, NoWorkerError))
async def readyz(gateway: GatewayOfApp) -> Ready:
    """Answers 200 when the queue can be reached and a worker serves something; 503 says what is still being loaded."""
    async with asyncio.timeout(_PATIENCE_S):
        offered = await offer(gateway.redis)
    if not offered.served:
        raise unserved(offered)
    return Ready(models=tuple(sorted(offered.served)), loading=offered.loading, workers=offered.workers)


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
            leases = (await live_workers(gateway.redis)).values()
        workers = float(sum(bool(lease.models) for lease in leases))
        loading = float(sum(bool(lease.loading) for lease in leases))
        known.queue_up.set(1)
    except (RedisError, TimeoutError):
        active = workers = loading = float("nan")
        known.queue_up.set(0)
    known.jobs_active.set(active)
    known.live_workers.set(workers)
    known.loading_workers.set(loading)
    return Response(generate_latest(known.registry), media_type=CONTENT_TYPE_LATEST)
