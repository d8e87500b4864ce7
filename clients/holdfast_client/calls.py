"""What each call asks of the service, and what it makes of the answers: all that is alike for both clients.

Each is a generator of steps (`service.Steps`), which a wire goes through, with or without `await`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx

from holdfast.contract.base import Strict
from holdfast.contract.features.certificates import FeatureCertificate, feature_certification_from_json
from holdfast.contract.features.keywords import CertifyFeaturesKeywords, EmbedKeywords
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.guard.certificates import Certificate, certification_from_json
from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.jobs import Issued, Job, KeySet, Verification
from holdfast.contract.models import EncoderInfo, GuardInfo, ModelList
from holdfast.contract.problems import InternalError, problem_error
from holdfast_client.asking import request_body
from holdfast_client.errors import CertificationCancelledError, ServiceUnreachableError
from holdfast_client.service import BRIEFLY_S, PASSING, PATIENTLY_S, Ask, Service, Steps
from holdfast_client.verification import Checkable, as_json

__all__ = [
    "FEATURES",
    "GUARD",
    "Kind",
    "Place",
    "cancel",
    "embed",
    "keys",
    "models",
    "ready",
    "refresh",
    "submit",
    "verify",
    "wait",
]

C = TypeVar("C", bound=Issued)
T = TypeVar("T")

_EMBEDDING_WAIT_S = 60.0  # the service keeps the answer of `POST /v1/embeddings` back for so long
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


@dataclass(frozen=True)
class Kind(Generic[C]):
    """One kind of certification: where it is submitted, what may be asked, and how its answers are read."""

    path: str
    request: type[Strict]
    keywords: type
    read: Callable[[bytes], Job | C]


GUARD: Kind[Certificate] = Kind("/v1/certifications", CertificationRequest, CertifyKeywords, certification_from_json)
FEATURES: Kind[FeatureCertificate] = Kind(
    "/v1/feature-certifications", FeatureCertificationRequest, CertifyFeaturesKeywords, feature_certification_from_json
)


@dataclass(frozen=True)
class Place(Generic[C]):
    """One submitted certification."""

    kind: Kind[C]
    id: str

    @property
    def path(self) -> str:
        """Where the service has it."""
        return f"{self.kind.path}/{quote(self.id, safe='')}"


def submit(service: Service, kind: Kind[C], asked: Mapping[str, object]) -> Steps[str]:
    """The id of the job that the keywords ask for."""
    ask = Ask("POST", kind.path, kind.read, request_body(kind.request, kind.keywords, asked))
    return (yield from _sent(service, ask)).id


def refresh(service: Service, place: Place[C]) -> Steps[Job | C]:
    """The certificate once it is done, the job otherwise."""
    return (yield from _read(service, Ask("GET", place.path, place.kind.read), PATIENTLY_S))


def wait(service: Service, place: Place[C], timeout_s: float | None) -> Steps[C]:
    """The certificate, for which it waits."""
    deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
    pause = _FIRST_PAUSE_S
    while isinstance(answer := (yield from refresh(service, place)), Job):
        _raise_if_ended(answer)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"{place.id} has no certificate after {timeout_s} s; it goes on: call wait() again, or cancel()"
            )
        yield min(pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return answer


def cancel(service: Service, place: Place[C], timeout_s: float | None) -> Steps[None]:
    """Cancels the certification; tried once where there is a timeout."""
    ask = Ask("DELETE", place.path, place.kind.read, timeout_s=timeout_s)
    yield from _sent(service, ask, BRIEFLY_S if timeout_s is None else ())


def embed(service: Service, asked: Mapping[str, object], timeout_s: float | None) -> Steps[FeatureCertificate]:
    """The certificate of an embedding, for which it waits."""
    body = request_body(EmbeddingRequest, EmbedKeywords, asked)
    ask = Ask("POST", "/v1/embeddings", FEATURES.read, body, kept_back_s=_EMBEDDING_WAIT_S)
    answer = yield from _sent(service, ask)
    if isinstance(answer, Job):
        return (yield from wait(service, Place(FEATURES, answer.id), timeout_s))
    return answer


def verify(service: Service, certificate: Checkable) -> Steps[Verification]:
    """The service's check."""
    ask = Ask("POST", "/v1/verify", Verification.model_validate_json, as_json(certificate))
    return (yield from _sent(service, ask))


def keys(service: Service) -> Steps[KeySet]:
    """The service's keys."""
    return (yield from _read(service, Ask("GET", "/.well-known/holdfast-keys.json", KeySet.model_validate_json)))


def models(service: Service) -> Steps[tuple[GuardInfo | EncoderInfo, ...]]:
    """What is served."""
    return (yield from _read(service, Ask("GET", "/v1/models", ModelList.model_validate_json))).models


def ready(service: Service) -> Steps[bool]:
    """Whether the service can take work; asked once."""
    with service.telling():
        response: httpx.Response = yield Ask("GET", "/readyz", bytes)
    return response.status_code == httpx.codes.OK


def _read(service: Service, ask: Ask[T], pauses_s: Sequence[float] = BRIEFLY_S) -> Steps[T]:
    """The answer of a call that only reads, which is asked again where the connection or the queue fails."""
    return (yield from _tried(service, ask, pauses_s, PASSING))


def _sent(service: Service, ask: Ask[T], pauses_s: Sequence[float] = BRIEFLY_S) -> Steps[T]:
    """The answer of a call that acts; sent again only where it cannot have been received."""
    return (yield from _tried(service, ask, pauses_s, (ServiceUnreachableError,)))


def _tried(service: Service, ask: Ask[T], pauses_s: Sequence[float], passing: tuple[type[Exception], ...]) -> Steps[T]:
    for pause in pauses_s:
        try:
            return (yield from _once(service, ask))
        except passing:
            yield pause
    return (yield from _once(service, ask))


def _once(service: Service, ask: Ask[T]) -> Steps[T]:
    with service.telling():
        response: httpx.Response = yield ask
    return service.parsed(ask.read, service.accepted(response).content)


def _raise_if_ended(job: Job) -> None:
    if job.state == "failed":
        raise InternalError(f"{job.id} failed without a reason") if job.problem is None else problem_error(job.problem)
    if job.state == "cancelled":
        raise CertificationCancelledError(f"{job.id} was cancelled, so it has no certificate; submit the input again")
