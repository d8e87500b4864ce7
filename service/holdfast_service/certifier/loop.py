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
from collections.abc import Mapping

from redis.exceptions import RedisError

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.spec import FeatureSpec
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import Stopped
from holdfast.contract.problems import InternalError
from holdfast.queue import events, jobs, keys, orders
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.settled import Settled
from holdfast.signing import SigningKey, sign
from holdfast_service.certifier.features.view import FeatureView
from holdfast_service.certifier.guard.view import GuardView
from holdfast_service.certifier.views import View, count
from holdfast_service.settings import ServiceSettings

_log = logging.getLogger(__name__)
_EMPTY_PAUSE_S = 0.02
_REDIS_PAUSE_S = 1.0


def _begin(record: jobs.JobRecord) -> View:
    if isinstance(record.spec, FeatureSpec):
        return FeatureView.begin(record, record.spec)
    return GuardView.begin(record, record.spec)


async def serve(broker: Broker, settings: ServiceSettings) -> None:
    """Runs a certifier until cancelled."""
    async with broker.client() as redis:
        await run(redis, settings)


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
        view = _begin(record)
    if not await jobs.is_open(redis, job_id):
        return None
    tallies = await orders.read_tallies(redis, job_id, first=view.counted)
    if tallies:
        view = await asyncio.to_thread(count, view, tallies)
        await events.publish(redis, job_id, view.progress)
    if view.stopped is not None:
        settled = await jobs.read_settled(redis, job_id)
        certificate = await asyncio.to_thread(_certificate, view, view.stopped, settled, settings)
        await jobs.finish(redis, job_id, "done", retention_s=settings.retention_s, certificate=certificate)
        _log.info("certified", extra={"job": job_id, "draws": view.progress.draws, "stopped": view.stopped})
        return None
    for order in view.wanted:
        await orders.issue(redis, view.record.spec.fingerprint, order)
    return view


def _certificate(
    view: View, stopped: Stopped, settled: Mapping[str, bytes], settings: ServiceSettings
) -> Certificate | FeatureCertificate:
    """The job's certificate, signed if there is a key."""
    certificate = view.certificate(stopped, Settled.from_fields(settled) if settled else None)
    if settings.signing_key is None:
        return certificate
    key = SigningKey.from_text(settings.signing_key.get_secret_value())
    return certificate.model_copy(update={"signature": sign(certificate, key)})
