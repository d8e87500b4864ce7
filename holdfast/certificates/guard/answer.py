"""Evidence and parameters in, every number of a certificate out: the one function that writes and that verifies them.

Votes become, for each side, a `Proof`: bounds on the means of scores, and for every budget the ways to bound the side's
smoothed probability under attack, each a `Shift`. Unsafe is tried for on the votes for Unsafe against tau, Safe on the
votes for Safe against 1 - tau (section 2); a vote near a tie is neither. `alpha` is split between the sides beforehand,
then over budgets, cells or covers in fixed shares, so that all numbers of an answer hold together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges
from holdfast.certificates.guard.fields import hardest_groups
from holdfast.certificates.guard.question import Question, Votes
from holdfast.certificates.guard.sides import Side, passes_to_detect, threshold, unsafe_at_most
from holdfast.certificates.noise.kernels import cell_weights, mask_probability
from holdfast.certificates.noise.lattice import certified_radius, rounded_distance
from holdfast.certificates.noise.ratios import ratio_groups
from holdfast.certificates.noise.space import native_radius
from holdfast.certificates.rounding import SMALLEST, share_down
from holdfast.certificates.shifts.covers import against_at_most, cover_shifts
from holdfast.certificates.shifts.joint import ScoreShift, draw_scores, joint_shifts, score_shift
from holdfast.certificates.shifts.mixtures import suffix_mixtures
from holdfast.certificates.shifts.neyman_pearson import worst_classifier
from holdfast.certificates.shifts.shift import Least, Shift

Method = Literal["joint", "stratified", "neyman_pearson", "erase_and_check"]
Hits = NDArray[np.bool_]


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
class Score:
    """One mean that was bounded: the Unsafe probability given these cells, weighted by their probabilities.

    Attributes:
        tokens: the budget that it is for.
        cells: indexes of the cells.
        lower: lower bound; 0 where nothing is known.
        upper: upper bound; 1 where nothing is known.
    """

    tokens: int
    cells: tuple[int, ...]
    lower: float
    upper: float


@dataclass(frozen=True)
class Answer:
    """Every number that follows from the evidence.

    Attributes:
        scores: the means that were bounded, in the order of their budgets or cells.
        verdict: `unsafe` or `safe` where that is certified without attack, else `abstained`.
        frontier: budgets d = 0..max_tokens, of that verdict.
        target: the verdict certified at the target, or None.
        worst_case: budgets times epsilons.
    """

    scores: tuple[Score, ...]
    verdict: Literal["unsafe", "safe", "abstained"]
    frontier: tuple[Point, ...]
    target: Side | None
    worst_case: tuple[Row, ...]

    @property
    def max_tokens(self) -> int | None:
        """The largest certified budget, or None."""
        return max((point.tokens for point in self.frontier if point.radius is not None), default=None)


class Mean(NamedTuple):
    """A lower bound on the side's probability given these cells, and the budget that it is for."""

    tokens: int
    cells: tuple[int, ...]
    lower: float


class Way(NamedTuple):
    """One way to bound the smoothed probability under the attacks of one budget, and its name."""

    method: Method
    shift: Shift


@dataclass(frozen=True)
class Proof:
    """What one side's votes prove, all of it on one event.

    Attributes:
        means: that were bounded, in the order in which a certificate lists them.
        ways: per budget; the best of them counts, of equal ones the first.
    """

    means: tuple[Mean, ...]
    ways: Sequence[Sequence[Way]]

    def at(self, tokens: int, t: float) -> float:
        """Lower bound on the smoothed probability under every attack of this budget and distance."""
        return max((way.shift.at(t) for way in self.ways[tokens]), default=0.0)

    def reach(self, tokens: int, level: float) -> tuple[float, Method | None]:
        """How far the smoothed probability stays above the level, and by which method; (0, None) if nowhere."""
        best: tuple[float, Method | None] = (0.0, None)
        for method, shift in self.ways[tokens]:
            # Most ways reach no farther than the one before: one look tells, where a search would take twenty.
            if best[0] == math.inf or (best[0] and shift.at(best[0]) <= level):
                continue
            reach = shift.reach(level)
            if reach is not None and reach > best[0]:
                best = (reach, method)
        return best


def answer(question: Question, votes: Votes) -> Answer:
    """Computes every number of a certificate.

    With probability at least 1 - alpha over the draws all of them hold together: an Unsafe verdict's radius says that
    the smoothed Unsafe probability stays above tau, a Safe verdict's that it stays below, for every attack of the
    budget that shifts the image by less than the radius; the worst case bounds that probability itself. Under `append`
    it is that of some truncation of the text. For `bound` other than `any_time` the number of draws must have been
    fixed beforehand.

    Args:
        question: the parameters.
        votes: of any number of draws, none included.

    Raises:
        ValueError: a value outside its range, or votes that are not those of the question's tails and cells.
    """
    _check(question, votes)
    share = share_down(question.alpha, len(question.sides))
    proofs = {side: prove(question, votes, side, share) for side in question.sides}
    frontiers = {side: _frontier(question, proof, threshold(question.tau, side)) for side, proof in proofs.items()}
    none = tuple(Point(tokens, None, None, None) for tokens in range(question.max_tokens + 1))
    certified = (side for side, points in frontiers.items() if any(point.radius is not None for point in points))
    verdict = next(certified, None)
    return Answer(
        scores=_scores(proofs),
        verdict=verdict or "abstained",
        frontier=none if verdict is None else frontiers[verdict],
        target=_target(question, proofs),
        worst_case=tuple(
            _row(question, proofs, tokens, epsilon)
            for tokens in range(question.max_tokens + 1)
            for epsilon in question.epsilons
        ),
    )


def prove(question: Question, votes: Votes, side: Side, alpha: float) -> Proof:
    """What the votes prove of one side at risk alpha."""
    hits = votes.hits(side)
    if question.text == "append":
        return _by_erasing(question, hits, alpha)
    if question.text == "l0" and question.method != "neyman_pearson":
        return _by_covers(question, hits, votes.masks, alpha)
    if question.per_budget:
        return _by_budget(question, hits, alpha)
    if question.method == "neyman_pearson":
        return _by_own_noise(question, hits, alpha)
    if question.target is not None:
        return _by_one_cell(question, hits, alpha)
    return _by_strata(question, hits, alpha) if question.method == "stratified" else _by_scores(question, hits, alpha)


def _check(question: Question, votes: Votes) -> None:
    """Refuses votes of another shape than the question's."""
    shape = len(votes.unsafe), question.tails, len(question.cells)
    for name, plane in (("unsafe", votes.unsafe), ("near_tie", votes.near_tie)):
        if plane.shape != shape or plane.dtype != np.bool_:
            raise ValueError(
                f"{name} of {plane.dtype} {plane.shape} must be bool {shape}: draws, tails, cells; pass every vote"
            )


def _by_scores(question: Question, hits: Hits, alpha: float) -> Proof:
    """One smoothed guard against every budget, from the score of all cells that it leaves alone (section 10)."""
    shifts = joint_shifts(hits, question.kernels[0], alpha, question.bound, imageless=question.sigma == 0.0)
    cells = range(len(shifts))
    means = tuple(Mean(d, tuple(cells[d:]), one.own.lower) for d, one in enumerate(shifts))
    clean = shifts[0].serves.at(0.0)
    ways = []
    for tokens in range(question.max_tokens + 1):
        own = [Way("joint", shifts[tokens].serves)] if tokens < len(shifts) else []
        ways.append(own + _beside(question, clean, tokens))
    return Proof(means, ways)


def _by_one_cell(question: Question, hits: Hits, alpha: float) -> Proof:
    """One budget that was asked for, from the one cell that it leaves alone: it serves smaller budgets too."""
    (cell,) = question.cells
    shift = _cell_shift(question, hits, cell.leading_masked, alpha)
    own = Way("stratified" if question.method == "stratified" else "joint", shift)
    clean = shift.at(0.0)
    ways = [
        [own, *_beside(question, clean, tokens)] if tokens <= cell.leading_masked else []
        for tokens in range(question.max_tokens + 1)
    ]
    return Proof((Mean(cell.leading_masked, (0,), shift.lower),), ways)


def _by_budget(question: Question, hits: Hits, alpha: float) -> Proof:
    """Smoothed guards of their own for budgets d, with d slots each: all of them masked, or its own noise."""
    share, means = share_down(alpha, len(question.cells)), []
    ways: list[list[Way]] = [[] for _ in range(question.max_tokens + 1)]
    for index, cell in enumerate(question.cells):
        shift = _cell_shift(question, hits[:, :, index : index + 1], cell.leading_masked, share)
        means.append(Mean(cell.slots, (index,), shift.lower))
        if question.method == "neyman_pearson":
            ways[cell.slots].append(Way("neyman_pearson", _worst(question, shift.lower, cell.slots)))
        else:
            ways[cell.slots] += [Way("joint", shift), *_beside(question, shift.at(0.0), cell.slots)]
    return Proof(tuple(means), ways)


def _by_strata(question: Question, hits: Hits, alpha: float) -> Proof:
    """One smoothed guard against every budget, each of its strata bounded by itself (section 5)."""
    share = share_down(alpha, len(question.cells))
    lower = [_cell_shift(question, hits[:, :, k : k + 1], 0, share).lower for k in range(len(question.cells))]
    strata = suffix_mixtures(question.kernels[0], lower)
    means = tuple(Mean(k, (k,), one) for k, one in enumerate(lower))
    budgets = range(question.max_tokens + 1)
    return Proof(means, [[Way("stratified", strata[d])] if d < len(strata) else [] for d in budgets])


def _by_own_noise(question: Question, hits: Hits, alpha: float) -> Proof:
    """One smoothed guard against every budget, from its clean probability alone (section 3)."""
    lower = _cell_shift(question, hits, 0, alpha).lower
    budgets = range(question.max_tokens + 1)
    return Proof((Mean(0, (0,), lower),), [[Way("neyman_pearson", _worst(question, lower, d))] for d in budgets])


def _by_erasing(question: Question, hits: Hits, alpha: float) -> Proof:
    """Erase-and-check: one of the truncated texts is the clean one, whatever was appended (section 11)."""
    shift = _cell_shift(question, hits, 0, alpha)
    return Proof((Mean(0, (0,), shift.lower),), [[Way("erase_and_check", shift)]] * (question.max_tokens + 1))


def _by_covers(question: Question, hits: Hits, masks: Hits | None, alpha: float) -> Proof:
    """One smoothed guard against every set of positions or fields, from the tails that masked the set (section 5)."""
    budgets = range(question.max_tokens + 1)
    if not len(hits):
        return Proof((Mean(0, (0,), 0.0),), [[] for _ in budgets])
    if masks is None:
        raise ValueError("masks=None must be there for the l0 threat; draw them again from the seed")
    chances = [mask_probability(kernel) for kernel in question.kernels]
    covers = cover_shifts(
        masks,
        hits[:, :, 0],
        mask_probability=chances if question.tabular else chances[0],
        alpha=alpha,
        max_tokens=question.max_tokens,
        bound=question.bound,
    )
    clean = covers[0].at(0.0)
    ways = [[Way("joint", against_at_most(covers, d)), *_beside(question, clean, d)] for d in budgets]
    return Proof((Mean(0, (0,), clean),), ways)


def _cell_shift(question: Question, hits: Hits, masked: int, alpha: float) -> ScoreShift:
    """What the mean vote of the tails of one cell proves, where so many leading slots are masked; hits (n, r, 1)."""
    mean_alone = question.sigma == 0.0 or question.method in ("stratified", "neyman_pearson")
    return score_shift(
        draw_scores(hits, np.ones(1)),
        alpha,
        question.bound,
        binary=question.tails == 1,
        imageless=mean_alone,
        mass=float(cell_weights(question.kernels[0], masked)[-1]),
    )


def _beside(question: Question, clean: float, tokens: int) -> list[Way]:
    """What `auto` has beside: Neyman–Pearson from the same bound on the clean probability, at no risk of its own."""
    return [Way("neyman_pearson", _worst(question, clean, tokens))] if question.method == "auto" else []


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


def _scores(proofs: dict[Side, Proof]) -> tuple[Score, ...]:
    """The means that either side bounded: both bound the same ones."""
    known = {side: [mean.lower for mean in proof.means] for side, proof in proofs.items()}
    (means, *_) = (proof.means for proof in proofs.values())
    none = [0.0] * len(means)
    return tuple(
        Score(mean.tokens, mean.cells, unsafe, unsafe_at_most(safe))
        for mean, unsafe, safe in zip(means, known.get("unsafe", none), known.get("safe", none), strict=True)
    )


def _row(question: Question, proofs: dict[Side, Proof], tokens: int, epsilon: float) -> Row:
    t = _distance(question, epsilon)
    least = proofs["unsafe"].at(tokens, t) if "unsafe" in proofs else 0.0
    least = least if least > SMALLEST else 0.0  # no number of passes would show it
    most = unsafe_at_most(proofs["safe"].at(tokens, t)) if "safe" in proofs else 1.0
    return Row(tokens, epsilon, least, most, passes_to_detect(least) if least > 0.0 else None)
