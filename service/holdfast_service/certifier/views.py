"""What the certifier knows of an open job, for guards and encoders alike: a pure function of its prefix of tallies."""

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import Progress, Stopped
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast.queue.settled import Settled


class View(Protocol):
    """An open job as far as it has been counted."""

    @property
    def record(self) -> JobRecord:
        """The job."""

    @property
    def counted(self) -> int:
        """Tallies that were counted."""

    @property
    def wanted(self) -> Sequence[Order]:
        """The orders beyond the counted ones that this prefix asks for; none at the end of the draws."""

    @property
    def stopped(self) -> Stopped | None:
        """Why no more draws are wanted, or None."""

    @property
    def progress(self) -> Progress:
        """The view as clients see it while the job runs."""

    def add(self, tally: Tally) -> Self:
        """Counts the next tally, looks at the evidence where that is due, and plans ahead."""

    def certificate(self, stopped: Stopped, settled: Settled | None) -> Certificate | FeatureCertificate:
        """The certificate, not yet signed, of a job whose sampling has stopped."""


V = TypeVar("V", bound=View)


def count(view: V, tallies: Sequence[Tally]) -> V:
    """Counts one tally after the other until sampling stops, so that plan and stop depend on the draws alone."""
    for tally in tallies:
        view = view.add(tally)
        if view.stopped is not None:
            break
    return view


def is_checkpoint(counted: int) -> bool:
    """Whether to look at the evidence after this many orders: at first always, then by eighths.

    A look costs the certifier milliseconds, and what one more order brings shrinks with their number.
    """
    return counted % (1 << max(0, counted.bit_length() - 4)) == 0
