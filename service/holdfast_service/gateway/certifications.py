"""The routes of certifications: submit, read, follow, cancel."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Response
from redis.exceptions import RedisError
from starlette.responses import StreamingResponse

from holdfast.contract.certificates import Answer, Certificate, Job, Progress
from holdfast.contract.problems import (
    GoneError,
    InternalError,
    InvalidValueError,
    JobFinishedError,
    MalformedImageError,
    MalformedRequestError,
    NotFoundError,
    NoWorkerError,
    QueueFullError,
    QueueUnreachableError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from holdfast.contract.requests import CertificationRequest
from holdfast.queue import events, jobs
from holdfast_service.gateway.context import Gateway, GatewayOfApp
from holdfast_service.gateway.limits import require_json
from holdfast_service.gateway.problems import documented
from holdfast_service.gateway.submission import submit

__all__ = ["router"]

KEEP_ALIVE_S = 15.0
_MAX_WAIT_S = 60
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?\s*(?:$|[,;])", re.IGNORECASE)
_LOCATION = {"Location": {"description": "Where the job is.", "schema": {"type": "string"}}}

router = APIRouter(prefix="/v1/certifications", tags=["certifications"])


async def _find(gateway: Gateway, job_id: str) -> jobs.JobRecord:
    """The job of this id.

    Raises:
        NotFoundError: there was never such a job.
        GoneError: there may have been, but its retention time has passed.
    """
    born = jobs.made_at(job_id)
    if born is None:
        raise NotFoundError("no such job; the id is the one that submitting the input answered")
    if (record := await jobs.read(gateway.redis, job_id)) is not None:
        return record
    if born + timedelta(seconds=gateway.settings.retention_s) < datetime.now(UTC):
        raise GoneError(f"job {job_id} is no longer kept; submit the input again")
    raise NotFoundError(f"no job {job_id}; the id is the one that submitting the input answered")


async def _known(job_id: str, gateway: GatewayOfApp) -> jobs.JobRecord:
    return await _find(gateway, job_id)


KnownJob = Annotated[jobs.JobRecord, Depends(_known)]
_ON_A_JOB = documented(NotFoundError, GoneError, InvalidValueError, InternalError, QueueUnreachableError)


async def _answer(gateway: Gateway, record: jobs.JobRecord) -> Job | Certificate:
    progress = await events.last_progress(gateway.redis, record.id)
    return record.answer(progress) if progress else _unread(record)


def _unread(record: jobs.JobRecord) -> Job | Certificate:
    """The answer where no progress is known."""
    return record.answer(Progress(passes=0, max_passes=record.spec.max_passes))


@router.post(
    "",
    summary="Certify one input",
    status_code=202,
    response_model=Answer,
    response_description="The job that was queued.",
    dependencies=[Depends(require_json)],
    responses={
        200: {"model": Certificate, "description": "The certificate, done within `Prefer: wait`."},
        202: {"headers": _LOCATION},
        **documented(
            MalformedRequestError,
            MalformedImageError,
            NotFoundError,
            TooLargeError,
            UnsupportedMediaTypeError,
            InvalidValueError,
            QueueFullError,
            InternalError,
            QueueUnreachableError,
            NoWorkerError,
        ),
    },
)
async def submit_certification(
    request: CertificationRequest,
    response: Response,
    gateway: GatewayOfApp,
    prefer: Annotated[
        str | None, Header(description=f"`wait=N` waits up to N seconds, at most {_MAX_WAIT_S}, for the certificate.")
    ] = None,
) -> Job | Certificate:
    """Queues the input and answers with the job; `Location` is where its certificate will be."""
    record = await submit(gateway, request)
    response.headers["Location"] = f"/v1/certifications/{record.id}"
    wait_s = _preferred_wait(prefer)
    if wait_s is not None:
        response.headers["Preference-Applied"] = f"wait={wait_s}"
        try:
            await _until_ended(gateway, record.id, wait_s)
            answer = await _answer(gateway, await jobs.read(gateway.redis, record.id) or record)
        except RedisError:  # the job is queued: its id must not be lost with the connection
            answer = _unread(record)
        response.status_code = 200 if isinstance(answer, Certificate) else 202
        return answer
    return _unread(record)


def _preferred_wait(prefer: str | None) -> int | None:
    found = _WAIT.search(prefer or "")
    return min(int(found.group(1)), _MAX_WAIT_S) if found else None


async def _until_ended(gateway: Gateway, job_id: str, wait_s: int) -> None:
    stream = events.follow(gateway.redis, job_id, wait_s=KEEP_ALIVE_S)
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s), aclosing(stream):
            async for _ in stream:
                pass


@router.get("/{job_id}", summary="State, progress, certificate", response_model=Answer, responses=_ON_A_JOB)
async def read_certification(record: KnownJob, gateway: GatewayOfApp) -> Job | Certificate:
    """The certificate once the job is done; before that, or if it failed or was cancelled, the job."""
    return await _answer(gateway, record)


@router.delete(
    "/{job_id}",
    summary="Cancel a certification",
    response_model=Job,
    responses={**_ON_A_JOB, **documented(JobFinishedError)},
)
async def cancel_certification(record: KnownJob, gateway: GatewayOfApp) -> Job | Certificate:
    """Ends the job and deletes its input: passes that are queued are dropped, those that run are ignored."""
    retention_s = gateway.settings.retention_s
    cancelled = await jobs.finish(gateway.redis, record.id, "cancelled", retention_s=retention_s)
    now = await _find(gateway, record.id)
    if not cancelled:
        raise JobFinishedError(f"job {record.id} is {now.state} already; only a queued or running job can be cancelled")
    return await _answer(gateway, now)


@router.get(
    "/{job_id}/events",
    summary="Follow a certification",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `progress`, then one of `done`, `failed`, `cancelled`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The job has ended and every event up to its last was seen."},
        **_ON_A_JOB,
    },
)
async def follow_certification(
    record: KnownJob,
    gateway: GatewayOfApp,
    last_event_id: Annotated[
        str, Header(pattern=r"^\d{1,19}(-\d{1,19})?$", description="Resumes after the event of this id.")
    ] = "0",
) -> Response:
    """Replays the job's events, then follows it until it ends."""
    if not record.is_open and not await _any_left(gateway, record.id, last_event_id):
        return Response(status_code=204)  # tells a browser's EventSource not to connect again
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(gateway, record.id, last_event_id), 200, headers, "text/event-stream")


async def _any_left(gateway: Gateway, job_id: str, after: str) -> bool:
    async with aclosing(events.follow(gateway.redis, job_id, after=after, wait_s=0)) as stream:
        return await anext(stream) is not None


async def _stream(gateway: Gateway, job_id: str, after: str) -> AsyncIterator[str]:
    try:
        async with aclosing(events.follow(gateway.redis, job_id, after=after, wait_s=KEEP_ALIVE_S)) as stream:
            async for event in stream:
                if event is not None:
                    yield f"id: {event.id}\nevent: {event.name}\ndata: {event.data}\n\n"
                elif await jobs.is_open(gateway.redis, job_id):
                    yield ": keep-alive\n\n"
                else:
                    return
    except RedisError:
        return  # the client connects again, with the id of the last event it saw
