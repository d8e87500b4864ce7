"""Evidence and parameters in, every number of a certificate out: the one function that writes and that verifies them.

Counts become, for each side, a `Proof`: bounds on the cells, and for every budget the ways to bound the side's smoothed
probability under attack, each a `Shift`. Unsafe is tried for on the Unsafe counts against tau, Safe on the Safe counts
against 1 - tau (section 2). `alpha` is split between the sides beforehand, then shared equally over the cells that are
sampled (section 4), or over budgets and covers (section 5), so that all numbers of an answer hold together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, lower_bound
from holdfast.certificates.guard.fields import hardest_groups
from holdfast.certificates.guard.question import Counts, Question
from holdfast.certificates.guard.sides import Side, passes_to_detect, threshold, unsafe_at_most
from holdfast.certificates.noise.kernels import mask_probability
from holdfast.certificates.noise.lattice import certified_radius, rounded_distance
from holdfast.certificates.noise.ratios import ratio_groups
from holdfast.certificates.noise.space import native_radius
from holdfast.certificates.rounding import SMALLEST
from holdfast.certificates.shifts.covers import against_at_most, cover_shifts
from holdfast.certificates.shifts.mixtures import suffix_mixtures
from holdfast.certificates.shifts.neyman_pearson import worst_classifier
from holdfast.certificates.shifts.shift import Least, Shift

Method = Literal["stratified", "neyman_pearson"]


@dataclass(frozen=True)
class Point:
    """A point of the frontier; None is *not certified*, 0 holds against rewritten tokens beside the same image.

    Radii are in the noise space, before the rounding to its lattice, and in the image's own pixels.
    """

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


class Way(NamedTuple):
    """One way to bound the smoothed probability under the attacks of one budget, and its name."""

    method: Method
    shift: Shift


@dataclass(frozen=True)
class Proof:
    """What one side's counts prove, all of it on one event.

    Attributes:
        bounds: lower bounds on the cells' probabilities.
        ways: per budget; the best of them counts, of equal ones the first.
    """

    bounds: tuple[float, ...]
    ways: Sequence[Sequence[Way]]

    def at(self, tokens: int, t: float) -> float:
        """Lower bound on the smoothed probability under every attack of this budget and distance."""
        return max((way.shift.at(t) for way in self.ways[tokens]), default=0.0)

    def reach(self, tokens: int, level: float) -> tuple[float, Method | None]:
        """How far the smoothed probability stays above the level, and by which method; (0, None) if nowhere."""
        best: tuple[float, Method | None] = (0.0, None)
        for method, shift in self.ways[tokens]:
            reach = shift.reach(level)
            if reach is not None and reach > best[0]:
                best = (reach, method)
        return best


def answer(question: Question, counts: Counts) -> Answer:
    """Computes every number of a certificate.

    With probability at least 1 - alpha over the draws all of them hold together: an Unsafe verdict's radius says that
    the smoothed Unsafe probability stays above tau, a Safe verdict's that it stays below, for every attack of the
    budget that shifts the image by less than the radius; the worst case bounds that probability itself. For `bound`
    other than `any_time` the number of draws must have been fixed beforehand.

    Raises:
        ValueError: a value outside its range, or counts that contradict each other.
    """
    share = question.alpha / len(question.sides)
    proofs = {side: prove(question, counts.of(side), share) for side in question.sides}
    frontiers = {side: _frontier(question, proof, threshold(question.tau, side)) for side, proof in proofs.items()}
    none = tuple(Point(tokens, None, None, None) for tokens in range(question.max_tokens + 1))
    certified = (side for side, points in frontiers.items() if any(point.radius is not None for point in points))
    verdict = next(certified, None)
    return Answer(
        lower=proofs["unsafe"].bounds if "unsafe" in proofs else (0.0,) * len(counts.cells),
        upper=tuple(map(unsafe_at_most, proofs["safe"].bounds)) if "safe" in proofs else (1.0,) * len(counts.cells),
        verdict=verdict or "abstained",
        frontier=none if verdict is None else frontiers[verdict],
        target=_target(question, proofs),
        worst_case=tuple(
            _row(question, proofs, tokens, epsilon)
            for tokens in range(question.max_tokens + 1)
            for epsilon in question.epsilons
        ),
    )


def prove(question: Question, counts: Counts, alpha: float) -> Proof:
    """What these counts of hits prove at risk alpha, whichever side the hits are of."""
    if question.text == "l0" and question.method != "neyman_pearson":
        return _by_covers(question, counts, alpha)
    bounds = cell_bounds(counts.cells, _shares(question, alpha), question.bound)
    return _by_budget(question, bounds) if question.per_budget else _by_cells(question, bounds)


def cell_bounds(cells: Sequence[tuple[int, int]], shares: Sequence[float | None], bound: Bound) -> tuple[float, ...]:
    """Lower bounds of the cells from (draws, hits), each at its share of the risk; 0 where a cell has none."""
    limit = lower_bound(bound)
    return tuple(
        0.0 if share is None else limit(hits, draws, share) for (draws, hits), share in zip(cells, shares, strict=True)
    )


def _shares(question: Question, alpha: float) -> Sequence[float | None]:
    """The risk of every cell; None where it is not sampled."""
    cells = len(question.cells)
    if question.natural:
        return [alpha / 2 / (cells - 1)] * (cells - 1) + [alpha / 2]
    return [alpha / len(question.wanted) if k in question.wanted else None for k in range(cells)]


def _by_cells(question: Question, bounds: tuple[float, ...]) -> Proof:
    """One smoothed guard against every budget, from its strata, and from what they or its own noise say of p_A."""
    strata = suffix_mixtures(question.kernels[0], bounds[:-1] if question.natural else bounds)
    own_noise = bounds[-1] if question.cells[-1].leading_masked == 0 else 0.0
    clean = max(strata[0].at(0.0), own_noise)
    ways: list[list[Way]] = [[] for _ in range(question.max_tokens + 1)]
    for tokens, found in enumerate(ways):
        if question.method != "neyman_pearson" and tokens < len(strata):
            found.append(Way("stratified", strata[tokens]))
        if question.method != "stratified":
            found.append(Way("neyman_pearson", _worst(question, clean, tokens)))
    return Proof(bounds, ways)


def _by_budget(question: Question, bounds: tuple[float, ...]) -> Proof:
    """A smoothed guard of its own for every budget d, with d slots: all of them masked, or its own noise."""
    ways = []
    for tokens, bound in enumerate(bounds):
        if question.method == "neyman_pearson":
            ways.append([Way("neyman_pearson", _worst(question, bound, tokens))])
        else:
            ways.append([Way("stratified", suffix_mixtures(question.kernels[0], [0.0] * tokens + [bound])[tokens])])
    return Proof(bounds, ways)


def _by_covers(question: Question, counts: Counts, alpha: float) -> Proof:
    """One smoothed guard against every set of positions or fields, from the draws that masked the set."""
    budgets = range(question.max_tokens + 1)
    if counts.masks is None or counts.unsafe is None:
        return Proof((0.0,), [[] for _ in budgets])
    chances = [mask_probability(kernel) for kernel in question.kernels]
    covers = cover_shifts(
        counts.masks,
        counts.unsafe,
        mask_probability=chances if question.tabular else chances[0],
        alpha=alpha,
        max_tokens=question.max_tokens,
        bound=question.bound,
    )
    clean = covers[0].at(0.0)
    ways = [[Way("stratified", against_at_most(covers, tokens))] for tokens in budgets]
    if question.method == "auto":
        for tokens, found in enumerate(ways):
            found.append(Way("neyman_pearson", _worst(question, clean, tokens)))
    return Proof((clean,), ways)


def _worst(question: Question, clean: float, tokens: int) -> Shift:
    """Neyman–Pearson at p_A; of rewritten fields the worst set."""
    kernels = question.kernels
    groups = hardest_groups(kernels, tokens) if question.tabular else (ratio_groups(kernels[0], tokens),)
    return Least([worst_classifier(clean, one) for one in groups])


def _frontier(question: Question, proof: Proof, level: float) -> tuple[Point, ...]:
    sigma, cap, points = question.sigma or 1.0, math.inf, []
    for tokens in range(question.max_tokens + 1):
        reach, method = proof.reach(tokens, level)
        if not question.per_budget:
            # Every attack of this budget is one of the next too: only roundings make a larger one reach farther.
            cap = reach = min(reach, cap)
        # Without image noise a budget is certified at epsilon 0, or not at all.
        radius = None if not reach else reach * sigma if question.sigma else 0.0
        radius = certified_radius(radius, dimensions=question.dimensions)
        points.append(Point(tokens, radius, native_radius(radius, question.operator_norm), method if reach else None))
    return tuple(points)


def _distance(question: Question, epsilon: float) -> float:
    """In units of sigma, on the lattice."""
    epsilon = rounded_distance(epsilon, dimensions=question.dimensions)
    return epsilon / (ranges.nonnegative("sigma", question.sigma) or 1.0)


def _target(question: Question, proofs: dict[Side, Proof]) -> Side | None:
    if question.target is None:
        return None
    tokens, epsilon = question.target
    for side, proof in proofs.items():
        if proof.at(tokens, _distance(question, epsilon)) > threshold(question.tau, side):
            return side
    return None


def _row(question: Question, proofs: dict[Side, Proof], tokens: int, epsilon: float) -> Row:
    t = _distance(question, epsilon)
    least = proofs["unsafe"].at(tokens, t) if "unsafe" in proofs else 0.0
    least = least if least > SMALLEST else 0.0  # no number of passes would show it
    most = unsafe_at_most(proofs["safe"].at(tokens, t)) if "safe" in proofs else 1.0
    return Row(tokens, epsilon, least, most, passes_to_detect(least) if least > 0.0 else None)
