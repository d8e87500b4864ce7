"""What a request handler needs of its app."""

from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from holdfast.queue.broker import AsyncRedis
from holdfast_service.gateway.metrics import Metrics
from holdfast_service.settings import ServiceSettings

__all__ = ["Gateway", "GatewayOfApp"]


@dataclass(frozen=True)
class Gateway:
    """One running app: its queue, settings and metrics, and how many images may be decoded at once."""

    redis: AsyncRedis
    settings: ServiceSettings
    metrics: Metrics
    decoders: CapacityLimiter


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayOfApp = Annotated[Gateway, Depends(_gateway)]
