"""Which workers live, what they serve and load: a lease each, renewed by a thread that does not wait for the GPU."""

import json
import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import redis

from holdfast.contract.models import EncoderInfo, GuardInfo, served_model
from holdfast.queue import keys
from holdfast.queue.broker import AsyncRedis, Broker

LEASE_TTL_S = 10
RENEW_EVERY_S = 3.0

_log = logging.getLogger(__name__)


Served = GuardInfo | EncoderInfo


@dataclass(frozen=True)
class Lease:
    """What one live worker serves, and the names of what it is about to serve."""

    models: tuple[Served, ...] = ()
    loading: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """What all live workers serve, by name, how many serve each, and what is loaded that none of them serves yet."""

    served: dict[str, Served]
    workers: dict[str, int]
    loading: tuple[str, ...]


class Heartbeat:
    """Holds a worker's lease while the context is open; a thread renews it every `renew_every_s`."""

    def __init__(
        self,
        broker: Broker,
        worker_id: str,
        models: Sequence[Served],
        *,
        loading: Sequence[str] = (),
        ttl_s: int = LEASE_TTL_S,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._redis = broker.sync_client()
        self._worker_id = worker_id
        self._lease = _lease(models, loading)
        self._ttl_s = ttl_s
        self._renew_every_s = renew_every_s
        self._stop = threading.Event()
        self._renewing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{worker_id}", daemon=True)

    def __enter__(self) -> Self:
        self._try_to_renew()
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

    def announce(self, models: Sequence[Served], *, loading: Sequence[str] = ()) -> None:
        """Changes what the worker serves: at once, or with the next renewal where the queue cannot be reached."""
        self._lease = _lease(models, loading)
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


def _lease(models: Sequence[Served], loading: Sequence[str]) -> str:
    return json.dumps({"models": [model.model_dump(mode="json") for model in models], "loading": list(loading)})


def _read(raw: bytes) -> Lease:
    fields = json.loads(raw)
    return Lease(tuple(map(served_model, fields["models"])), tuple(fields["loading"]))


async def live_workers(client: AsyncRedis) -> dict[str, Lease]:
    """The workers whose lease holds; forgets the others."""
    ids = sorted(member.decode() for member in await client.smembers(keys.WORKERS))
    if not ids:
        return {}
    leases = dict(zip(ids, await client.mget([keys.worker(worker) for worker in ids]), strict=True))
    if dead := [worker for worker, lease in leases.items() if lease is None]:
        await client.srem(keys.WORKERS, *dead)
    return {worker: _read(lease) for worker, lease in leases.items() if lease is not None}


async def offer(client: AsyncRedis) -> Offer:
    """What the live workers serve and load, all together."""
    leases = (await live_workers(client)).values()
    served = {model.name: model for lease in leases for model in lease.models}
    workers = Counter(model.name for lease in leases for model in lease.models)
    return Offer(
        served, dict(workers), tuple(sorted({name for lease in leases for name in lease.loading} - set(served)))
    )


async def served_models(client: AsyncRedis) -> dict[str, Served]:
    """The models that a live worker serves, by name."""
    return (await offer(client)).served
