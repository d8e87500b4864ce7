"""From a request to a queued job: model, spec, quota, image or fields, seed."""

import hashlib
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from anyio import to_thread
from pydantic import SecretStr

from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest, FeatureInput
from holdfast.contract.features.spec import resolve_embedding, resolve_features
from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast.contract.problems import (
    FieldError,
    InvalidValueError,
    LoadingError,
    NotFoundError,
    NoWorkerError,
    QueueFullError,
)
from holdfast.images import decode
from holdfast.questions import Identity, encoder_encoding, guard_encoding
from holdfast.queue import jobs, keys
from holdfast.queue.leases import Offer, offer
from holdfast_service.gateway.context import Gateway

_log = logging.getLogger(__name__)

Request = CertificationRequest | FeatureCertificationRequest | EmbeddingRequest


@dataclass(frozen=True)
class _Prepared:
    """An input as workers take it; `size` is the image's (height, width), (0, 0) of none, or (1, numeric fields)."""

    given: jobs.JobInput
    size: tuple[int, int]
    pixels_sha256: str


async def submit(gateway: Gateway, request: Request) -> jobs.JobRecord:
    """Queues the request as a job, or raises the problem that keeps it out; then nothing is left in the queue."""
    model = find_model(await offer(gateway.redis), request.model)
    spec = _resolved(request, model)
    await _check_quota(gateway)
    prepared = await to_thread.run_sync(_prepared, request.input, model, gateway, limiter=gateway.threads)
    record = jobs.JobRecord(
        id=jobs.new_id(),
        state="queued",
        spec=spec,
        seed=_seed(gateway.settings.root_seed, spec, prepared),
        created_at=datetime.now(UTC),
        input_size=prepared.size,
    )
    await jobs.create(gateway.redis, record, prepared.given, retention_s=gateway.settings.retention_s)
    _log.info("job %s queued for %s", record.id, model.name, extra={"job": record.id, "model": model.name})
    return record


def find_model(offered: Offer, name: str) -> GuardInfo | EncoderInfo:
    """The served model of this name.

    Raises:
        LoadingError: a worker is loading it.
        NoWorkerError: no worker lives at all.
        NotFoundError: workers live, but none serves this model.
    """
    if name in offered.served:
        return offered.served[name]
    if name in offered.loading or not offered.served:
        raise unserved(offered)
    raise NotFoundError(f"no live worker serves a model of this name; served: {', '.join(sorted(offered.served))}")


def _resolved(request: Request, model: GuardInfo | EncoderInfo) -> jobs.Spec:
    if isinstance(request, CertificationRequest):
        if not isinstance(model, GuardInfo):
            raise _other_kind(model.name, "an encoder, must be a guard; ask for POST /v1/feature-certifications")
        return resolve(request, model)
    if not isinstance(model, EncoderInfo):
        raise _other_kind(model.name, "a guard, must be an encoder; ask for POST /v1/certifications")
    if isinstance(request, EmbeddingRequest):
        return resolve_embedding(request, model)
    return resolve_features(request, model)


def _other_kind(name: str, rule: str) -> InvalidValueError:
    message = f"model {name} is {rule}"
    return InvalidValueError(message, errors=(FieldError(path="model", message=message),))


def unserved(offered: Offer) -> LoadingError | NoWorkerError:
    """The problem of a service that serves nothing, or nothing yet."""
    if offered.loading:
        return LoadingError(f"a worker is loading {', '.join(offered.loading)}; try again shortly", retry_after_s=5)
    return NoWorkerError("no worker is alive; start one, then try again", retry_after_s=10)


async def _check_quota(gateway: Gateway) -> None:
    active, limit = await gateway.redis.scard(keys.ACTIVE_JOBS), gateway.settings.max_active_jobs
    if active >= limit:
        raise QueueFullError(f"{active} jobs are queued or running, the limit is {limit}; try later", retry_after_s=10)


def _prepared(asked: Input | FeatureInput, model: GuardInfo | EncoderInfo, gateway: Gateway) -> _Prepared:
    if isinstance(asked, FeatureInput):
        image = decode(asked.image.data, max_pixels=gateway.settings.max_image_pixels)
        return _Prepared(jobs.JobInput(image_png=image.png), (image.height, image.width), image.pixels_sha256)
    if asked.fields is not None and isinstance(model, GuardInfo):
        numeric = sum(not field.values for field in model.fields)
        return _Prepared(jobs.JobInput(fields=asked.fields), (1, numeric), "")
    if asked.image is None:
        return _Prepared(jobs.JobInput(asked.text or "", asked.suffix), (0, 0), "")
    image = decode(asked.image.data, max_pixels=gateway.settings.max_image_pixels)
    given = jobs.JobInput(asked.text or "", asked.suffix, image.png)
    return _Prepared(given, (image.height, image.width), image.pixels_sha256)


def _seed(root_seed: SecretStr | None, spec: jobs.Spec, prepared: _Prepared) -> str:
    """The job's seed, 64 hexadecimal digits: fresh, or a function of the whole question under the root seed."""
    if root_seed is None:
        return secrets.token_hex(32)
    given = prepared.given
    identity = Identity(prepared.size, prepared.pixels_sha256, given.text, given.suffix, given.fields)
    encoded = guard_encoding(spec, identity) if isinstance(spec, GuardSpec) else encoder_encoding(spec, identity)
    return hmac.new(root_seed.get_secret_value().encode(), encoded, hashlib.sha256).hexdigest()
