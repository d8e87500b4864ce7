"""Which workers live and what they serve: a lease each, renewed by a thread that does not wait for the GPU."""

import json
import logging
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import redis

from holdfast.contract.models import EncoderInfo, GuardInfo, served_model
from holdfast.queue import keys
from holdfast.queue.broker import AsyncRedis, Broker

__all__ = ["Heartbeat", "live_workers", "served_models"]

LEASE_TTL_S = 10
RENEW_EVERY_S = 3.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """Holds a worker's lease while the context is open; a thread renews it every `renew_every_s`."""

    def __init__(
        self,
        broker: Broker,
        worker_id: str,
        models: Sequence[GuardInfo | EncoderInfo],
        *,
        ttl_s: int = LEASE_TTL_S,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._redis = broker.sync_client()
        self._worker_id = worker_id
        self._lease = _lease(models)
        self._ttl_s = ttl_s
        self._renew_every_s = renew_every_s
        self._stop = threading.Event()
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{worker_id}", daemon=True)

    def __enter__(self) -> Self:
        self._renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._redis.delete(keys.worker(self._worker_id))
            self._redis.srem(keys.WORKERS, self._worker_id)
        except redis.RedisError as failure:
            _log.warning("lease of %s left to expire: %s", self._worker_id, failure)
        self._redis.close()

    def announce(self, models: Sequence[GuardInfo | EncoderInfo]) -> None:
        """Changes what the worker serves: at once, or with the next renewal where the queue cannot be reached."""
        self._lease = _lease(models)
        self._try_to_renew()

    def _run(self) -> None:
        while not self._stop.wait(self._renew_every_s):
            self._try_to_renew()

    def _try_to_renew(self) -> None:
        try:
            self._renew()
        except redis.RedisError as failure:
            _log.warning("lease of %s not renewed, will try again: %s", self._worker_id, failure)

    def _renew(self) -> None:
        with self._renewing:  # or an older lease could be written over a newer one
            # The lease first: who reads the set between the two must not take this worker for a dead one.
            self._redis.set(keys.worker(self._worker_id), self._lease, ex=self._ttl_s)
            self._redis.sadd(keys.WORKERS, self._worker_id)


def _lease(models: Sequence[GuardInfo | EncoderInfo]) -> str:
    return json.dumps([model.model_dump(mode="json") for model in models])


async def live_workers(client: AsyncRedis) -> dict[str, list[GuardInfo | EncoderInfo]]:
    """The workers whose lease holds, with the models they serve; forgets the others."""
    ids = sorted(member.decode() for member in await client.smembers(keys.WORKERS))
    if not ids:
        return {}
    leases = dict(zip(ids, await client.mget([keys.worker(worker) for worker in ids]), strict=True))
    if dead := [worker for worker, lease in leases.items() if lease is None]:
        await client.srem(keys.WORKERS, *dead)
    return {
        worker: [served_model(model) for model in json.loads(lease)]
        for worker, lease in leases.items()
        if lease is not None
    }


async def served_models(client: AsyncRedis) -> dict[str, GuardInfo | EncoderInfo]:
    """The models that a live worker serves, by name."""
    return {model.name: model for models in (await live_workers(client)).values() for model in models}
