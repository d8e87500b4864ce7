"""Feature evidence in, every number of a feature certificate out: the one function that writes and that verifies them.

`alpha` is split equally over the statements beforehand, a margin statement's share equally over the rivals, so that all
numbers of an answer hold together. The radii of a prediction that follow from the feature's own bounds (the condition
and the cap) need no share: they hold on the same event. Section 6.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.bounds.means import ScoreSample
from holdfast.certificates.features.averages import mean_of_draws_lower
from holdfast.certificates.features.prototypes import cap_reach, prototype_condition_reach, vote_reach
from holdfast.certificates.features.question import FeatureCounts, FeatureQuestion, require_agreement
from holdfast.certificates.features.similarity import FeatureBound, feature_radius_of
from holdfast.certificates.noise.lattice import certified_radius, rounded_distance
from holdfast.certificates.noise.space import native_radius
from holdfast.certificates.shifts.scores import ShiftMethod, mean_shift, score_law
from holdfast.certificates.shifts.shift import Greatest, Least, Shift

_FEATURE: dict[ShiftMethod, str] = {"mean": "feature_mean", "cdf": "feature_cdf"}
_TIE = 0.5
_GRID = 2.0**36
_FARTHEST = math.nextafter(math.inf, 0.0)

PredictionMethod = Literal["prototype_condition", "cap", "margin_mean", "margin_cdf", "clipped_cdf", "vote"]


@dataclass(frozen=True)
class BoundRow:
    """Lower bounds on the smoothed feature's similarity to the reference within epsilon; None says nothing."""

    epsilon: float
    method: ShiftMethod
    inner_product: float
    cosine: float | None


@dataclass(frozen=True)
class RadiusRow:
    """Within the radius the cosine stays above the floor; None is *not certified*."""

    cosine_floor: float
    method: ShiftMethod
    radius: float | None
    native_radius: float | None


@dataclass(frozen=True)
class PredictionRow:
    """Within the radius the smoothed prediction stays the label; None is *not certified*."""

    method: PredictionMethod
    radius: float | None
    native_radius: float | None


@dataclass(frozen=True)
class SimilarityRow:
    """Lower bounds on one average's similarity to the reference within epsilon; None says nothing."""

    epsilon: float
    inner_product: float
    cosine: float | None


@dataclass(frozen=True)
class FeatureAnswer:
    """Every number that follows from the evidence.

    Attributes:
        bounds: epsilons times the feature statements, the mean's before the curve's.
        radii: cosine floors times the feature statements.
        prediction: a row per method; empty without a head.
        similarity: a row per epsilon; empty without an embedding.
        target: whether the target is certified; None without one.
    """

    bounds: tuple[BoundRow, ...]
    radii: tuple[RadiusRow, ...]
    prediction: tuple[PredictionRow, ...]
    similarity: tuple[SimilarityRow, ...]
    target: bool | None


def feature_answer(question: FeatureQuestion, counts: FeatureCounts) -> FeatureAnswer:
    """Computes every number of a feature certificate.

    With probability at least 1 - alpha over the draws all of them but the embedding's hold together: for every image
    within epsilon, or within a radius, what the row says of the smoothed feature or prediction. An embedding's row
    holds for one fresh average with probability at least 1 - alpha minus the embedding's own. The reference, the
    label and the prototypes must have been fixed without these draws. The curve (`cdf`), and every mean bound but
    `betting`, hold at a number of draws that was fixed beforehand only.

    Raises:
        ValueError: a value outside its range, or evidence that contradicts the question.
    """
    require_agreement(question, counts)
    shifts = {
        method: _shift(question, counts.reference, method, _share(question))
        for method, statement in _FEATURE.items()
        if statement in question.statements
    }
    best = Greatest(list(shifts.values()))
    prediction = tuple(_prediction(question, counts, best))
    return FeatureAnswer(
        bounds=tuple(
            _bound_row(question, epsilon, method, shift)
            for epsilon in question.epsilons
            for method, shift in shifts.items()
        ),
        radii=tuple(
            _radius_row(question, floor, method, shift)
            for floor in question.cosine_floors
            for method, shift in shifts.items()
        ),
        prediction=prediction,
        similarity=tuple(_similarity(question, counts)),
        target=_target(question, best, prediction),
    )


def feature_progress(question: FeatureQuestion, counts: FeatureCounts) -> float | None:
    """One radius for a look on the way: the first cosine floor's by the mean bound, or else the vote's.

    Returns:
        The radius in the noise space; None is *not certified so far*, or that neither is stated.
    """
    if question.cosine_floors and "feature_mean" in question.statements:
        shift = _shift(question, counts.reference, "mean", _share(question))
        return _certified(question, feature_radius_of(shift, question.cosine_floors[0], question.sigma))
    if "vote" in question.statements:
        return _certified(question, _radius(question, _vote(question, counts)))
    return None


def _share(question: FeatureQuestion) -> float:
    return question.alpha / len(question.statements)


def _shift(question: FeatureQuestion, sample: ScoreSample, method: ShiftMethod, alpha: float) -> Shift:
    if method == "cdf":
        return score_law(sample, alpha).shift
    return mean_shift(sample, alpha, bound=question.mean_bound, horizon=question.horizon)


def _prediction(question: FeatureQuestion, counts: FeatureCounts, shift: Shift) -> Iterator[PredictionRow]:
    """A row per method, in the order of the contract."""
    if question.label is None:
        return
    if question.prototypes:
        cosines, distances, label = counts.cosines or (), counts.distances or (), question.label
        yield _prediction_row(question, "prototype_condition", prototype_condition_reach(shift, cosines, label))
        yield _prediction_row(question, "cap", cap_reach(shift, cosines, distances, label))
    if "margin_mean" in question.statements:
        yield _prediction_row(question, "margin_mean", _margin(question, counts.margins, "mean"))
    if "margin_cdf" in question.statements:
        yield _prediction_row(question, "margin_cdf", _margin(question, counts.margins, "cdf"))
    if "clipped_cdf" in question.statements:
        yield _prediction_row(question, "clipped_cdf", _margin(question, counts.clipped, "cdf"))
    if "vote" in question.statements:
        yield _prediction_row(question, "vote", _vote(question, counts))


def _margin(question: FeatureQuestion, rivals: tuple[ScoreSample, ...], method: ShiftMethod) -> float | None:
    """How far every rival's mean margin stays positive, each at its part of the share."""
    share = _share(question) / len(rivals)
    return Least([_shift(question, sample, method, share) for sample in rivals]).reach(_TIE)


def _vote(question: FeatureQuestion, counts: FeatureCounts) -> float | None:
    bound: Bound = "clopper_pearson" if question.fixed else "any_time"
    return vote_reach(counts.votes or 0, counts.reference.size, _share(question), bound=bound)


def _t(question: FeatureQuestion, epsilon: float) -> float:
    """A shift in units of the noise, on the lattice."""
    return min(rounded_distance(epsilon, dimensions=question.dimensions) / question.sigma, _FARTHEST)


def _inner_product(question: FeatureQuestion, shift: Shift, epsilon: float) -> float:
    """On a grid, as machines differ in the last digits: equal evidence shall have equal numbers."""
    return math.floor(FeatureBound.at(shift, _t(question, epsilon)).inner_product * _GRID) / _GRID


def _bound_row(question: FeatureQuestion, epsilon: float, method: ShiftMethod, shift: Shift) -> BoundRow:
    least = _inner_product(question, shift, epsilon)
    return BoundRow(epsilon, method, least, least if least > 0.0 else None)


def _radius_row(question: FeatureQuestion, floor: float, method: ShiftMethod, shift: Shift) -> RadiusRow:
    return RadiusRow(floor, method, *_radii(question, feature_radius_of(shift, floor, question.sigma)))


def _prediction_row(question: FeatureQuestion, method: PredictionMethod, reach: float | None) -> PredictionRow:
    return PredictionRow(method, *_radii(question, _radius(question, reach)))


def _radius(question: FeatureQuestion, reach: float | None) -> float | None:
    return None if reach is None else question.sigma * reach


def _radii(question: FeatureQuestion, radius: float | None) -> tuple[float | None, float | None]:
    """The radius before the rounding to the lattice, and the native one."""
    certified = _certified(question, radius)
    return certified, native_radius(certified, question.operator_norm)


def _certified(question: FeatureQuestion, radius: float | None) -> float | None:
    """A radius of 0 is none."""
    return certified_radius(radius, dimensions=question.dimensions) or None


def _similarity(question: FeatureQuestion, counts: FeatureCounts) -> Iterator[SimilarityRow]:
    """What holds of one average of the embedding's draws, at the risk of its own."""
    if question.embedding is None:
        return
    draws, alpha = question.embedding
    law = score_law(counts.reference, _share(question))
    for epsilon in question.epsilons:
        least = mean_of_draws_lower(law, draws=draws, t=_t(question, epsilon), alpha=alpha)
        yield SimilarityRow(epsilon, least, least if least > 0.0 else None)


def _target(question: FeatureQuestion, shift: Shift, prediction: Sequence[PredictionRow]) -> bool | None:
    if question.target is None:
        return None
    epsilon, floor = question.target
    if floor is None:
        return any(row.radius is not None and row.radius >= epsilon for row in prediction)
    return _inner_product(question, shift, epsilon) > floor
