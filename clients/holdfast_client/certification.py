"""The handle of one submitted certification."""

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeAlias, TypeVar
from urllib.parse import quote

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.jobs import Job, Progress
from holdfast.contract.problems import InternalError, problem_error
from holdfast_client.errors import CertificationCancelledError
from holdfast_client.wire import PATIENTLY_S, Wire

__all__ = ["Certification", "FeatureCertification"]

C = TypeVar("C")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Certification(Generic[C]):
    """The handle of one submitted certification; iterate for its progress, `wait` for its certificate.

    Args:
        wire: The connection to the service.
        path: Where certifications of this kind are.
        job_id: The id that submitting the input answered.
        read: Reads an answer: the certificate, a `C`, once it is done, the job otherwise.
    """

    def __init__(self, wire: Wire, path: str, job_id: str, read: Callable[[bytes], Job | C]) -> None:
        self._wire = wire
        self._path = f"{path}/{quote(job_id, safe='')}"
        self._read = read
        self.id = job_id

    def __repr__(self) -> str:
        return f"Certification({self.id!r})"

    def refresh(self) -> Job | C:
        """What the service says now: the certificate once it is done, the job otherwise."""
        return self._wire.get(self._path, self._read, pauses_s=PATIENTLY_S)

    def __iter__(self) -> Iterator[Progress]:
        """Progress as it happens, until the certification has ended; a dropped connection is resumed."""
        for event in self._wire.events(f"{self._path}/events"):
            if event.name != "progress":
                return
            yield self._wire.parsed(Progress.model_validate_json, event.data.encode())

    def wait(self, timeout_s: float | None = None) -> C:
        """Waits for the certificate, at most `timeout_s` seconds where that is given.

        Raises:
            ProblemError: the certification failed; the class says why.
            CertificationCancelledError: it was cancelled.
            TimeoutError: it is still running; it goes on, and `wait` may be called again.
        """
        deadline = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        pause = _FIRST_PAUSE_S
        while isinstance(answer := self.refresh(), Job):
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
        self._wire.send("DELETE", self._path, self._read)


FeatureCertification: TypeAlias = Certification[FeatureCertificate]


def _raise_if_ended(job: Job) -> None:
    if job.state == "failed":
        raise InternalError(f"{job.id} failed without a reason") if job.problem is None else problem_error(job.problem)
    if job.state == "cancelled":
        raise CertificationCancelledError(f"{job.id} was cancelled, so it has no certificate; submit the input again")
