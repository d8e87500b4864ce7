"""The routes of encoders: feature certifications and smoothed embeddings."""

from fastapi import APIRouter, Depends, Response

from holdfast.contract.features.certificates import FeatureCertificate, JobOrFeatureCertificate
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.jobs import Job
from holdfast_service.gateway import following
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.following import LOCATION, ON_SUBMISSION, Prefer
from holdfast_service.gateway.job_routes import add_job_routes
from holdfast_service.gateway.limits import require_json
from holdfast_service.gateway.submission import submit

PATH = "/v1/feature-certifications"

router = APIRouter(tags=["features"])


@router.post(
    PATH,
    summary="Certify a feature",
    status_code=202,
    response_model=JobOrFeatureCertificate,
    response_description="The job that was queued.",
    dependencies=[Depends(require_json)],
    responses={
        200: {"model": FeatureCertificate, "description": "The certificate, done within `Prefer: wait`."},
        202: {"headers": LOCATION},
        **ON_SUBMISSION,
    },
)
async def submit_feature_certification(
    request: FeatureCertificationRequest, response: Response, gateway: GatewayOfApp, prefer: Prefer = None
) -> following.Outcome:
    """Queues the image and answers with the job; `Location` is where its certificate will be."""
    record = await submit(gateway, request)
    return await following.submitted(gateway, record, response, following.preferred_wait(prefer))


add_job_routes(router, PATH, name="feature_certification", answer=JobOrFeatureCertificate)


@router.post(
    "/v1/embeddings",
    summary="Smoothed embedding of an image",
    response_model=JobOrFeatureCertificate,
    response_description="The embedding, in a certificate of what holds of it under attack.",
    dependencies=[Depends(require_json)],
    responses={
        202: {
            "model": Job,
            "headers": LOCATION,
            "description": f"Not done within {following.MAX_WAIT_S} seconds; `Location` is where it will be.",
        },
        **ON_SUBMISSION,
    },
)
async def embed(
    request: EmbeddingRequest, response: Response, gateway: GatewayOfApp, prefer: Prefer = None
) -> following.Outcome:
    """Answers with the mean of n0 noisy features, and with bounds on such a mean against every attack.

    Without `Prefer: wait=N` it waits as long as a request may; it is 200 with a certificate, or 202 with a job.
    """
    record = await submit(gateway, request)
    wait_s = following.preferred_wait(prefer)
    answer = await following.submitted(gateway, record, response, following.MAX_WAIT_S if wait_s is None else wait_s)
    response.status_code = 202 if isinstance(answer, Job) else 200
    return answer
