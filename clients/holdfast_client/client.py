"""The synchronous client: submit an input, follow its certification, get the certificate."""

import base64
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from holdfast.contract.certificates import Certificate, Job, Progress, answer_from_json
from holdfast.contract.models import ModelInfo, ModelList, TokenKernelName
from holdfast.contract.problems import FieldError, InternalError, InvalidValueError, problem_error
from holdfast.contract.requests import CertificationRequest
from holdfast_client.errors import CertificationCancelledError
from holdfast_client.wire import PATIENTLY_S, Wire

__all__ = ["Certification", "Client"]

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Certification:
    """The handle of one submitted certification; iterate for its progress, `wait` for its certificate."""

    def __init__(self, wire: Wire, job_id: str) -> None:
        self._wire = wire
        self._path = f"/v1/certifications/{quote(job_id, safe='')}"
        self.id = job_id

    def __repr__(self) -> str:
        return f"Certification({self.id!r})"

    def refresh(self) -> Job | Certificate:
        """What the service says now: the certificate once it is done, the job otherwise."""
        return self._wire.get(self._path, answer_from_json, pauses_s=PATIENTLY_S)

    def __iter__(self) -> Iterator[Progress]:
        """Progress as it happens, until the certification has ended; a dropped connection is resumed."""
        for event in self._wire.events(f"{self._path}/events"):
            if event.name != "progress":
                return
            yield self._wire.parsed(Progress.model_validate_json, event.data.encode())

    def wait(self, timeout_s: float | None = None) -> Certificate:
        """Waits for the certificate, at most `timeout_s` seconds where that is given.

        Raises:
            ProblemError: the certification failed; the class says why.
            CertificationCancelledError: it was cancelled.
            TimeoutError: it is still running; it goes on, and `wait` may be called again.
        """
        deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        pause = _FIRST_PAUSE_S
        while not isinstance(answer := self.refresh(), Certificate):
            _raise_if_ended(answer)
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    f"{self.id} has no certificate after {timeout_s} s; it goes on: call wait() again, or cancel()"
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return answer

    def cancel(self) -> None:
        """Cancels the certification: what it has queued is dropped.

        Raises:
            JobFinishedError: it had ended already.
        """
        self._wire.send("DELETE", self._path, answer_from_json)


class Client:
    """A connection to one Holdfast service; a context manager.

    Args:
        base_url: Where the service is; the environment's `HOLDFAST_URL`, then `http://127.0.0.1:8420`, if not given.
        timeout_s: How long one call may take to connect, and to answer.
        transport: How httpx reaches the service; for tests.
    """

    def __init__(
        self, base_url: str | None = None, *, timeout_s: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._wire = Wire(base_url, timeout_s=timeout_s, transport=transport)

    @property
    def url(self) -> str:
        """The service's URL, without credentials."""
        return self._wire.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; certifications go on."""
        self._wire.close()

    def certify(
        self,
        *,
        text: str,
        image: str | os.PathLike[str] | bytes,
        suffix: str = "",
        model: str | None = None,
        slots: int | None = None,
        token_kernel: TokenKernelName | None = None,
        beta: float | None = None,
        sigma: float | None = None,
        tau: float | None = None,
        alpha: float | None = None,
        max_passes: int | None = None,
        stop: Literal["any_time", "fixed"] | None = None,
        tolerance: float | None = None,
        epsilons: Sequence[float] | None = None,
    ) -> Certification:
        """Submits one input; what is not given gets the model's default.

        Args:
            text: The text to certify.
            image: The PNG, JPEG or WebP file: its path or its bytes.
            suffix: The untrusted tail of the text, if it is known.
            model: The guard's name.
            slots: Token positions m after the text that the attacker may rewrite.
            token_kernel: The noise of a slot.
            beta: Corruption rate of a slot, in (0, 1].
            sigma: Standard deviation of the image noise, [0,1] pixels of the guard's noise space.
            tau: Flag where the smoothed Unsafe probability exceeds it, in (0, 1).
            alpha: The risk that any number of the certificate is wrong, in (0, 0.5].
            max_passes: The most noisy passes to spend.
            stop: `any_time` may stop early; `fixed` spends every pass.
            tolerance: Stop where no radius can grow by more than this share of the largest.
            epsilons: Image radii to report the worst-case Unsafe probability at, L2 in the noise space.

        Raises:
            InvalidValueError: a value is outside its range.
            ProblemError: the service refuses; the class says why.
            ServiceUnreachableError: no service answers.
        """
        request = _request(
            {
                "model": model,
                "input": {"text": text, "suffix": suffix, "image": {"data": _base64(image)}},
                "threat": {"text": {"slots": slots}},
                "noise": {"token_kernel": token_kernel, "beta": beta, "sigma": sigma},
                "decision": {"tau": tau},
                "confidence": {"alpha": alpha},
                "sampling": {"max_passes": max_passes, "stop": stop, "tolerance": tolerance},
                "epsilons": None if epsilons is None else tuple(epsilons),
            }
        )
        body = request.model_dump_json(exclude_unset=True)
        return self.certification(self._wire.send("POST", "/v1/certifications", answer_from_json, body=body).id)

    def certification(self, job_id: str) -> Certification:
        """The handle of a certification that was submitted before."""
        return Certification(self._wire, job_id)

    def models(self) -> tuple[ModelInfo, ...]:
        """The guards that are served now."""
        return self._wire.get("/v1/models", ModelList.model_validate_json).models

    def ready(self) -> bool:
        """Whether the service can take work.

        Raises:
            ServiceUnreachableError: no service answers.
        """
        return self._wire.status("/readyz") == httpx.codes.OK


def _base64(image: str | os.PathLike[str] | bytes) -> str:
    return base64.b64encode(image if isinstance(image, bytes) else Path(image).read_bytes()).decode()


def _request(asked: Mapping[str, Any]) -> CertificationRequest:
    try:
        return CertificationRequest.model_validate(_given(asked))
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
    errors = [FieldError(path=".".join(map(str, part["loc"])), message=part["msg"]) for part in found]
    raise InvalidValueError("; ".join(f"{part.path}: {part.message}" for part in errors), errors=errors)


def _given(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were asked for: the service knows the defaults."""
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in asked.items()
        if value is not None
    }


def _raise_if_ended(job: Job) -> None:
    if job.state == "failed":
        raise InternalError(f"{job.id} failed without a reason") if job.problem is None else problem_error(job.problem)
    if job.state == "cancelled":
        raise CertificationCancelledError(f"{job.id} was cancelled, so it has no certificate; submit the input again")
