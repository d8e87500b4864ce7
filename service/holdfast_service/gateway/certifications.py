"""The routes of certifications."""

from fastapi import APIRouter, Depends, Response

from holdfast.contract.guard.certificates import Certificate, JobOrCertificate
from holdfast.contract.guard.requests import CertificationRequest
from holdfast_service.gateway import following
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.following import LOCATION, ON_SUBMISSION, Prefer
from holdfast_service.gateway.job_routes import add_job_routes
from holdfast_service.gateway.limits import require_json
from holdfast_service.gateway.submission import submit

PATH = "/v1/certifications"

router = APIRouter(tags=["certifications"])


@router.post(
    PATH,
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


add_job_routes(router, PATH, name="certification", answer=JobOrCertificate)
