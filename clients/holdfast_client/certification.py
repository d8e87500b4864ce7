"""The handle of one submitted certification."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Generic, TypeAlias, TypeVar

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.jobs import Issued, Job, Progress
from holdfast_client import calls
from holdfast_client.calls import Place
from holdfast_client.wire import AsyncWire, Wire

C = TypeVar("C", bound=Issued)


class Certification(Generic[C]):
    """The handle of one submitted certification; iterate for its progress, `wait` for its certificate.

    Args:
        wire: The connection to the service.
        place: Where the service has it.
    """

    def __init__(self, wire: Wire, place: Place[C]) -> None:
        self._wire, self._place = wire, place
        self.id = place.id

    def __repr__(self) -> str:
        return f"Certification({self.id!r})"

    def refresh(self) -> Job | C:
        """What the service says now: the certificate once it is done, the job otherwise."""
        return self._wire.run(calls.refresh(self._place))

    def __iter__(self) -> Iterator[Progress]:
        """Progress as it happens, until the certification has ended; a dropped connection is resumed."""
        for event in self._wire.events(f"{self._place.path}/events"):
            if event.name != "progress":
                return
            yield self._wire.service.parsed(Progress.model_validate_json, event.data.encode())

    def wait(self, timeout_s: float | None = None) -> C:
        """Waits for the certificate, at most `timeout_s` seconds where that is given.

        Raises:
            ProblemError: the certification failed; the class says why.
            CertificationCancelledError: it was cancelled.
            TimeoutError: it is still running; it goes on, and `wait` may be called again.
        """
        return self._wire.run(calls.wait(self._place, timeout_s))

    def cancel(self, timeout_s: float | None = None) -> None:
        """Cancels the certification: what it has queued is dropped.

        Args:
            timeout_s: How long the service may take, which is asked only once then.

        Raises:
            JobFinishedError: it had ended already.
        """
        self._wire.run(calls.cancel(self._place, timeout_s))


class AsyncCertification(Generic[C]):
    """`Certification` with `await`: `async for` its progress, `await` what it has been asked."""

    def __init__(self, wire: AsyncWire, place: Place[C]) -> None:
        self._wire, self._place = wire, place
        self.id = place.id

    def __repr__(self) -> str:
        return f"AsyncCertification({self.id!r})"

    async def refresh(self) -> Job | C:
        """`Certification.refresh`, awaited."""
        return await self._wire.run(calls.refresh(self._place))

    async def __aiter__(self) -> AsyncGenerator[Progress, None]:
        """Progress as it happens, until the certification has ended; a dropped connection is resumed."""
        async with aclosing(self._wire.events(f"{self._place.path}/events")) as events:
            async for event in events:
                if event.name != "progress":
                    return
                yield self._wire.service.parsed(Progress.model_validate_json, event.data.encode())

    async def wait(self, timeout_s: float | None = None) -> C:
        """`Certification.wait`, awaited; where the task is cancelled, the certification goes on."""
        return await self._wire.run(calls.wait(self._place, timeout_s))

    async def cancel(self, timeout_s: float | None = None) -> None:
        """`Certification.cancel`, awaited."""
        await self._wire.run(calls.cancel(self._place, timeout_s))


FeatureCertification: TypeAlias = Certification[FeatureCertificate]
AsyncFeatureCertification: TypeAlias = AsyncCertification[FeatureCertificate]
