"""The service's errors: one tree, one status table, one wire shape (RFC 9457).

    ProblemError
    ├── MalformedRequestError     400  the body is not what its media type says
    ├── MalformedImageError       400  the image cannot be decoded
    ├── NotFoundError             404  no such job, model or route
    ├── MethodNotAllowedError     405  the route exists, not for this method
    ├── JobFinishedError          409  a finished job cannot be cancelled
    ├── GoneError                 410  the job's retention time has passed
    ├── TooLargeError             413  the body or the image is over its limit
    ├── UnsupportedMediaTypeError 415  the body or the image has another media type
    ├── MissingFieldError         422  a field that must be given is not
    ├── UnknownFieldError         422  a field is given that there is none of
    ├── InvalidValueError         422  a value is of another kind, or outside its range
    ├── InputRefusedError         422  the guard cannot take this input
    ├── QueueFullError            429  as many jobs are queued as the service takes
    ├── InternalError             500  a defect of ours
    ├── PassFailedError           500  the guard failed on this job's passes three times
    ├── QueueUnreachableError     503  Redis does not answer
    ├── LoadingError              503  a worker is loading this model
    └── NoWorkerError             503  no live worker serves this model

The SDK rebuilds the same classes from the wire with `problem_error`.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

PROBLEM_BASE = "urn:holdfast:problem:"


class FieldError(BaseModel):
    """One rejected field: where it is and which rule it broke (never its value)."""

    model_config = ConfigDict(frozen=True)

    path: str
    message: str


class Problem(BaseModel):
    """The wire shape of every error, `application/problem+json`."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()


class ProblemError(Exception):
    """An error that a client sees; `detail` gives the value, the rule and the remedy."""

    slug: ClassVar[str]
    title: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = (), retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s

    def problem(self, instance: str | None = None) -> Problem:
        """This error as it goes over the wire."""
        return Problem(
            type=PROBLEM_BASE + self.slug,
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            errors=self.errors,
        )


class MalformedRequestError(ProblemError):
    """The body is not what its media type says."""

    slug, title, status = "malformed-request", "The request cannot be read", 400


class MalformedImageError(ProblemError):
    """The image cannot be decoded."""

    slug, title, status = "malformed-image", "The image cannot be decoded", 400


class NotFoundError(ProblemError):
    """No such job, model or route."""

    slug, title, status = "not-found", "Not found", 404


class MethodNotAllowedError(ProblemError):
    """The route exists, but not for this method."""

    slug, title, status = "method-not-allowed", "Method not allowed", 405


class JobFinishedError(ProblemError):
    """A finished job cannot be cancelled."""

    slug, title, status = "job-finished", "The job has already ended", 409


class GoneError(ProblemError):
    """The job's retention time has passed."""

    slug, title, status = "gone", "The job is no longer kept", 410


class TooLargeError(ProblemError):
    """The body or the image is over its limit."""

    slug, title, status = "too-large", "The body or the image is too large", 413


class UnsupportedMediaTypeError(ProblemError):
    """The body or the image has a media type that is not taken."""

    slug, title, status = "unsupported-media-type", "Unsupported media type", 415


class MissingFieldError(ProblemError):
    """A field that must be given is not."""

    slug, title, status = "missing-field", "A field is missing", 422


class UnknownFieldError(ProblemError):
    """A field is given that there is none of; others may be missing for it."""

    slug, title, status = "unknown-field", "A field is unknown", 422


class InvalidValueError(ProblemError):
    """A value is of another kind, or outside its range."""

    slug, title, status = "invalid-value", "A value cannot be accepted", 422


class InputRefusedError(ProblemError):
    """The guard cannot take this input."""

    slug, title, status = "input-refused", "The guard cannot take this input", 422


class QueueFullError(ProblemError):
    """As many jobs are queued as the service takes."""

    slug, title, status = "queue-full", "The queue is full", 429


class InternalError(ProblemError):
    """A defect of ours."""

    slug, title, status = "internal", "Internal error", 500


class PassFailedError(ProblemError):
    """The guard failed on this job's passes three times."""

    slug, title, status = "pass-failed", "The guard failed on this job", 500


class QueueUnreachableError(ProblemError):
    """Redis does not answer."""

    slug, title, status = "queue-unreachable", "The queue cannot be reached", 503


class LoadingError(ProblemError):
    """A worker is loading this model."""

    slug, title, status = "loading", "A worker is loading this model", 503


class NoWorkerError(ProblemError):
    """No live worker serves this model."""

    slug, title, status = "no-worker", "No live worker serves this model", 503


PROBLEMS = {PROBLEM_BASE + kind.slug: kind for kind in ProblemError.__subclasses__()}


def problem_error(problem: Problem, *, retry_after_s: int | None = None) -> ProblemError:
    """The exception that a wire problem stands for; an unknown type becomes `InternalError`."""
    error = PROBLEMS.get(problem.type, InternalError)
    return error(problem.detail, errors=problem.errors, retry_after_s=retry_after_s)
