"""A guard's job as far as it has been counted: votes in, orders or a certificate out."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from holdfast.certificates import Answer, Question, answer
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Progress, Stopped
from holdfast.questions import question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast.queue.settled import Settled
from holdfast_service.certifier.guard.evidence import Counted
from holdfast_service.certifier.guard.stopping import AHEAD, is_look, order_draws, stopped
from holdfast_service.certifier.guard.writing import write
from holdfast_service.certifier.writing import operator_norm


@dataclass(frozen=True, eq=False)
class GuardView:
    """An open job of a guard as far as it has been counted.

    Attributes:
        record: The job.
        spec: What it certifies.
        evidence: What its contiguous prefix of tallies comes to.
        found: What the prefix certified at the last look; None before the first.
        stopped: Why no more draws are wanted, or None.
    """

    record: JobRecord
    spec: GuardSpec
    evidence: Counted = field(repr=False)
    found: Answer | None = None
    stopped: Stopped | None = None

    @classmethod
    def begin(cls, record: JobRecord, spec: GuardSpec) -> "GuardView":
        """The view before the first tally."""
        return cls(record, spec, Counted.nothing(spec))

    @property
    def counted(self) -> int:
        """Tallies that were counted."""
        return self.evidence.tallies

    @property
    def wanted(self) -> tuple[Order, ...]:
        """The orders beyond the counted ones: `AHEAD` more, or fewer at the end of the draws."""
        return tuple(self._orders())

    @property
    def progress(self) -> Progress:
        """The view as clients see it while the job runs."""
        found = self.found
        return self.record.progress(
            self.evidence.draws,
            frontier=() if found is None else tuple(point.radius for point in found.frontier),
            verdict="abstained" if found is None else found.verdict,
        )

    def add(self, tally: Tally) -> "GuardView":
        """Counts the next tally, and looks at the evidence where that is due."""
        view = replace(self, evidence=self.evidence.with_tally(tally))
        return view._looked() if is_look(self.spec, view.evidence.draws) else view

    def certificate(self, stopped: Stopped, settled: Settled | None) -> Certificate:
        """The certificate, not yet signed, of a job whose sampling has stopped; a guard settles nothing beforehand."""
        evidence = self.evidence.looked(self.spec, self.record.seed)
        question = question_of(self.spec, operator_norm=operator_norm(self.record))
        return write(self.record, self.spec, question, evidence, answer(question, evidence.votes), stopped)

    def _looked(self) -> "GuardView":
        evidence = self.evidence.looked(self.spec, self.record.seed)
        question = self._look
        found = answer(question, evidence.votes)
        reason = stopped(self.spec, question, evidence.votes, found)
        return replace(self, evidence=evidence, found=found, stopped=reason)

    @property
    def _look(self) -> Question:
        """The parameters of a look on the way, which has no grid and never finds more than the certificate will say."""
        return replace(question_of(self.spec, operator_norm=operator_norm(self.record)), epsilons=())

    def _orders(self) -> Iterator[Order]:
        start = self.evidence.draws
        for index in range(self.counted, self.counted + AHEAD):
            draws = order_draws(self.spec, start)
            if draws <= 0:
                return
            yield Order(self.record.id, index, start, start + draws)
            start += draws
