"""The real app on an in-process queue, with a real heartbeat for its worker."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI

from holdfast.contract.models import GuardInfo
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast_service.gateway.app import create_app
from holdfast_service.settings import ServiceSettings


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(max_image_pixels=1_000_000)


@pytest.fixture
async def app(broker: Broker, settings: ServiceSettings) -> AsyncIterator[FastAPI]:
    app = create_app(broker, settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


@pytest.fixture
def worker(broker: Broker, model: GuardInfo) -> Iterator[None]:
    with Heartbeat(broker, "worker", [model]):
        yield


@pytest.fixture
async def redis(broker: Broker) -> AsyncIterator[AsyncRedis]:
    async with broker.client() as client:
        yield client
