"""A guard's job as far as it has been counted: votes in, orders or a certificate out."""

from dataclasses import dataclass, replace

from holdfast.certificates import Answer, Counts, Question, answer
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Progress, Stopped
from holdfast.questions import question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast.queue.settled import Settled
from holdfast_service.certifier.guard.allocation import AHEAD, next_order, stopped
from holdfast_service.certifier.guard.evidence import Cells, counts_of, fold, no_cells
from holdfast_service.certifier.guard.writing import write
from holdfast_service.certifier.views import is_checkpoint
from holdfast_service.certifier.writing import operator_norm


@dataclass(frozen=True)
class GuardView:
    """An open job of a guard as far as it has been counted.

    Attributes:
        record: The job.
        spec: What it certifies.
        cells: What its tallies add up to.
        tallies: Its contiguous prefix of tallies.
        plan: The orders that this prefix asks for: `AHEAD` more than are counted, or fewer at the end of the passes.
        found: What the prefix certifies; None before the first tally.
        stopped: Why no more draws are wanted, or None.
    """

    record: JobRecord
    spec: GuardSpec
    cells: Cells
    tallies: tuple[Tally, ...] = ()
    plan: tuple[Order, ...] = ()
    found: Answer | None = None
    stopped: Stopped | None = None

    @classmethod
    def begin(cls, record: JobRecord, spec: GuardSpec) -> "GuardView":
        """The view before the first tally."""
        return cls(record, spec, no_cells(spec))._planned(AHEAD)

    @property
    def counted(self) -> int:
        """Tallies that were counted."""
        return len(self.tallies)

    @property
    def passes(self) -> int:
        """Noisy passes that were counted."""
        return sum(tally.passes for tally in self.tallies)

    @property
    def wanted(self) -> tuple[Order, ...]:
        """The orders beyond the counted ones that this prefix asks for."""
        return self.plan[self.counted :]

    @property
    def progress(self) -> Progress:
        """The view as clients see it while the job runs."""
        found = self.found
        return Progress(
            passes=self.passes,
            max_passes=self.spec.max_passes,
            frontier=() if found is None else tuple(point.radius for point in found.frontier),
            verdict="abstained" if found is None else found.verdict,
        )

    def add(self, tally: Tally) -> "GuardView":
        """Counts the next tally, looks at the evidence where that is due, and plans an order more."""
        view = replace(self, tallies=(*self.tallies, tally), cells=fold(self.cells, tally))
        if is_checkpoint(len(view.tallies), len(view.plan)):
            question, counts = view._look, view._counts
            found = answer(question, counts)
            reason = stopped(view.spec, question, counts, found, view.passes)
            view = replace(view, found=found, stopped=reason)
        return view if view.stopped is not None else view._planned(1)

    def certificate(self, stopped: Stopped, settled: Settled | None) -> Certificate:
        """The certificate, not yet signed, of a job whose sampling has stopped; a guard settles nothing beforehand."""
        found = answer(self._question, self._counts)
        return write(self.record, self.spec, self.tallies, self.cells, found, stopped)

    @property
    def _question(self) -> Question:
        return question_of(self.spec, operator_norm=operator_norm(self.record))

    @property
    def _counts(self) -> Counts:
        return counts_of(self.spec, self.record.seed, self.tallies, self.cells)

    @property
    def _look(self) -> Question:
        """The parameters of a look on the way, which has no grid and never finds more than the certificate will say."""
        return replace(self._question, epsilons=())

    def _planned(self, orders_more: int) -> "GuardView":
        plan = self.plan
        question = self._look
        for _ in range(orders_more):
            if (order := next_order(self.spec, question, self.record.id, plan, self.cells)) is None:
                break
            plan = (*plan, order)
        return replace(self, plan=plan)
