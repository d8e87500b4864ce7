import asyncio
import time

from holdfast.contract.models import GuardInfo
from holdfast.queue import keys
from holdfast.queue.broker import AsyncRedis, Broker, connect
from holdfast.queue.leases import Heartbeat, Lease, live_workers, offer, served_models
from tests.queue.builders import key_names
from tests.waiting import eventually


async def test_a_heartbeat_announces_a_worker_and_its_models(
    redis: AsyncRedis, broker: Broker, model: GuardInfo
) -> None:
    with Heartbeat(broker, "worker", [model]):
        assert await live_workers(redis) == {"worker": Lease((model,))}
        assert await served_models(redis) == {model.name: model}


async def test_a_heartbeat_outlives_its_time_to_live(redis: AsyncRedis, broker: Broker, model: GuardInfo) -> None:
    with Heartbeat(broker, "worker", [model], ttl_s=60, renew_every_s=0.05):
        await redis.expire(keys.worker("worker"), 30)

        async def renewed() -> bool:
            return bool(await redis.ttl(keys.worker("worker")) > 30)

        await eventually(renewed)
        assert list(await live_workers(redis)) == ["worker"]


async def test_a_worker_that_leaves_takes_its_lease_along(redis: AsyncRedis, broker: Broker, model: GuardInfo) -> None:
    before = await key_names(redis)
    with Heartbeat(broker, "worker", [model]):
        assert await key_names(redis) == before | {"worker:worker", "workers"}
    assert await key_names(redis) == before
    assert await live_workers(redis) == {}


async def test_a_worker_whose_lease_lapsed_is_forgotten(redis: AsyncRedis, broker: Broker, model: GuardInfo) -> None:
    with Heartbeat(broker, "live", [model]):
        await redis.sadd(keys.WORKERS, "dead")
        assert list(await live_workers(redis)) == ["live"]
        assert await redis.smembers(keys.WORKERS) == {b"live"}


async def test_a_lease_lapses_when_nobody_renews_it(redis: AsyncRedis, broker: Broker, model: GuardInfo) -> None:
    with Heartbeat(broker, "worker", [model], ttl_s=1, renew_every_s=60):

        async def lapsed() -> bool:
            return await live_workers(redis) == {}

        await eventually(lapsed)


async def test_what_a_worker_announces_may_change(redis: AsyncRedis, broker: Broker, model: GuardInfo) -> None:
    with Heartbeat(broker, "worker", [model], renew_every_s=0.05) as heartbeat:
        heartbeat.announce([])
        assert await live_workers(redis) == {"worker": Lease()}
        await asyncio.sleep(0.2)  # renewals do not bring the old lease back
        assert await served_models(redis) == {}
        heartbeat.announce([model])
        assert await served_models(redis) == {model.name: model}


async def test_what_is_offered_is_counted_over_all_workers(redis: AsyncRedis, broker: Broker, model: GuardInfo) -> None:
    other = model.model_copy(update={"name": "other"})
    with (
        Heartbeat(broker, "first", [model, other]),
        Heartbeat(broker, "second", [model], loading=["other"]),
        Heartbeat(broker, "third", [], loading=["third", "another"]),
    ):
        offered = await offer(redis)
    assert offered.served == {model.name: model, "other": other}
    assert offered.workers == {model.name: 2, "other": 1}
    assert offered.loading == ("another", "third")


def test_a_heartbeat_that_finds_no_queue_yet_goes_on_trying(model: GuardInfo) -> None:
    broker = connect(None)
    assert broker.embedded is not None
    broker.embedded.connected = False
    with Heartbeat(broker, "worker", [model], renew_every_s=0.02):
        broker.embedded.connected = True
        deadline = time.monotonic() + 60
        with broker.sync_client() as client:
            while not client.exists(keys.worker("worker")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
