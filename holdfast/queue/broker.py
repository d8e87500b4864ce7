"""Where the queue lives: a Redis server, or an in-process one for the embedded service."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import fakeredis
import redis
import redis.asyncio

# redis-py's stubs mix str with bytes and sync with async answers; every answer is typed where it is parsed.
_MAX_CONNECTIONS = 4096  # every follower of an event stream holds one; redis-py's own limit is 100
AsyncRedis: TypeAlias = Any
SyncRedis: TypeAlias = Any


@dataclass(frozen=True)
class Broker:
    """Makes clients of one Redis; `embedded` is an in-process server that forgets everything at exit."""

    url: str = field(repr=False)  # it may hold a password
    embedded: fakeredis.FakeServer | None = field(default=None, repr=False)

    def client(self, *, read_timeout_s: float | None = None) -> AsyncRedis:
        """An asyncio client; a reader that blocks on streams needs a read timeout above its block, or none."""
        if self.embedded is not None:
            return fakeredis.FakeAsyncRedis(server=self.embedded)
        return redis.asyncio.Redis.from_url(
            self.url, socket_timeout=read_timeout_s, socket_connect_timeout=5, max_connections=_MAX_CONNECTIONS
        )

    def sync_client(self) -> SyncRedis:
        """A blocking client, for the heartbeat thread."""
        if self.embedded is not None:
            return fakeredis.FakeRedis(server=self.embedded)
        return redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)


def connect(url: str | None) -> Broker:
    """The broker at `url` (`redis://…`, `rediss://…`, `unix://…`), or an in-process one for None."""
    return Broker(url) if url else Broker("", fakeredis.FakeServer())
