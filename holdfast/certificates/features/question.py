"""What a feature certificate is asked, and the evidence that answers it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.certificates.bounds.means import MeanBound, ScoreSample

LEVELS = 4096
"""A score in [0, 1] is counted as floor(LEVELS * score): rounded down, as every bound here is a lower one."""

STATEMENTS = ("feature_mean", "feature_cdf", "margin_mean", "margin_cdf", "clipped_cdf", "vote")
"""What may be stated, in the order of an answer's rows."""

_MARGINS = {"margin_mean", "margin_cdf"}
_HEAD = {*_MARGINS, "clipped_cdf", "vote"}
_FIXED = {"feature_cdf", "margin_cdf", "clipped_cdf"}  # curves hold at a number of draws that was fixed beforehand


@dataclass(frozen=True)
class FeatureQuestion:
    """The parameters that decide a feature certificate's numbers.

    Attributes:
        sigma: standard deviation of the image noise, above 0.
        alpha: risk of the whole answer, but for an embedding's own.
        statements: of `feature_mean`, `feature_cdf`, `margin_mean`, `margin_cdf`, `clipped_cdf` and `vote`, those that
            are made; each has an equal share of alpha.
        mean_bound: the confidence bound of every mean; but for `betting` the number of draws must be fixed beforehand.
        horizon: draws that were planned beforehand.
        epsilons: where similarity is bounded.
        cosine_floors: whose radii are wanted, in [0, 1).
        target: (epsilon, cosine floor, or None for the prediction) of a yes/no question.
        rivals: classes that the label is held against; 0 without a head.
        label: the class that is certified, an index into the prototypes; None without a head.
        prototypes: whether the head has unit prototypes, which the feature's own bounds speak of too.
        embedding: (draws, alpha) of a smoothed embedding: how many are averaged, and the risk of the average itself.
        fixed: whether the number of draws was fixed beforehand.
        operator_norm: of the resize from the image's own size.
        dimensions: of the noise space, whose lattice a radius pays for; 0 for noise that is on none.
    """

    sigma: float
    alpha: float
    statements: tuple[str, ...]
    mean_bound: MeanBound
    horizon: int
    epsilons: tuple[float, ...]
    cosine_floors: tuple[float, ...]
    target: tuple[float, float | None] | None
    rivals: int
    label: int | None
    prototypes: bool
    embedding: tuple[int, float] | None
    fixed: bool
    operator_norm: float = 1.0
    dimensions: int = 0


@dataclass(frozen=True, eq=False)
class FeatureCounts:
    """The evidence: one sample of scores per channel, all of the same draws.

    Attributes:
        reference: scores (1 + <f, u>) / 2 with the reference direction u.
        margins: per rival, scores (1 + m) / 2 of the label's margin over it on a unit scale.
        clipped: per rival, scores of the margin clipped at a constant and scaled by it.
        votes: draws whose own label was the certified one.
        cosines: of the reference with every prototype.
        distances: of the label's prototype from every one.
    """

    reference: ScoreSample
    margins: tuple[ScoreSample, ...] = ()
    clipped: tuple[ScoreSample, ...] = ()
    votes: int | None = None
    cosines: tuple[float, ...] | None = None
    distances: tuple[float, ...] | None = None


def sample_of_levels(levels: Sequence[int], counts: Sequence[int]) -> ScoreSample:
    """The sample of a channel's histogram: `counts[i]` draws at the score `levels[i]` / 4096.

    Raises:
        ValueError: levels that do not ascend within 0..4096, or counts that are not positive.
    """
    return ScoreSample(np.asarray(levels, dtype=np.float64) / LEVELS, np.asarray(counts, dtype=np.int64))


def require_agreement(question: FeatureQuestion, counts: FeatureCounts) -> None:
    """Refuses statements that the counts have no evidence for, or whose bounds do not hold as the draws were taken.

    Raises:
        ValueError: they do not agree.
    """
    stated, draws = set(question.statements), counts.reference.size
    if not stated or not stated <= set(STATEMENTS) or len(stated) != len(question.statements):
        raise ValueError(f"statements={question.statements} must be some of {', '.join(STATEMENTS)}, once each")
    if question.fixed and draws != question.horizon:
        raise ValueError(f"{draws} draws must be the horizon={question.horizon} that was fixed; count every draw")
    if not question.fixed and (question.mean_bound != "betting" or stated & _FIXED):
        raise ValueError(
            f"mean_bound={question.mean_bound} with {', '.join(question.statements)} must hold at any number of draws;"
            " take betting and no curve, or fix the number"
        )
    if stated & _HEAD and question.label is None:
        raise ValueError("label=None must be a class where its margin or vote is stated; pass the label")
    _samples_agree("margins", counts.margins, draws, question.rivals if stated & _MARGINS else None)
    _samples_agree("clipped", counts.clipped, draws, question.rivals if "clipped_cdf" in stated else None)
    if "vote" in stated and counts.votes is None:
        raise ValueError("votes=None must be a count where the vote is stated; count them")


def _samples_agree(name: str, samples: tuple[ScoreSample, ...], draws: int, rivals: int | None) -> None:
    if rivals is not None and (len(samples) != rivals or not rivals):
        raise ValueError(f"{name} of {len(samples)} rivals must be of all {rivals}, at least 1; pass a sample for each")
    if any(sample.size != draws for sample in samples):
        raise ValueError(f"{name} must be of the reference's {draws} draws; count every draw on every channel")
