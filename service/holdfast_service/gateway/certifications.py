"""The routes of certifications: submit, read, follow, cancel."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from holdfast.contract.guard.certificates import Certificate, JobOrCertificate
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.jobs import Job
from holdfast.queue import jobs
from holdfast_service.gateway import following
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.following import LOCATION, ON_A_JOB, ON_CANCELLING, ON_SUBMISSION, LastEventId, Prefer
from holdfast_service.gateway.limits import require_json
from holdfast_service.gateway.submission import submit

__all__ = ["router"]

PATH = "/v1/certifications"

router = APIRouter(prefix=PATH, tags=["certifications"])


async def _known(job_id: str, gateway: GatewayOfApp) -> jobs.JobRecord:
    return await following.find(gateway, job_id, under=PATH)


KnownJob = Annotated[jobs.JobRecord, Depends(_known)]


@router.post(
    "",
    summary="Certify one input",
    status_code=202,
    response_model=JobOrCertificate,
    response_description="The job that was queued.",
    dependencies=[Depends(require_json)],
    responses={
        200: {"model": Certificate, "description": "The certificate, done within `Prefer: wait`."},
        202: {"headers": LOCATION},
        **ON_SUBMISSION,
    },
)
async def submit_certification(
    request: CertificationRequest, response: Response, gateway: GatewayOfApp, prefer: Prefer = None
) -> following.Outcome:
    """Queues the input and answers with the job; `Location` is where its certificate will be."""
    record = await submit(gateway, request)
    return await following.submitted(gateway, record, response, following.preferred_wait(prefer))


@router.get("/{job_id}", summary="State, progress, certificate", response_model=JobOrCertificate, responses=ON_A_JOB)
async def read_certification(record: KnownJob, gateway: GatewayOfApp) -> following.Outcome:
    """The certificate once the job is done; before that, or if it failed or was cancelled, the job."""
    return await following.answer_of(gateway, record)


@router.delete("/{job_id}", summary="Cancel a certification", response_model=Job, responses=ON_CANCELLING)
async def cancel_certification(record: KnownJob, gateway: GatewayOfApp) -> following.Outcome:
    """Ends the job and deletes its input: passes that are queued are dropped, those that run are ignored."""
    return await following.cancel(gateway, record, under=PATH)


@router.get("/{job_id}/events", summary="Follow a certification", response_class=Response, responses=following.EVENTS)
async def follow_certification(record: KnownJob, gateway: GatewayOfApp, last_event_id: LastEventId = "0") -> Response:
    """Replays the job's events, then follows it until it ends."""
    return await following.follow(gateway, record, last_event_id)
