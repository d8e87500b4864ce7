"""The certifier's loop: hints that a job has news in, orders or a certificate out.

It keeps no state that matters: everything is recomputed from the tallies, so it may be restarted at any time and run
beside others. The stopping rule is applied to every prefix of orders in turn, so the certificate depends on the draws
alone, not on which worker was fast.
"""

import asyncio
import logging
import os
import secrets
import socket
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from holdfast.certificates import Answer, answer
from holdfast.contract.certificates import Certificate, Progress, Stopped
from holdfast.contract.problems import InternalError
from holdfast.queue import events, jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.orders import Order, Tally
from holdfast.signing import SigningKey, sign
from holdfast_service.certifier.allocation import AHEAD, is_checkpoint, next_order, stopped
from holdfast_service.certifier.evidence import Cells, counts_of, fold, no_cells, progress_question, question_of
from holdfast_service.certifier.writing import write
from holdfast_service.settings import ServiceSettings

__all__ = ["advance", "run", "serve"]

_log = logging.getLogger(__name__)
_EMPTY_PAUSE_S = 0.02
_REDIS_PAUSE_S = 1.0


@dataclass(frozen=True)
class View:
    """An open job as far as it has been counted.

    Attributes:
        record: The job.
        cells: What its tallies add up to.
        tallies: Its contiguous prefix of tallies.
        plan: The orders that this prefix asks for: `AHEAD` more than are counted, or fewer at the end of the passes.
        found: What the prefix certifies; None before the first tally.
        stopped: Why no more draws are wanted, or None.
    """

    record: jobs.JobRecord
    cells: Cells
    tallies: tuple[Tally, ...] = ()
    plan: tuple[Order, ...] = ()
    found: Answer | None = None
    stopped: Stopped | None = None

    @property
    def progress(self) -> Progress:
        """The view as clients see it while the job runs."""
        found = self.found
        return Progress(
            passes=sum(tally.passes for tally in self.tallies),
            max_passes=self.record.spec.max_passes,
            frontier=() if found is None else tuple(point.radius for point in found.frontier),
            verdict="abstained" if found is None else found.verdict,
        )


async def serve(broker: Broker) -> None:
    """Runs a certifier until cancelled."""
    async with broker.client() as redis:
        await run(redis, ServiceSettings())


async def run(redis: AsyncRedis, settings: ServiceSettings) -> None:
    """Follows the hints, and looks at every open job unasked now and then: a hint may be lost with its reader."""
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    views: dict[str, View] = {}
    loop = asyncio.get_running_loop()
    swept = -settings.sweep_every_s
    while True:
        try:
            await orders.open_streams(redis)
            while True:
                job_ids = await _hinted(redis, name)
                if loop.time() - swept >= settings.sweep_every_s:
                    job_ids |= await jobs.active_jobs(redis)
                    swept = loop.time()
                for job_id in sorted(job_ids):
                    await _advance_safely(redis, settings, views, job_id)
                if not job_ids:
                    await asyncio.sleep(_EMPTY_PAUSE_S)
        except RedisError as error:
            _log.warning("the queue cannot be reached, will try again: %s", error)
            await asyncio.sleep(_REDIS_PAUSE_S)


async def _hinted(redis: AsyncRedis, name: str) -> set[str]:
    answer = await redis.xreadgroup(
        keys.CERTIFIER_GROUP, name, {keys.TALLY_HINTS: ">"}, count=100, block=500, noack=True
    )
    return {fields[b"job"].decode() for _, entries in answer or [] for _, fields in entries}


async def _advance_safely(redis: AsyncRedis, settings: ServiceSettings, views: dict[str, View], job_id: str) -> None:
    """One job's defect ends that job, not the certifier."""
    try:
        view = await advance(redis, settings, job_id, views.pop(job_id, None))
        if view is not None:
            views[job_id] = view
    except RedisError:
        raise
    except Exception:
        _log.exception("certifying failed", extra={"job": job_id})
        problem = InternalError(f"certifying {job_id} failed; its tallies are kept, see the certifier's log").problem()
        await jobs.finish(redis, job_id, "failed", retention_s=settings.retention_s, problem=problem)


async def advance(redis: AsyncRedis, settings: ServiceSettings, job_id: str, view: View | None = None) -> View | None:
    """Counts a job's new tallies, then orders more draws or ends it; None once it has ended."""
    if view is None:
        record = await jobs.read(redis, job_id)
        if record is None:
            return None
        view = _planned(View(record, no_cells(record.spec)), AHEAD)
    if not await jobs.is_open(redis, job_id):
        return None
    tallies = await orders.read_tallies(redis, job_id, first=len(view.tallies))
    if tallies:
        view = await asyncio.to_thread(_count, view, tallies)
        await events.publish(redis, job_id, view.progress)
    if view.stopped is not None:
        certificate = await asyncio.to_thread(_certificate, view, view.stopped, settings)
        await jobs.finish(redis, job_id, "done", retention_s=settings.retention_s, certificate=certificate)
        _log.info("certified", extra={"job": job_id, "passes": certificate.evidence.passes, "stopped": view.stopped})
        return None
    for order in view.plan[len(view.tallies) :]:
        await orders.issue(redis, view.record.spec.fingerprint, order)
    return view


def _count(view: View, tallies: list[Tally]) -> View:
    """Counts one tally after the other, so that the plan and the stop depend on the draws alone."""
    spec, seed = view.record.spec, view.record.seed
    for tally in tallies:
        view = replace(view, tallies=(*view.tallies, tally), cells=fold(view.cells, tally))
        question = progress_question(spec, view.tallies)
        if is_checkpoint(len(view.tallies), len(view.plan)):
            counts = counts_of(spec, seed, view.tallies, view.cells)
            found = answer(question, counts)
            passes = sum(tally.passes for tally in view.tallies)
            view = replace(view, found=found, stopped=stopped(spec, question, counts, found, passes))
        if view.stopped is not None:
            break
        view = _planned(view, 1)
    return view


def _planned(view: View, orders_more: int) -> View:
    spec, plan = view.record.spec, view.plan
    question = progress_question(spec, view.tallies)
    for _ in range(orders_more):
        if (order := next_order(spec, question, view.record.id, plan, view.cells)) is None:
            break
        plan = (*plan, order)
    return replace(view, plan=plan)


def _certificate(view: View, stopped: Stopped, settings: ServiceSettings) -> Certificate:
    """The job's certificate, signed if there is a key."""
    record, tallies = view.record, view.tallies
    found = answer(question_of(record.spec, tallies), counts_of(record.spec, record.seed, tallies, view.cells))
    certificate = write(record, tallies, view.cells, found, stopped)
    if settings.signing_key is None:
        return certificate
    key = SigningKey.from_text(settings.signing_key.get_secret_value())
    return certificate.model_copy(update={"signature": sign(certificate, key)})
