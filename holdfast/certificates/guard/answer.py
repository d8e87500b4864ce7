"""Evidence and parameters in, every number of a certificate out: the one function that writes and that verifies them.

Both directions are tried as asked: Unsafe from below on the Unsafe counts against tau, Safe from above on the Safe
counts against 1 - tau (section 2). `alpha` is split between the directions beforehand, then shared equally over the
cells that are sampled (section 4), or over budgets and covers (section 5), so that all numbers of an answer hold
together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.bounds.counts import any_time_lower, clopper_pearson_lower
from holdfast.certificates.guard.fields import fields_neyman_pearson_radius, fields_neyman_pearson_value
from holdfast.certificates.guard.frontier import passes_to_detect
from holdfast.certificates.guard.question import Counts, Question, Side
from holdfast.certificates.guard.sides import safe_threshold, unsafe_at_most
from holdfast.certificates.noise.kernels import field_draws, mask_probability, suffix_draws
from holdfast.certificates.noise.space import native_radius
from holdfast.certificates.shifts.covers import CoverBounds, cover_bounds, cover_radius, cover_value
from holdfast.certificates.shifts.neyman_pearson import neyman_pearson_radius, neyman_pearson_value
from holdfast.certificates.stratified import suffix_radii, suffix_value

__all__ = ["Answer", "Point", "Row", "answer", "position_masks"]

Method = Literal["stratified", "neyman_pearson"]
Reach = tuple[float | None, Method | None]

_SMALLEST = 1e-290  # a probability below it is reported as 0: no number of passes would show it


@dataclass(frozen=True)
class Point:
    """A point of the frontier; None is *not certified*. Radii in the noise space and in the image's own pixels."""

    tokens: int
    radius: float | None
    native_radius: float | None
    method: Method | None


@dataclass(frozen=True)
class Row:
    """Bounds on the smoothed Unsafe probability against every attack of one budget."""

    tokens: int
    epsilon: float
    at_least: float
    at_most: float
    passes_to_detect: int | None


@dataclass(frozen=True)
class Answer:
    """Every number that follows from the evidence.

    Attributes:
        lower: lower bound on every cell's Unsafe probability; 0 where nothing is known.
        upper: upper bound; 1 where nothing is known.
        verdict: `unsafe` or `safe` where that is certified without attack, else `abstained`.
        frontier: budgets d = 0..max_tokens, of that verdict.
        target: the verdict certified at the target, or None.
        worst_case: budgets times epsilons.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]
    verdict: Literal["unsafe", "safe", "abstained"]
    frontier: tuple[Point, ...]
    target: Side | None
    worst_case: tuple[Row, ...]

    @property
    def max_tokens(self) -> int | None:
        """The largest certified budget, or None."""
        return max((point.tokens for point in self.frontier if point.radius is not None), default=None)


def position_masks(question: Question, *, positions: int, seed: str, start: int, stop: int) -> NDArray[np.bool_]:
    """The masks, bool (n, positions), of the draws [start, stop) of an l0 certificate: they follow from its seed."""
    if question.tabular:
        return field_draws(question.kernels, seed=seed, start=start, stop=stop).masked
    (kernel,) = question.kernels
    return suffix_draws(kernel, slots=positions, seed=seed, start=start, stop=stop, strata=0).masked[:, 0]


def answer(question: Question, counts: Counts) -> Answer:
    """Computes every number of a certificate.

    With probability at least 1 - alpha over the draws all of them hold together: an Unsafe verdict's radius says that
    the smoothed Unsafe probability stays above tau, a Safe verdict's that it stays below, for every attack of the
    budget that shifts the image by less than the radius; the worst case bounds that probability itself. For `bound`
    other than `any_time` the number of draws must have been fixed beforehand.

    Raises:
        ValueError: a value outside its range, or counts that contradict each other.
    """
    proofs = {side: _prove(question, counts, side) for side in question.sides}
    reaches = {side: _reaches(question, proof, _threshold(question, side)) for side, proof in proofs.items()}
    verdict = next((side for side, reach in reaches.items() if any(radius is not None for radius, _ in reach)), None)
    frontier = reaches[verdict] if verdict is not None else [(None, None)] * (question.max_tokens + 1)
    return Answer(
        lower=proofs["unsafe"].bounds if "unsafe" in proofs else (0.0,) * len(counts.cells),
        upper=tuple(unsafe_at_most(q) for q in proofs["safe"].bounds)
        if "safe" in proofs
        else (1.0,) * len(counts.cells),
        verdict=verdict or "abstained",
        frontier=tuple(_point(question, tokens, *reach) for tokens, reach in enumerate(frontier)),
        target=_target(question, proofs),
        worst_case=tuple(
            _row(proofs, tokens, epsilon) for tokens in range(question.max_tokens + 1) for epsilon in question.epsilons
        ),
    )


class _Proof(Protocol):
    """What one direction's counts prove: the probability of that verdict under every attack of a budget."""

    @property
    def bounds(self) -> tuple[float, ...]:
        """Lower bounds on the cells' probabilities."""

    def value(self, tokens: int, epsilon: float) -> float:
        """Lower bound on the smoothed probability."""

    def reaches(self, threshold: float) -> list[Reach]:
        """Per budget the radius within which the smoothed probability stays above the threshold."""


def _threshold(question: Question, side: Side) -> float:
    return question.tau if side == "unsafe" else safe_threshold(question.tau)


def _prove(question: Question, counts: Counts, side: Side) -> _Proof:
    alpha = question.alpha / len(question.sides)
    cells = [(draws, unsafe if side == "unsafe" else draws - unsafe) for draws, unsafe in counts.cells]
    if question.text == "l0" and question.method != "neyman_pearson":
        return _Covers.of(question, counts, side, alpha)
    bounds = _cell_bounds(question, cells, alpha)
    return _PerBudget(question, bounds) if question.per_budget else _Shared(question, bounds)


def _cell_bounds(question: Question, cells: Sequence[tuple[int, int]], alpha: float) -> tuple[float, ...]:
    """Lower bounds of the cells from (draws, hits), together at risk alpha; 0 where a cell is not sampled."""
    limit = any_time_lower if question.bound == "any_time" else clopper_pearson_lower
    shares = [alpha / len(question.wanted)] * len(cells)
    if question.natural:
        shares = [alpha / 2 / (len(cells) - 1)] * (len(cells) - 1) + [alpha / 2]
    return tuple(
        limit(hits, draws, share) if k in question.wanted else 0.0
        for k, ((draws, hits), share) in enumerate(zip(cells, shares, strict=True))
    )


@dataclass(frozen=True)
class _Shared:
    """One smoothed guard against every budget, from the bounds of its cells."""

    question: Question
    bounds: tuple[float, ...]

    def value(self, tokens: int, epsilon: float) -> float:
        sigma = self.question.sigma or 1.0
        (kernel, *_) = self.question.kernels
        found = 0.0
        if self.question.method != "neyman_pearson" and tokens < len(self._strata):
            found = suffix_value(self._strata, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=sigma)
        if self.question.method != "stratified":
            found = max(found, _neyman_pearson_value(self.question, self._clean, tokens, epsilon))
        return found

    def reaches(self, threshold: float) -> list[Reach]:
        budgets = range(self.question.max_tokens + 1)
        (kernel, *_) = self.question.kernels
        found: list[Reach] = [(None, None)] * len(budgets)
        if self.question.method != "neyman_pearson":
            radii = suffix_radii(self._strata, kernel=kernel, sigma=self.question.sigma or 1.0, tau=threshold)
            found[: len(radii)] = [_reach(radius, "stratified") for radius in radii[: len(budgets)]]
        if self.question.method != "stratified":
            rivals = [_neyman_pearson_radius(self.question, self._clean, tokens, threshold) for tokens in budgets]
            found = [_better(one, _reach(other, "neyman_pearson")) for one, other in zip(found, rivals, strict=True)]
        return found

    @property
    def _strata(self) -> tuple[float, ...]:
        return self.bounds[:-1] if self.question.natural else self.bounds

    @property
    def _clean(self) -> float:
        """Lower bound on p_A: the natural cell's, or what the strata give on the same event at no risk of its own."""
        if len(self.bounds) == 1:
            return self.bounds[0]
        (kernel, *_) = self.question.kernels
        strata = suffix_value(self._strata, kernel=kernel, tokens=0, epsilon=0.0, sigma=1.0)
        return max(strata, self.bounds[-1]) if self.question.natural else strata


@dataclass(frozen=True)
class _PerBudget:
    """A smoothed guard of its own for every budget d, with d slots."""

    question: Question
    bounds: tuple[float, ...]

    def value(self, tokens: int, epsilon: float) -> float:
        if self.question.method == "neyman_pearson":
            return _neyman_pearson_value(self.question, self.bounds[tokens], tokens, epsilon)
        (kernel, *_) = self.question.kernels
        cells = [0.0] * tokens + [self.bounds[tokens]]
        sigma = self.question.sigma or 1.0
        return suffix_value(cells, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=sigma)

    def reaches(self, threshold: float) -> list[Reach]:
        (kernel, *_) = self.question.kernels
        sigma, found = self.question.sigma or 1.0, list[Reach]()
        for tokens, bound in enumerate(self.bounds):
            if self.question.method == "neyman_pearson":
                radius = _neyman_pearson_radius(self.question, bound, tokens, threshold)
                found.append(_reach(radius, "neyman_pearson"))
            else:
                radii = suffix_radii([0.0] * tokens + [bound], kernel=kernel, sigma=sigma, tau=threshold)
                found.append(_reach(radii[tokens], "stratified"))
        return found


@dataclass(frozen=True)
class _Covers:
    """One smoothed guard against every set of positions or fields, from the draws that masked the set."""

    question: Question
    bounds: tuple[float, ...]
    budgets: tuple[CoverBounds, ...]

    @classmethod
    def of(cls, question: Question, counts: Counts, side: Side, alpha: float) -> "_Covers":
        if counts.masks is None or counts.unsafe is None:
            return cls(question, (0.0,), ())
        found = cover_bounds(
            counts.masks,
            counts.unsafe if side == "unsafe" else ~counts.unsafe,
            mask_probability=np.array([mask_probability(kernel) for kernel in question.kernels])
            if question.tabular
            else mask_probability(question.kernels[0]),
            alpha=alpha,
            max_tokens=question.max_tokens,
            bound=question.bound,
        )
        return cls(question, (cover_value(found[0], 0.0, 1.0),), tuple(found))

    def value(self, tokens: int, epsilon: float) -> float:
        if not self.budgets:
            return 0.0
        sigma = self.question.sigma or 1.0
        found = max(cover_value(budget, epsilon, sigma) for budget in self.budgets[tokens:])
        if self.question.method == "auto":
            found = max(found, _neyman_pearson_value(self.question, self.bounds[0], tokens, epsilon))
        return found

    def reaches(self, threshold: float) -> list[Reach]:
        found: list[Reach] = [(None, None)] * (self.question.max_tokens + 1)
        best: Reach = (None, None)
        for tokens in reversed(range(len(self.budgets))):
            radius = cover_radius(self.budgets[tokens], self.question.sigma or 1.0, threshold)
            best = _better(_reach(radius, "stratified"), best)
            found[tokens] = best
            if self.question.method == "auto":
                rival = _neyman_pearson_radius(self.question, self.bounds[0], tokens, threshold)
                found[tokens] = _better(best, _reach(rival, "neyman_pearson"))
        return found


def _neyman_pearson_value(question: Question, clean: float, tokens: int, epsilon: float) -> float:
    sigma = question.sigma or 1.0
    if question.tabular:
        return fields_neyman_pearson_value(clean, kernels=question.kernels, fields=tokens, epsilon=epsilon, sigma=sigma)
    (kernel,) = question.kernels
    return neyman_pearson_value(clean, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=sigma)


def _neyman_pearson_radius(question: Question, clean: float, tokens: int, threshold: float) -> float | None:
    sigma = question.sigma or 1.0
    if question.tabular:
        return fields_neyman_pearson_radius(clean, kernels=question.kernels, fields=tokens, sigma=sigma, tau=threshold)
    (kernel,) = question.kernels
    return neyman_pearson_radius(clean, kernel=kernel, tokens=tokens, sigma=sigma, tau=threshold)


def _reach(radius: float | None, method: Method) -> Reach:
    return (None, None) if radius is None else (radius, method)


def _better(one: Reach, other: Reach) -> Reach:
    return other if one[0] is None or (other[0] is not None and other[0] > one[0]) else one


def _reaches(question: Question, proof: _Proof, threshold: float) -> list[Reach]:
    if threshold == 1.0:  # a tau below 2^-53, which no bound on the Safe probability can exceed
        return [(None, None)] * (question.max_tokens + 1)
    reaches = proof.reaches(threshold)
    if question.sigma > 0.0:
        return reaches
    # Without image noise a budget is certified at epsilon 0, or not at all.
    return [(None, None) if radius is None else (0.0, method) for radius, method in reaches]


def _point(question: Question, tokens: int, radius: float | None, method: Method | None) -> Point:
    native = None if radius is None else native_radius(radius, question.operator_norm)
    return Point(tokens, radius, native, method)


def _target(question: Question, proofs: dict[Side, _Proof]) -> Side | None:
    if question.target is None:
        return None
    for side, proof in proofs.items():
        if proof.value(*question.target) > _threshold(question, side):
            return side
    return None


def _row(proofs: dict[Side, _Proof], tokens: int, epsilon: float) -> Row:
    least = proofs["unsafe"].value(tokens, epsilon) if "unsafe" in proofs else 0.0
    least = least if least > _SMALLEST else 0.0
    most = unsafe_at_most(proofs["safe"].value(tokens, epsilon)) if "safe" in proofs else 1.0
    return Row(tokens, epsilon, least, most, passes_to_detect(least) if least > 0.0 else None)
