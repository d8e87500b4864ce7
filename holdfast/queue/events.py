"""The job's event stream, which `GET …/events` replays: `progress`, then one of `done`, `failed`, `cancelled`."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from holdfast.contract.jobs import Progress
from holdfast.queue import keys
from holdfast.queue.broker import AsyncRedis

KEPT = 1000
_EMPTY_PAUSE_S = 0.02
_LONGEST_BLOCK_MS = 500


@dataclass(frozen=True)
class Event:
    """One event; `id` resumes after it, `data` is JSON."""

    id: str
    name: str
    data: str

    @property
    def is_last(self) -> bool:
        """Whether the job has ended with this event."""
        return self.name != "progress"


def outcome_data(job_id: str, outcome: str) -> str:
    """The data of the last event."""
    return json.dumps({"id": job_id, "state": outcome})


async def publish(redis: AsyncRedis, job_id: str, progress: Progress) -> None:
    """Adds a progress event; the stream keeps about the last thousand."""
    fields = {"event": "progress", "data": progress.model_dump_json()}
    await redis.xadd(keys.events(job_id), fields, maxlen=KEPT, approximate=True)


async def last_progress(redis: AsyncRedis, job_id: str) -> Progress | None:
    """The newest progress that was published, if any is kept."""
    for _, fields in await redis.xrevrange(keys.events(job_id), count=2):
        if fields[b"event"] == b"progress":
            return Progress.model_validate_json(fields[b"data"])
    return None


async def follow(
    redis: AsyncRedis, job_id: str, *, after: str = "0", wait_s: float, closing: asyncio.Event | None = None
) -> AsyncGenerator[Event | None, None]:
    """Yields the events after id `after`, and None whenever `wait_s` pass without one.

    It ends with the job's outcome, or within half a second of `closing`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while closing is None or not closing.is_set():
        wait_ms = max(1, min(_LONGEST_BLOCK_MS, int((deadline - loop.time()) * 1000)))
        answer = await redis.xread({keys.events(job_id): after}, count=100, block=wait_ms)
        for _, entries in answer or []:
            for entry_id, fields in entries:
                after = entry_id.decode()
                event = Event(after, fields[b"event"].decode(), fields[b"data"].decode())
                yield event
                if event.is_last:
                    return
        if answer:
            deadline = loop.time() + wait_s
        elif loop.time() >= deadline:
            yield None
            deadline = loop.time() + wait_s
        else:
            await asyncio.sleep(_EMPTY_PAUSE_S)  # an in-process Redis may answer at once instead of blocking
