"""Every queue test runs on the in-process Redis and on a real one."""

from collections.abc import AsyncIterator

import pytest

from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import GuardInfo
from holdfast.queue import orders
from holdfast.queue.broker import AsyncRedis, Broker, connect


@pytest.fixture(params=["embedded", "real"])
def broker(request: pytest.FixtureRequest) -> Broker:
    if request.param == "embedded":
        return connect(None)
    broker = connect(request.getfixturevalue("redis_url"))
    with broker.sync_client() as client:
        client.flushall()
    return broker


@pytest.fixture
def spec(model: GuardInfo) -> GuardSpec:
    request = CertificationRequest.model_validate({"input": {"text": "text", "image": {"data": "AA=="}}})
    return resolve(request, model)


@pytest.fixture
async def redis(broker: Broker, spec: GuardSpec) -> AsyncIterator[AsyncRedis]:
    async with broker.client() as client:
        await orders.open_streams(client, [spec.fingerprint])
        yield client
