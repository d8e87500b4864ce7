"""Covers: the certificate of the l0 threat, and of rewritten fields (ours, section 5).

An attacker who rewrites the positions of a set A changes nothing in the draws whose mask covers A. With b_i the mask
probabilities and q_A = P[f = 1 | A masked],

    g(x_adv) >= min over sets A of d positions of b(A) Phi(Phi^-1(q_A) - epsilon/sigma),    b(A) = prod of b_i in A.

Every q_A is estimated from one common pool: given the masks, the outcomes of the draws that cover A are independent
with mean q_A. It covers every token that an attacker may put there, those outside the alphabet included.

A draw may have r tails, each with a mask and a replacement of its own, around one image. Its score for A is the share
of hits among the tails that cover A; draws without one are left out. Given that there is one, the scores of different
draws are independent, in [0, 1] and of mean q_A, whatever the tails of one draw have in common.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, any_time_lower, lower_bound
from holdfast.certificates.bounds.means import ScoreSample, kl_lower
from holdfast.certificates.rounding import Floats, down, fraction_down
from holdfast.certificates.shifts.mixtures import event_mixture
from holdfast.certificates.shifts.shift import Greatest, Least, Shift

MAX_COVERS = 200_000
"""Sets of one size that are enumerated unless the caller says otherwise."""

MAX_TAILS = 16
"""Tails of one draw that are scored exactly."""

# Entries of the table (draws, positions, positions) that scores of several tails are counted in.
_TABLE = 2**20

Lower = Callable[[Any, int, float], float]
Counts = NDArray[np.int64]
Real = NDArray[np.floating]


def cover_count(positions: int, tokens: int) -> int:
    """Covers of a budget: sets of `tokens` of the positions, or the one set of all where there are fewer.

    Raises:
        ValueError: a count is not a nonnegative integer.
    """
    positions = ranges.whole("positions", positions)
    return math.comb(positions, min(ranges.whole("tokens", tokens), positions))


def cover_shifts(
    masks: NDArray[np.bool_],
    hits: NDArray[np.bool_],
    *,
    mask_probability: float | ArrayLike,
    alpha: float,
    max_tokens: int,
    bound: Bound = "any_time",
    max_covers: int = MAX_COVERS,
) -> list[Shift]:
    """The shift for every budget d = 0..max_tokens, of at most all positions, together at risk alpha.

    Each budget gets alpha / (max_tokens + 1), shared equally by its covers (union bound): whatever the split, a
    budget pays log of its number of covers, and equal shares add only log(max_tokens + 1) to it.

    Args:
        masks: (n, L), or (n, r, L) with r tails a draw; which of the L positions were masked.
        hits: (n,) or (n, r); which draws, or tails of a draw, gave the verdict.
        mask_probability: b_i of every position, in (0, 1]; a number or shape (L,).
        alpha: risk of the whole, strictly between 0 and 1.
        max_tokens: largest budget, at least 0; budgets above L are that of L, the last.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand; scores of
            several tails, which are no counts, then have the KL bound.
        max_covers: most covers to enumerate for one budget; a budget with more is *capped*: its shift knows nothing.

    Returns:
        Shifts of exactly d positions each; the first at distance 0 bounds the clean smoothed probability itself.

    Raises:
        ValueError: shapes or types that contradict each other, or a value outside its range.
    """
    masks, hits = _checked(masks, hits)
    positions = masks.shape[2]
    chances = _chances(mask_probability, positions)
    max_tokens = ranges.whole("max_tokens", max_tokens)
    max_covers = ranges.whole("max_covers", max_covers, least=1)
    share = ranges.open_unit("alpha", alpha) / (max_tokens + 1)
    found: list[Shift] = []
    for tokens in range(min(max_tokens, positions) + 1):
        covers = cover_count(positions, tokens)
        capped = covers > max_covers
        found.append(Greatest(()) if capped else _least(masks, hits, chances, tokens, bound, share / covers))
    return found


def against_at_most(shifts: list[Shift], tokens: int) -> Greatest:
    """The shift against any `tokens` positions: that of a larger budget is a bound too."""
    return Greatest(shifts[min(tokens, len(shifts) - 1) :])


def _least(
    masks: NDArray[np.bool_], hits: NDArray[np.bool_], chances: Floats, tokens: int, bound: Bound, share: float
) -> Least:
    """Of one budget's covers those that can be the worst at some epsilon (Pareto-minimal in mass and bound)."""
    tails = masks.shape[1]
    if tails == 1:
        below, whole = lower_bound(bound), 1
        drawn, hit = _tally(masks[:, 0], hits[:, 0], tokens)
    else:
        below, whole = (any_time_lower if bound == "any_time" else _kl_of_sum), _whole(tails)
        drawn, hit = _scored(masks, hits, tokens, whole)
    mass, drawn, hit = _hardest(_masses(chances, tokens), drawn * whole, hit)
    lower = np.array([_bounded(below, int(k), int(n), whole, share) for k, n in zip(hit, drawn, strict=True)])
    return Least([event_mixture(float(mass[k]), float(lower[k])) for k in _front(mass, lower)])


def _bounded(below: Lower, hit: int, drawn: int, whole: int, share: float) -> float:
    """The bound of a sum of scores and a number of draws, both counted in parts of 1 / `whole`."""
    draws = drawn // whole
    return below(hit if whole == 1 else fraction_down(Fraction(hit, whole)), draws, share)


def _kl_of_sum(total: float, draws: int, alpha: float) -> float:
    """KL needs the scores' mean alone."""
    return kl_lower(ScoreSample(np.array([total / draws]), np.array([draws])), alpha) if draws else 0.0


def _whole(tails: int) -> int:
    """Parts in which every share of hits among at most so many tails is a whole number."""
    if tails > MAX_TAILS:
        raise ValueError(f"masks of {tails} tails a draw must have at most {MAX_TAILS}; draw more images instead")
    return math.lcm(*range(1, tails + 1))


def _scored(masks: NDArray[np.bool_], hits: NDArray[np.bool_], tokens: int, whole: int) -> tuple[Counts, Counts]:
    """Draws with a tail that masks a cover, and the sum of their scores in parts of 1 / `whole`, of every cover.

    Covers are in the order of `itertools.combinations`; draws are taken a few at a time, so that the table of all
    their pairs of positions stays small.
    """
    covers, step = math.comb(masks.shape[2], tokens), max(1, _TABLE // max(1, masks.shape[2] ** 2))
    drawn, hit = np.zeros(covers, dtype=np.int64), np.zeros(covers, dtype=np.int64)
    for start in range(0, len(masks), step):
        _score(masks[start : start + step].astype(np.float32), hits[start : start + step], tokens, whole, drawn, hit)
    return drawn, hit


def _score(
    masks: Real, hits: NDArray[np.bool_], tokens: int, whole: int, drawn: Counts, hit: Counts, tails: Real | None = None
) -> None:
    """Adds to `drawn` and `hit`, one entry a cover, what these draws give; of their tails count those named."""
    positions = masks.shape[2]
    counted = np.ones(hits.shape, dtype=np.float32) if tails is None else tails
    if tokens > 2:
        start = 0
        for first in range(positions - tokens + 1):
            stop = start + math.comb(positions - first - 1, tokens - 1)
            rest, kept = masks[:, :, first + 1 :], counted * masks[:, :, first]
            some = np.any(kept > 0.0, axis=1)
            _score(rest[some], hits[some], tokens - 1, whole, drawn[start:stop], hit[start:stop], kept[some])
            start = stop
        return
    good = counted * hits
    if tokens == 0:
        cover, struck = counted.sum(axis=1, keepdims=True), good.sum(axis=1, keepdims=True)
    elif tokens == 1:
        cover, struck = (np.matmul(of[:, None], masks)[:, 0] for of in (counted, good))
    else:
        left, right = np.triu_indices(positions, 1)
        cover, struck = (
            np.matmul(np.swapaxes(masks * of[:, :, None], 1, 2), masks)[:, left, right] for of in (counted, good)
        )
    # Small whole numbers are exact in float32, and so is this product and quotient in float64.
    drawn += np.count_nonzero(cover, axis=0)
    hit += np.rint(struck.astype(np.float64) * whole / np.maximum(cover, 1.0)).astype(np.int64).sum(axis=0)


def _checked(masks: NDArray[np.bool_], hits: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both with an axis of tails."""
    masks, hits = np.asarray(masks), np.asarray(hits)
    if masks.ndim not in (2, 3) or masks.dtype != np.bool_ or (masks.ndim == 3 and not masks.shape[1]):
        raise ValueError(
            f"masks of {masks.dtype} {masks.shape} must be bool (draws, positions) or (draws, tails, positions), at "
            "least one tail; pass the masks"
        )
    if hits.shape != masks.shape[:-1] or hits.dtype != np.bool_:
        raise ValueError(
            f"unsafe of {hits.dtype} {hits.shape} must be bool {masks.shape[:-1]}, one per draw or tail; "
            "pass the outcomes"
        )
    return (masks, hits) if masks.ndim == 3 else (masks[:, None], hits[:, None])


def _chances(given: float | ArrayLike, positions: int) -> Floats:
    chances = np.asarray(given, dtype=np.float64)
    if chances.shape not in ((), (positions,)) or not bool(np.all((chances > 0.0) & (chances <= 1.0))):
        raise ValueError(
            f"mask_probability of shape {chances.shape} must lie in (0, 1], one number or {positions}; "
            "pass what mask_probability() gives for each kernel"
        )
    return np.broadcast_to(chances, (positions,))


def _masses(chances: Floats, tokens: int) -> Floats:
    """b(A) of every cover, in the order of `itertools.combinations`; one number where all positions are alike.

    Rounded down: every chance may be two roundings away, every product adds one.
    """
    if tokens == 0:
        return np.ones(1)
    if np.all(chances == chances[0]):
        return down(np.array([math.prod(chances[:tokens].tolist())]), 2 * tokens)
    sets = np.fromiter(chain.from_iterable(combinations(range(len(chances)), tokens)), dtype=np.int64)
    return down(np.prod(chances[sets.reshape(-1, tokens)], axis=1), 2 * tokens)


def _tally(masks: NDArray[np.bool_], hits: NDArray[np.bool_], tokens: int) -> tuple[Counts, Counts]:
    """Draws, and hits among them, that mask every cover, in the order of `itertools.combinations`."""
    exact = np.float32 if len(masks) < 2**24 else np.float64  # every count is a whole number of this type
    drawn, hit = _covered(masks.astype(exact), np.ones(len(masks), dtype=exact), hits.astype(exact), tokens)
    return drawn.astype(np.int64), hit.astype(np.int64)


def _covered(masks: Real, drawn: Real, hits: Real, tokens: int) -> tuple[Real, Real]:
    """The recursion of `_tally`: covers of up to two positions by one product, larger ones by their first position.

    Every row of `masks` stands for `drawn` draws, `hits` of them hits.
    """
    positions = masks.shape[1]
    if tokens == 0:
        return drawn.sum(keepdims=True), hits.sum(keepdims=True)
    if tokens == 1:
        return drawn @ masks, hits @ masks
    if not len(masks):
        return (np.zeros(math.comb(positions, tokens), dtype=masks.dtype),) * 2
    if len(masks) > 2**positions:
        masks, drawn, hits = _merged(masks, drawn, hits)
    if tokens == 2:
        pairs = np.triu_indices(positions, 1)
        return ((masks * drawn[:, None]).T @ masks)[pairs], ((masks * hits[:, None]).T @ masks)[pairs]
    parts = []
    for first in range(positions - tokens + 1):
        rows = masks[:, first] > 0.0
        parts.append(_covered(masks[rows, first + 1 :], drawn[rows], hits[rows], tokens - 1))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _merged(masks: Real, drawn: Real, hits: Real) -> tuple[Real, Real, Real]:
    """One row for each of the 2^positions masks: there are more draws than that."""
    bits = np.arange(masks.shape[1])
    code = masks.astype(np.int64) @ (1 << bits)
    every = np.arange(1 << len(bits))
    sums = [np.bincount(code, weights, minlength=len(every)).astype(masks.dtype) for weights in (drawn, hits)]
    return ((every[:, None] >> bits) & 1).astype(masks.dtype), sums[0], sums[1]


def _hardest(mass: Floats, drawn: Counts, hit: Counts) -> tuple[Floats, Counts, Counts]:
    """One cover for each (mass, draws, hits) that no other one of its mass has beaten: fewer hits and more misses.

    Confidence bounds rise with hits and fall with misses, so that the others cannot have a smaller bound.
    """
    misses = drawn - hit
    mass = np.broadcast_to(mass, misses.shape)
    order = np.lexsort((-misses, hit, mass))
    mass, drawn, hit, misses = mass[order], drawn[order], hit[order], misses[order]
    group = np.concatenate(([0], np.cumsum(np.diff(mass) > 0.0)))
    # A new mass starts above every earlier entry, so that the running maximum starts anew with it.
    level = misses + group * (np.max(misses) + 1)
    kept = np.concatenate(([True], level[1:] > np.maximum.accumulate(level)[:-1]))
    return mass[kept], drawn[kept], hit[kept]


def _front(mass: Floats, lower: Floats) -> NDArray[np.int64]:
    """Indexes of the Pareto-minimal pairs, by ascending mass."""
    order = np.lexsort((lower, mass))
    values = lower[order]
    least = np.concatenate(([np.inf], np.minimum.accumulate(values)[:-1]))
    return order[values < least]
