"""What each call asks of the service, and what it makes of the answers: all that is alike for both clients.

Each is a generator of steps (`service.Steps`), which a wire goes through, with or without `await`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

from holdfast.contract.base import Strict
from holdfast.contract.features.certificates import FeatureCertificate, feature_certification_from_json
from holdfast.contract.features.keywords import CertifyFeaturesKeywords, EmbedKeywords
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.guard.certificates import Certificate, certification_from_json
from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.jobs import Issued, Job, KeySet, Verification
from holdfast.contract.models import ModelList
from holdfast.contract.problems import InternalError, ProblemError, problem_error
from holdfast_client.asking import request_body
from holdfast_client.errors import CertificationCancelledError, ServiceUnreachableError, UnexpectedAnswerError
from holdfast_client.service import BRIEFLY_S, PASSING, PATIENTLY_S, Ask, Steps
from holdfast_client.verification import Checkable, as_json

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
KEYS = Ask("GET", "/.well-known/holdfast-keys.json", KeySet.model_validate_json)
MODELS = Ask("GET", "/v1/models", ModelList.model_validate_json)


@dataclass(frozen=True)
class Place(Generic[C]):
    """One submitted certification."""

    kind: Kind[C]
    id: str

    @property
    def path(self) -> str:
        """Where the service has it."""
        return f"{self.kind.path}/{quote(self.id, safe='')}"


def submit(kind: Kind[C], asked: Mapping[str, object]) -> Steps[Place[C]]:
    """Where the job is that the keywords ask for."""
    ask = Ask("POST", kind.path, kind.read, request_body(kind.request, kind.keywords, asked))
    return Place(kind, (yield from send(ask)).id)


def refresh(place: Place[C]) -> Steps[Job | C]:
    """The certificate once it is done, the job otherwise."""
    return (yield from read(Ask("GET", place.path, place.kind.read), PATIENTLY_S))


def wait(place: Place[C], timeout_s: float | None) -> Steps[C]:
    """The certificate, for which it waits."""
    deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
    pause = _FIRST_PAUSE_S
    while isinstance(answer := (yield from refresh(place)), Job):
        _raise_if_ended(answer)
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"{place.id} has no certificate after {timeout_s} s; it goes on: call wait() again, or cancel()"
            )
        yield min(pause, left)
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return answer


def cancel(place: Place[C], timeout_s: float | None) -> Steps[None]:
    """Cancels the certification; tried once where there is a timeout."""
    ask = Ask("DELETE", place.path, place.kind.read, timeout_s=timeout_s)
    yield from send(ask, BRIEFLY_S if timeout_s is None else ())


def embed(asked: Mapping[str, object], timeout_s: float | None) -> Steps[FeatureCertificate]:
    """The certificate of an embedding, for which it waits."""
    body = request_body(EmbeddingRequest, EmbedKeywords, asked)
    answer = yield from send(Ask("POST", "/v1/embeddings", FEATURES.read, body, kept_back_s=_EMBEDDING_WAIT_S))
    return (yield from wait(Place(FEATURES, answer.id), timeout_s)) if isinstance(answer, Job) else answer


def verify(certificate: Checkable) -> Steps[Verification]:
    """The service's check."""
    return (yield from send(Ask("POST", "/v1/verify", Verification.model_validate_json, as_json(certificate))))


def ready() -> Steps[bool]:
    """Whether the service can take work; asked once."""
    try:
        yield Ask("GET", "/readyz", bytes)
    except (ProblemError, UnexpectedAnswerError):
        return False
    return True


def read(ask: Ask[T], pauses_s: Sequence[float] = BRIEFLY_S) -> Steps[T]:
    """The answer of a call that only reads, which is asked again where the connection or the queue fails."""
    return _tried(ask, pauses_s, PASSING)


def send(ask: Ask[T], pauses_s: Sequence[float] = BRIEFLY_S) -> Steps[T]:
    """The answer of a call that acts; sent again only where it cannot have been received."""
    return _tried(ask, pauses_s, (ServiceUnreachableError,))


def _tried(ask: Ask[T], pauses_s: Sequence[float], passing: tuple[type[Exception], ...]) -> Steps[T]:
    answer: T
    for pause in pauses_s:
        try:
            answer = yield ask
        except passing:
            yield pause
        else:
            return answer
    answer = yield ask
    return answer


def _raise_if_ended(job: Job) -> None:
    if job.state == "failed":
        raise InternalError(f"{job.id} failed without a reason") if job.problem is None else problem_error(job.problem)
    if job.state == "cancelled":
        raise CertificationCancelledError(f"{job.id} was cancelled, so it has no certificate; submit the input again")
