"""An encoder's job as far as it has been counted: scores in, orders or a certificate out.

A fixed number of draws is taken as planned. Where sampling may stop at any time, it stops by what the contiguous prefix
of tallies says of the mean bounds, which hold at every number of draws (maths.md §4).
"""

import base64
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import (
    FeatureCounts,
    FeatureQuestion,
    ScoreSample,
    feature_answer,
    feature_progress,
    sample_of_levels,
)
from holdfast.certificates.features.question import LEVELS
from holdfast.certificates.shifts.mixtures import mean_mixture
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.spec import FeatureSpec
from holdfast.contract.jobs import Progress, Stopped
from holdfast.questions import feature_question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast.queue.settled import Settled
from holdfast_service.certifier.features.writing import write
from holdfast_service.certifier.views import is_checkpoint
from holdfast_service.certifier.writing import operator_norm

AHEAD = 8
"""Orders that are out beyond the counted prefix."""
ORDER_DRAWS = 64
"""Draws in one order: whole blocks of seeded noise, few enough that no job holds a worker for long."""


@dataclass(frozen=True, eq=False)
class FeatureView:
    """An open job of an encoder as far as it has been counted.

    Attributes:
        record: The job.
        spec: What it certifies.
        histograms: Draws per channel and level, shape (channels, LEVELS + 1).
        votes: Draws whose own label was the certified one.
        draws: How many were counted.
        counted: Tallies that were counted.
        radius: What the prefix certifies of the first cosine floor; None before the first look or where nothing is.
        stopped: Why no more draws are wanted, or None.
    """

    record: JobRecord
    spec: FeatureSpec
    histograms: NDArray[np.int64]
    votes: int = 0
    draws: int = 0
    counted: int = 0
    radius: float | None = None
    stopped: Stopped | None = None

    @classmethod
    def begin(cls, record: JobRecord, spec: FeatureSpec) -> "FeatureView":
        """The view before the first tally."""
        return cls(record, spec, np.zeros((_channels(spec), LEVELS + 1), np.int64))

    @property
    def wanted(self) -> list[Order]:
        """The orders beyond the counted ones: `AHEAD` more, or fewer at the end."""
        spec, last = self.spec, math.ceil(self.spec.draws / ORDER_DRAWS)
        return [
            Order(self.record.id, index, index * ORDER_DRAWS, min(spec.draws, (index + 1) * ORDER_DRAWS))
            for index in range(self.counted, min(self.counted + AHEAD, last))
        ]

    @property
    def progress(self) -> Progress:
        """The view as clients see it while the job runs; its frontier is the first cosine floor's radius."""
        return self.record.progress(self.draws, frontier=(self.radius,))

    def add(self, tally: Tally) -> "FeatureView":
        """Counts the next tally, and looks at the evidence where that is due."""
        view = self._with(tally)
        if view.draws == view.spec.draws:
            return replace(view, stopped="draws_spent")
        return view._looked() if is_checkpoint(view.counted) else view

    def certificate(self, stopped: Stopped, settled: Settled | None) -> FeatureCertificate:
        """The certificate, not yet signed, of a job whose sampling has stopped.

        Raises:
            ValueError: the job has no reference.
        """
        if settled is None:
            raise ValueError(f"job {self.record.id} has no reference, must have one; see the worker's log")
        question = feature_question_of(
            self.spec,
            label=settled.label,
            prototypes=settled.cosines is not None,
            operator_norm=operator_norm(self.record),
        )
        counts = replace(self._counts(), cosines=settled.cosines, distances=settled.distances)
        found = feature_answer(question, counts)
        return write(self.record, self.spec, settled, counts, found, self.draws, stopped)

    def _with(self, tally: Tally) -> "FeatureView":
        draws, (channels, levels) = tally.draws, self.histograms.shape
        scores = np.frombuffer(base64.b64decode(tally.scores.levels), "<u2").reshape(channels, draws)
        slots = scores.astype(np.int64) + np.arange(channels)[:, None] * levels
        return replace(
            self,
            histograms=self.histograms + np.bincount(slots.ravel(), minlength=self.histograms.size).reshape(-1, levels),
            votes=self.votes + (tally.scores.votes or 0),
            draws=self.draws + draws,
            counted=self.counted + 1,
        )

    def _counts(self) -> FeatureCounts:
        samples = [_sample(histogram) for histogram in self.histograms]
        margins = self.spec.rivals
        return FeatureCounts(
            reference=samples[0],
            margins=tuple(samples[1 : 1 + margins]),
            clipped=tuple(samples[1 + margins :]),
            votes=None if self.spec.head is None else self.votes,
        )

    def _looked(self) -> "FeatureView":
        question, counts = feature_question_of(self.spec), self._counts()
        # Only betting's bound holds at a number of draws that was not planned.
        radius = feature_progress(question, counts) if self.spec.mean_bound == "betting" else None
        if self.spec.stop == "fixed":
            return replace(self, radius=radius)
        return replace(self, radius=radius, stopped=_stopped(self.spec, question, counts))


def _channels(spec: FeatureSpec) -> int:
    return 1 + spec.rivals * (2 if "clipped_cdf" in spec.statements else 1)


def _sample(histogram: NDArray[np.int64]) -> ScoreSample:
    (levels,) = histogram.nonzero()
    return sample_of_levels(levels.tolist(), histogram[levels].tolist())


def _stopped(spec: FeatureSpec, question: FeatureQuestion, counts: FeatureCounts) -> Stopped | None:
    """Why no more draws are wanted before they are spent, or None.

    That is when the target is answered, or when what two standard errors allow is no more than the tolerance above
    what is certified.
    """
    found = feature_answer(replace(question, epsilons=()), counts)
    if found.target:
        return "target"
    now = [*(row.radius for row in found.radii), *(row.radius for row in found.prediction)]
    hopes = _hopes(spec, counts)
    if spec.target is not None:
        wanted = hopes[-2:] if spec.target.cosine is None else [_hope(counts.reference, spec.target.cosine)]
        in_reach = any(hope is not None and hope * spec.sigma >= spec.target.epsilon for hope in wanted)
        return None if in_reach else "not_certifiable"
    if all(hope is None for hope in hopes):
        return "not_certifiable"
    open_ends = (
        hope * spec.sigma > (1 + spec.tolerance) * (radius or 0.0)
        for radius, hope in zip(now, hopes, strict=True)
        if hope is not None
    )
    return None if any(open_ends) else "tolerance"


def _hopes(spec: FeatureSpec, counts: FeatureCounts) -> list[float | None]:
    """In units of sigma, the radii of the floors, of the mean margin and of the vote that may yet be certified."""
    hopes = [_hope(counts.reference, floor) for floor in spec.cosine_floors]
    if spec.head is None or counts.votes is None:
        return hopes
    margins = [_hope(sample, 0.0) for sample in counts.margins]
    worst = None if None in margins else min(margin for margin in margins if margin is not None)
    total = counts.reference.size
    votes = ScoreSample(np.array([0.0, 1.0]), np.array([total - counts.votes, counts.votes]))
    return [*hopes, worst, _hope(votes, 0.0)]


def _hope(sample: ScoreSample, floor: float) -> float | None:
    """The reach of a cosine floor (or margin), were the mean two standard errors above the sample's."""
    mean = float(np.average(sample.values, weights=sample.counts))
    variance = float(np.average((sample.values - mean) ** 2, weights=sample.counts))
    best = mean + 2 * math.sqrt((variance + 1 / sample.size) / sample.size)
    return mean_mixture(min(best, 1 - 1e-9)).reach((1 + floor) / 2)
