"""A guard's job as far as it has been counted: votes in, orders or a certificate out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from holdfast.certificates import Answer, Question, answer
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Progress, Stopped
from holdfast.questions import question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast.queue.settled import Settled
from holdfast_service.certifier.guard.allocation import AHEAD, is_checkpoint, next_order, stopped
from holdfast_service.certifier.guard.evidence import Cells, counts_of, fold, no_cells, operator_norm
from holdfast_service.certifier.guard.writing import write

__all__ = ["GuardView"]


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
    def fingerprint(self) -> str:
        """Of the guard that votes."""
        return self.spec.fingerprint

    @property
    def counted(self) -> int:
        """Tallies that were counted."""
        return len(self.tallies)

    @property
    def progress(self) -> Progress:
        """The view as clients see it while the job runs."""
        found = self.found
        return Progress(
            passes=sum(tally.passes for tally in self.tallies),
            max_passes=self.spec.max_passes,
            frontier=() if found is None else tuple(point.radius for point in found.frontier),
            verdict="abstained" if found is None else found.verdict,
        )

    def count(self, tallies: Sequence[Tally]) -> "GuardView":
        """Counts one tally after the other, so that the plan and the stop depend on the draws alone."""
        view, spec = self, self.spec
        for tally in tallies:
            view = replace(view, tallies=(*view.tallies, tally), cells=fold(view.cells, tally))
            question = view._look
            if is_checkpoint(len(view.tallies), len(view.plan)):
                counts = counts_of(spec, view.record.seed, view.tallies, view.cells)
                found = answer(question, counts)
                passes = sum(tally.passes for tally in view.tallies)
                view = replace(view, found=found, stopped=stopped(spec, question, counts, found, passes))
            if view.stopped is not None:
                break
            view = view._planned(1)
        return view

    def certificate(self, settled: Settled | None) -> Certificate:
        """The certificate, not yet signed, of a job whose sampling has stopped; a guard settles nothing beforehand.

        Raises:
            ValueError: sampling has not stopped.
        """
        if self.stopped is None:
            raise ValueError(f"job {self.record.id} is still sampling, must have stopped; count its tallies first")
        counts = counts_of(self.spec, self.record.seed, self.tallies, self.cells)
        found = answer(question_of(self.spec, operator_norm=operator_norm(self.tallies)), counts)
        return write(self.record, self.spec, self.tallies, self.cells, found, self.stopped)

    @property
    def _look(self) -> Question:
        """The parameters of a look on the way, which has no grid and never finds more than the certificate will say."""
        return replace(question_of(self.spec, operator_norm=operator_norm(self.tallies)), epsilons=())

    def _planned(self, orders_more: int) -> "GuardView":
        plan = self.plan
        question = self._look
        for _ in range(orders_more):
            if (order := next_order(self.spec, question, self.record.id, plan, self.cells)) is None:
                break
            plan = (*plan, order)
        return replace(self, plan=plan)
