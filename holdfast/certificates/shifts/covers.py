"""Covers: the certificate of the l0 threat, and of rewritten fields (ours, section 5).

An attacker who rewrites the positions of a set A changes nothing in the draws whose mask covers A. With b_i the mask
probabilities and q_A = P[f = 1 | A masked],

    g(x_adv) >= min over sets A of d positions of b(A) Phi(Phi^-1(q_A) - epsilon/sigma),    b(A) = prod of b_i in A.

Every q_A is estimated from one common pool: given the masks, the outcomes of the draws that cover A are independent
with mean q_A. It covers every token that an attacker may put there, those outside the alphabet included.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, lower_bound
from holdfast.certificates.guard.sides import Verdict, is_safe, reported, threshold
from holdfast.certificates.noise.kernels import TokenKernel, mask_probability
from holdfast.certificates.search import greatest_proved

MAX_COVERS = 200_000
"""Sets of one size that are enumerated unless the caller says otherwise."""

_ROUNDING = 2.0**-40  # relative margin taken off a value, as for the suffix cells
_SMALLEST = 1e-290  # below it floats lose their relative precision

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Real = NDArray[np.floating]


@dataclass(frozen=True)
class CoverBounds:
    """What the pool proves about the covers of one budget.

    Attributes:
        tokens: the budget d.
        mass: b(A) of the covers that can be the worst at some epsilon (Pareto-minimal in mass and lower), ascending.
        lower: lower bounds on q_A of the same covers, each in [0, 1), descending; for Safe, on the Safe probability.
        capped: there are more covers than were to be enumerated: `mass` and `lower` are empty, nothing is certified.
    """

    tokens: int
    mass: tuple[float, ...]
    lower: tuple[float, ...]
    capped: bool = False


def cover_count(positions: int, tokens: int) -> int:
    """Covers of a budget: sets of `tokens` of the positions, or the one set of all where there are fewer.

    Raises:
        ValueError: a count is not a nonnegative integer.
    """
    positions = ranges.whole("positions", positions)
    return math.comb(positions, min(ranges.whole("tokens", tokens), positions))


def cover_bounds(
    masks: NDArray[np.bool_],
    unsafe: NDArray[np.bool_],
    *,
    mask_probability: float | ArrayLike,
    alpha: float,
    max_tokens: int,
    bound: Bound = "any_time",
    max_covers: int = MAX_COVERS,
    verdict: Verdict = "unsafe",
) -> list[CoverBounds]:
    """Bounds on q_A of every cover of every budget d = 0..max_tokens, together at risk alpha.

    Each budget gets alpha / (max_tokens + 1), shared equally by its covers (union bound): whatever the split, a
    budget pays log of its number of covers, and equal shares add only log(max_tokens + 1) to it.

    Args:
        masks: (n, L); which of the L positions were masked in each draw.
        unsafe: (n,); which draws were Unsafe.
        mask_probability: b_i of every position, in (0, 1]; a number or shape (L,).
        alpha: risk of the whole, strictly between 0 and 1.
        max_tokens: largest budget, at least 0; budgets above L are that of L.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand.
        max_covers: most covers to enumerate for one budget; budgets with more are capped.
        verdict: whose probability is bounded: that of Unsafe, or of Safe (the draws that are not Unsafe).

    Returns:
        One entry per budget; entry 0 bounds the clean smoothed probability itself.

    Raises:
        ValueError: shapes or types that contradict each other, or a value outside its range.
    """
    masks, hits = _checked(masks, unsafe, is_safe(verdict))
    positions = masks.shape[1]
    chances = _chances(mask_probability, positions)
    max_tokens = ranges.whole("max_tokens", max_tokens)
    max_covers = ranges.whole("max_covers", max_covers, least=1)
    share = ranges.open_unit("alpha", alpha) / (max_tokens + 1)
    below = lower_bound(bound)
    found: list[CoverBounds] = []
    for tokens in range(max_tokens + 1):
        covers = cover_count(positions, tokens)
        if covers > max_covers:
            found.append(CoverBounds(tokens, (), (), capped=True))
        elif tokens > positions:
            found.append(CoverBounds(tokens, found[-1].mass, found[-1].lower))
        else:
            mass, drawn, hit = _hardest(_masses(chances, tokens), *_tally(masks, hits, tokens))
            lower = np.array([below(int(k), int(n), share / covers) for k, n in zip(hit, drawn, strict=True)])
            front = _front(mass, lower)
            found.append(CoverBounds(tokens, tuple(mass[front].tolist()), tuple(lower[front].tolist())))
    return found


def cover_value(bounds: CoverBounds, epsilon: float, sigma: float, verdict: Verdict = "unsafe") -> float:
    """Lower bound on the smoothed probability of Unsafe under every attack on at most `bounds.tokens` positions.

    A larger budget's value is a bound too: callers take the best of `bounds` at d and above.

    Args:
        bounds: one entry of `cover_bounds`, made for the same verdict.
        epsilon: L2 norm of the image shift, at least 0, in the units of sigma.
        sigma: standard deviation of the image noise, above 0.
        verdict: `safe` turns the answer into an upper bound on the Unsafe probability.

    Returns:
        The bound in [0, 1], rounded down, 0.0 where capped; for Safe rounded up, 1.0 where capped.

    Raises:
        ValueError: a value outside its range.
    """
    shift = ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)
    return reported(_value(*_arrays(bounds), shift), verdict)


def cover_radius(bounds: CoverBounds, sigma: float, tau: float, verdict: Verdict = "unsafe") -> float | None:
    """Certified image radius beside `bounds.tokens` rewritten positions: where `cover_value` is still above tau.

    Args:
        bounds: one entry of `cover_bounds`, made for the same verdict.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: for `safe`, the radius at which the smoothed Unsafe probability stays below tau.

    Returns:
        The radius in the units of sigma, rounded down; None where nothing is certified, as where capped.

    Raises:
        ValueError: a value outside its range.
    """
    sigma, tau = ranges.positive("sigma", sigma), threshold(tau, verdict)
    mass, quantiles = _arrays(bounds)
    if not _value(mass, quantiles, 0.0) > tau:
        return None
    guess = float(np.min(quantiles - ndtri(np.minimum(tau / mass, 1.0))))
    if guess == math.inf:
        return guess
    reach = greatest_proved(guess, lambda shift: _value(mass, quantiles, shift) > tau)
    return None if reach is None else reach * sigma


def cover_radii(
    bounds: Sequence[CoverBounds], sigma: float, tau: float, verdict: Verdict = "unsafe"
) -> list[float | None]:
    """The frontier of all budgets, as `cover_radius`; a budget certified by a larger one is certified."""
    radii: list[float | None] = []
    best: float | None = None
    for entry in reversed(bounds):
        radius = cover_radius(entry, sigma, tau, verdict)
        best = radius if best is None or (radius is not None and radius > best) else best
        radii.append(best)
    return radii[::-1]


def l0_frontier(
    masks: NDArray[np.bool_],
    unsafe: NDArray[np.bool_],
    *,
    kernel: TokenKernel,
    sigma: float,
    tau: float,
    alpha: float,
    max_tokens: int,
    bound: Bound = "any_time",
    max_covers: int = MAX_COVERS,
    verdict: Verdict = "unsafe",
) -> list[float | None]:
    """The frontier r(d), d = 0..max_tokens, of the l0 threat from one pool of draws (section 5).

    With probability at least 1 - alpha over the draws, for all d at once: every attack that rewrites any d positions
    and shifts the image by less than r(d) leaves the smoothed probability of Unsafe above tau (for the verdict Safe:
    below tau). How alpha is shared: see `cover_bounds`.

    Args:
        masks: (n, L); which of the L positions were masked in each draw.
        unsafe: (n,); which draws were Unsafe.
        kernel: the token kernel of every position; the uniform one needs beta <= (V-1)/V.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk, strictly between 0 and 1.
        max_tokens: largest budget, at least 0.
        bound: the confidence bound, see `cover_bounds`.
        max_covers: budgets with more covers are not certified by this method.
        verdict: which verdict is certified.

    Returns:
        max_tokens + 1 radii in the units of sigma, rounded down and nonincreasing; None is *not certified*.

    Raises:
        ValueError: a value outside its range; the message gives value, rule and remedy.
    """
    bounds = cover_bounds(
        masks,
        unsafe,
        mask_probability=mask_probability(kernel),
        alpha=alpha,
        max_tokens=max_tokens,
        bound=bound,
        max_covers=max_covers,
        verdict=verdict,
    )
    return cover_radii(bounds, sigma, tau, verdict)


def _checked(
    masks: NDArray[np.bool_], unsafe: NDArray[np.bool_], safe: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    masks, unsafe = np.asarray(masks), np.asarray(unsafe)
    if masks.ndim != 2 or masks.dtype != np.bool_:
        raise ValueError(f"masks of {masks.dtype} {masks.shape} must be bool (draws, positions); pass the masks")
    if unsafe.shape != masks.shape[:1] or unsafe.dtype != np.bool_:
        raise ValueError(
            f"unsafe of {unsafe.dtype} {unsafe.shape} must be bool ({len(masks)},), one per draw; pass the outcomes"
        )
    return masks, ~unsafe if safe else unsafe


def _chances(given: float | ArrayLike, positions: int) -> Floats:
    chances = np.asarray(given, dtype=np.float64)
    if chances.shape not in ((), (positions,)) or not bool(np.all((chances > 0.0) & (chances <= 1.0))):
        raise ValueError(
            f"mask_probability of shape {chances.shape} must lie in (0, 1], one number or {positions}; "
            "pass what mask_probability() gives for each kernel"
        )
    return np.broadcast_to(chances, (positions,))


def _masses(chances: Floats, tokens: int) -> Floats:
    """b(A) of every cover, in the order of `itertools.combinations`; one number where all positions are alike."""
    if tokens == 0 or np.all(chances == chances[0]):
        return np.array([math.prod(chances[:tokens].tolist())])
    sets = np.fromiter(chain.from_iterable(combinations(range(len(chances)), tokens)), dtype=np.int64)
    masses: Floats = np.prod(chances[sets.reshape(-1, tokens)], axis=1)
    return masses


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


def _arrays(bounds: CoverBounds) -> tuple[Floats, Floats]:
    """Masses and quantiles, the quantiles rounded down; a capped budget is a cover that is never masked."""
    if bounds.capped:
        return np.zeros(1), np.full(1, -np.inf)
    quantiles = ndtri(np.array([ranges.closed_unit("lower", q) for q in bounds.lower]))
    finite = np.isfinite(quantiles)
    quantiles[finite] -= 2.0**-48 * (1.0 + np.abs(quantiles[finite]))
    return np.array(bounds.mass), quantiles


def _value(mass: Floats, quantiles: Floats, shift: float) -> float:
    if shift == math.inf:
        return 0.0
    value = float(np.min(mass * ndtr(quantiles - shift))) * (1.0 - _ROUNDING)
    return value if value > _SMALLEST else 0.0
