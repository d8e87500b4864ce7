"""What every kind of job has in common once it is submitted: waiting for it, reading, following and cancelling it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import Header, Response
from redis.exceptions import RedisError
from starlette.responses import StreamingResponse

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import Closing, Job
from holdfast.contract.problems import (
    GoneError,
    InternalError,
    InvalidValueError,
    JobFinishedError,
    LoadingError,
    MalformedImageError,
    MalformedRequestError,
    MissingFieldError,
    NotFoundError,
    NoWorkerError,
    QueueFullError,
    QueueUnreachableError,
    TooLargeError,
    UnknownFieldError,
    UnsupportedMediaTypeError,
)
from holdfast.queue import events, jobs
from holdfast_service.gateway.context import Gateway
from holdfast_service.gateway.problems import documented

KEEP_ALIVE_S = 15.0
MAX_WAIT_S = 60
"""Longest that one request is kept open for its certificate."""
Outcome = Job | Certificate | FeatureCertificate

LOCATION = {"Location": {"description": "Where the job is.", "schema": {"type": "string"}}}
ON_A_JOB = documented(NotFoundError, GoneError, InvalidValueError, InternalError, QueueUnreachableError)
ON_CANCELLING = {**ON_A_JOB, **documented(JobFinishedError)}
ON_SUBMISSION = documented(
    MalformedRequestError,
    MalformedImageError,
    NotFoundError,
    TooLargeError,
    UnsupportedMediaTypeError,
    MissingFieldError,
    UnknownFieldError,
    InvalidValueError,
    QueueFullError,
    InternalError,
    QueueUnreachableError,
    LoadingError,
    NoWorkerError,
)
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `progress`, then one of `done`, `failed`, `cancelled`; or `closing`,"
        " whose `lost` says whether the job ends with the service.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The job has ended and every event up to its last was seen."},
    **ON_A_JOB,
}
Prefer = Annotated[
    str | None, Header(description=f"`wait=N` waits up to N seconds, at most {MAX_WAIT_S}, for the certificate.")
]
LastEventId = Annotated[
    str, Header(pattern=r"^\d{1,19}(-\d{1,19})?$", description="Resumes after the event of this id.")
]

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)
_PATHS = {
    "hybrid": "/v1/certifications",
    "tabular": "/v1/certifications",
    "feature": "/v1/feature-certifications",
}


async def find(gateway: Gateway, job_id: str, *, under: str) -> jobs.JobRecord:
    """The job of this id whose kind belongs under this path.

    Raises:
        NotFoundError: there was never such a job.
        GoneError: there may have been, but its retention time has passed.
    """
    born = jobs.made_at(job_id)
    if born is None:
        raise NotFoundError("no such job; the id is the one that submitting the input answered")
    if (record := await jobs.read(gateway.redis, job_id)) is not None:
        if _PATHS[record.spec.kind] != under:
            raise NotFoundError(f"job {job_id} is of another kind; ask for {_location(record)}")
        return record
    if born + timedelta(seconds=gateway.settings.retention_s) < datetime.now(UTC):
        raise GoneError(f"job {job_id} is no longer kept; submit the input again")
    raise NotFoundError(f"no job {job_id}; the id is the one that submitting the input answered")


def _location(record: jobs.JobRecord) -> str:
    return f"{_PATHS[record.spec.kind]}/{record.id}"


async def answer_of(gateway: Gateway, record: jobs.JobRecord) -> Outcome:
    """The certificate once the job is done; before that, or if it failed or was cancelled, the job."""
    progress = await events.last_progress(gateway.redis, record.id)
    return record.answer(progress) if progress else _unread(record)


def _unread(record: jobs.JobRecord) -> Outcome:
    """The answer where no progress is known."""
    return record.answer(record.progress())


async def submitted(gateway: Gateway, record: jobs.JobRecord, response: Response, wait_s: int | None) -> Outcome:
    """The answer to a submission: the job, or its certificate if that is done within `wait_s`."""
    response.headers["Location"] = _location(record)
    if wait_s is None:
        return _unread(record)
    response.headers["Preference-Applied"] = f"wait={wait_s}"
    if wait_s == 0:
        return _unread(record)
    try:
        await _until_ended(gateway, record.id, wait_s)
        answer = await answer_of(gateway, await jobs.read(gateway.redis, record.id) or record)
    except RedisError:  # the job is queued: its id must not be lost with the connection
        answer = _unread(record)
    response.status_code = 202 if isinstance(answer, Job) else 200
    return answer


def preferred_wait(prefer: str | None) -> int | None:
    """The seconds that a `Prefer` header asks to wait, at most `MAX_WAIT_S`."""
    found = _WAIT.search(prefer or "")
    return min(int(found.group(1)), MAX_WAIT_S) if found else None


async def _until_ended(gateway: Gateway, job_id: str, wait_s: int) -> None:
    stream = events.follow(gateway.redis, job_id, wait_s=KEEP_ALIVE_S, closing=gateway.closing)
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s), aclosing(stream):
            async for _ in stream:
                pass


async def cancel(gateway: Gateway, record: jobs.JobRecord, *, under: str) -> Outcome:
    """Ends the job and deletes its input: draws that are queued are dropped, those that run are ignored.

    Raises:
        JobFinishedError: it had ended already.
    """
    retention_s = gateway.settings.retention_s
    cancelled = await jobs.finish(gateway.redis, record.id, "cancelled", retention_s=retention_s)
    now = await find(gateway, record.id, under=under)
    if not cancelled:
        raise JobFinishedError(f"job {record.id} is {now.state} already; only a queued or running job can be cancelled")
    return await answer_of(gateway, now)


async def follow(gateway: Gateway, record: jobs.JobRecord, last_event_id: str) -> Response:
    """Replays the job's events, then follows it until it ends."""
    if not record.is_open and not await _any_left(gateway, record.id, last_event_id):
        return Response(status_code=204)  # tells a browser's EventSource not to connect again
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(gateway, record.id, last_event_id), 200, headers, "text/event-stream")


async def _any_left(gateway: Gateway, job_id: str, after: str) -> bool:
    async with aclosing(events.follow(gateway.redis, job_id, after=after, wait_s=0)) as stream:
        return await anext(stream) is not None


async def _stream(gateway: Gateway, job_id: str, after: str) -> AsyncIterator[str]:
    following = events.follow(gateway.redis, job_id, after=after, wait_s=KEEP_ALIVE_S, closing=gateway.closing)
    try:
        async with aclosing(following) as stream:
            async for event in stream:
                if event is not None:
                    yield f"id: {event.id}\nevent: {event.name}\ndata: {event.data}\n\n"
                elif await jobs.is_open(gateway.redis, job_id):
                    yield ": keep-alive\n\n"
                else:
                    return
        if gateway.closing.is_set() and await jobs.is_open(gateway.redis, job_id):
            closing = Closing(id=job_id, lost=gateway.settings.redis_url is None)
            yield f"event: closing\ndata: {closing.model_dump_json()}\n\n"
    except RedisError:
        return  # the client connects again, with the id of the last event it saw
