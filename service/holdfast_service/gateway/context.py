"""What a request handler needs of its app."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from holdfast.contract.jobs import KeySet
from holdfast.queue.broker import AsyncRedis
from holdfast_service.gateway.metrics import Metrics
from holdfast_service.settings import ServiceSettings


@dataclass(frozen=True)
class Gateway:
    """One running app: its queue, settings, metrics and published keys, and how much it computes at once.

    `threads` bounds the images that are decoded and the certificates that are verified at the same time. `closing` is
    set once the app is about to end: what waits for a job's events waits no longer.
    """

    redis: AsyncRedis
    settings: ServiceSettings
    metrics: Metrics
    keys: KeySet
    threads: CapacityLimiter
    closing: asyncio.Event


async def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


GatewayOfApp = Annotated[Gateway, Depends(_gateway)]
