"""The routes that every kind of job has: read it, cancel it, follow it."""

from fastapi import APIRouter, Depends, Response

from holdfast.contract.jobs import Job
from holdfast.queue.jobs import JobRecord
from holdfast_service.gateway import following
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.following import ON_A_JOB, ON_CANCELLING, LastEventId


def add_job_routes(router: APIRouter, path: str, *, name: str, answer: object) -> None:
    """Adds the routes of the jobs under a path.

    Args:
        router: What serves the path.
        path: Where jobs of this kind are submitted.
        name: What such a job is called in the names of its routes.
        answer: The type of what reading one answers.
    """

    async def known(job_id: str, gateway: GatewayOfApp) -> JobRecord:
        return await following.find(gateway, job_id, under=path)

    known_job, where, what = Depends(known), f"{path}/{{job_id}}", name.replace("_", " ")

    @router.get(
        where, name=f"read_{name}", summary="State, progress, certificate", response_model=answer, responses=ON_A_JOB
    )
    async def read(gateway: GatewayOfApp, record: JobRecord = known_job) -> following.Outcome:
        """The certificate once the job is done; before that, or if it failed or was cancelled, the job."""
        return await following.answer_of(gateway, record)

    @router.delete(
        where, name=f"cancel_{name}", summary=f"Cancel a {what}", response_model=Job, responses=ON_CANCELLING
    )
    async def cancel(gateway: GatewayOfApp, record: JobRecord = known_job) -> following.Outcome:
        """Ends the job and deletes its input: draws that are queued are dropped, those that run are ignored."""
        return await following.cancel(gateway, record, under=path)

    @router.get(
        f"{where}/events",
        name=f"follow_{name}",
        summary=f"Follow a {what}",
        response_class=Response,
        responses=following.EVENTS,
    )
    async def follow(
        gateway: GatewayOfApp, record: JobRecord = known_job, last_event_id: LastEventId = "0"
    ) -> Response:
        """Replays the job's events, then follows it until it ends."""
        return await following.follow(gateway, record, last_event_id)
