"""Counts in, radii out, for callers with a kernel at hand: the same shifts that `answer` serves, for either verdict.

Here the counts of Safe take the place of Unsafe where `verdict="safe"` asks for it; nothing below knows of verdicts.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, lower_bound
from holdfast.certificates.guard.sides import Side, is_safe, reported, threshold
from holdfast.certificates.noise.kernels import TokenKernel, mask_probability
from holdfast.certificates.noise.ratios import ratio_groups
from holdfast.certificates.rounding import share_down
from holdfast.certificates.shifts.covers import MAX_COVERS, against_at_most, cover_shifts
from holdfast.certificates.shifts.joint import checked_votes, joint_shifts
from holdfast.certificates.shifts.mixtures import mean_mixture, suffix_mixtures
from holdfast.certificates.shifts.neyman_pearson import worst_classifier
from holdfast.certificates.shifts.shift import Shift


def suffix_frontier(
    cells: Sequence[tuple[int, int]],
    *,
    kernel: TokenKernel,
    sigma: float,
    tau: float,
    alpha: float,
    bound: Bound = "any_time",
    verdict: Side = "unsafe",
) -> list[float | None]:
    """The frontier r(d), d = 0..m, of the suffix threat from the counts of its cells (section 5).

    With probability at least 1 - alpha over the draws, for all d at once: every attack that rewrites at most d
    leading slots and shifts the image by less than r(d) leaves the smoothed probability of Unsafe above tau (for
    the verdict Safe: below tau). Both verdicts together hold at the sum of their alphas.

    Args:
        cells: (draws, unsafe) of the cells k = 0..m; in cell k exactly k leading slots were masked, in the last one
            at least m. A single cell is the image-only certificate.
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk, strictly between 0 and 1; every cell has an equal share of it.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand.
        verdict: which verdict is certified.

    Returns:
        m+1 radii in the units of sigma, rounded down and nonincreasing; None is *not certified*.

    Raises:
        ValueError: a value outside its range; the message gives value, rule and remedy.
    """
    lower = _bounds(cells, verdict, ranges.open_unit("alpha", alpha), bound)
    return _radii(suffix_mixtures(kernel, lower), sigma, threshold(tau, verdict))


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
    verdict: Side = "unsafe",
) -> list[float | None]:
    """The frontier r(d), d = 0..max_tokens, of the l0 threat from one pool of draws (section 5).

    With probability at least 1 - alpha over the draws, for all d at once: every attack that rewrites any d positions
    and shifts the image by less than r(d) leaves the smoothed probability of Unsafe above tau (for the verdict Safe:
    below tau). How alpha is shared: see `cover_shifts`.

    Args:
        masks: (n, L); which of the L positions were masked in each draw.
        unsafe: (n,); which draws were Unsafe.
        kernel: the token kernel of every position; the uniform one needs beta <= (V-1)/V.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk, strictly between 0 and 1.
        max_tokens: largest budget, at least 0.
        bound: the confidence bound, see `suffix_frontier`.
        max_covers: budgets with more covers are not certified by this method.
        verdict: which verdict is certified.

    Returns:
        max_tokens + 1 radii in the units of sigma, rounded down and nonincreasing; None is *not certified*.

    Raises:
        ValueError: a value outside its range; the message gives value, rule and remedy.
    """
    outcomes = np.asarray(unsafe)
    covers = cover_shifts(
        masks,
        ~outcomes if is_safe(verdict) and outcomes.dtype == np.bool_ else outcomes,
        mask_probability=mask_probability(kernel),
        alpha=alpha,
        max_tokens=max_tokens,
        bound=bound,
        max_covers=max_covers,
    )
    return _radii([against_at_most(covers, tokens) for tokens in range(max_tokens + 1)], sigma, threshold(tau, verdict))


def joint_frontier(
    votes: NDArray[np.bool_],
    *,
    kernel: TokenKernel,
    sigma: float,
    tau: float,
    alpha: float,
    bound: Bound = "any_time",
) -> list[float | None]:
    """The frontier r(d), d = 0..m, of the suffix threat from draws that are scored in every cell (section 5).

    With probability at least 1 - alpha over the draws, for all d at once: every attack that rewrites the first d slots
    with *any* tokens, those outside the alphabet included, and shifts the image by less than r(d) leaves the smoothed
    probability of these votes above tau. So no Neyman–Pearson bound is in it, whose ratios cover the alphabet alone.

    Args:
        votes: (draws, tails, m+1) bool; tail i of draw j in cell k, where exactly k leading slots are masked, in the
            last one all m. Near ties are already counted against the claim. For a Safe verdict pass the votes for
            Safe, and 1 - tau rounded up for tau.
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk of this one side, strictly between 0 and 1; its shares are those of `budget_shares`.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand.

    Returns:
        m+1 radii in the units of sigma, rounded down and nonincreasing; None is *not certified*.

    Raises:
        ValueError: shapes or types that contradict each other, or a value outside its range.
    """
    budgets = joint_shifts(checked_votes(votes, "votes"), kernel, alpha, bound)
    return _radii([budget.serves for budget in budgets], sigma, threshold(tau, "unsafe"))


def append_radius(
    unsafe: int, draws: int, *, sigma: float, tau: float, alpha: float, bound: Bound = "any_time"
) -> float | None:
    """The radius of erase-and-check: what holds whatever is appended (Kumar et al. 2024; the image part is ours).

    The rule calls an input Unsafe if the image-smoothed probability of Unsafe exceeds tau for the text or for one of
    its truncations by up to C characters. If at most C are appended, one of the truncations is the clean text. So with
    probability at least 1 - alpha over the draws, the input is called Unsafe after every such attack with an image
    shift below the radius sigma (Phi^-1(L) - Phi^-1(tau)): one radius for every C. Rewrites and insertions are not
    covered, and nothing is proved of Safe.

    Args:
        unsafe: Unsafe draws of the clean text under image noise alone, 0..draws.
        draws: independent draws taken, at least 0.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk, strictly between 0 and 1.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand.

    Returns:
        The radius in the units of sigma, rounded down; None is *not certified*.

    Raises:
        ValueError: a value outside its range.
    """
    lower = lower_bound(bound)(ranges.whole("unsafe", unsafe), draws, alpha)
    return _radii([mean_mixture(lower)], sigma, threshold(tau, "unsafe"))[0]


def decide(
    cells: Sequence[tuple[int, int]],
    *,
    kernel: TokenKernel,
    tokens: int,
    epsilon: float,
    sigma: float,
    tau: float,
    alpha: float,
) -> bool | None:
    """Whether the smoothed verdict is settled against every attack of one budget (section 5, pooled decision).

    With probability at least 1 - alpha over the draws, at every moment that it is asked (any-time bounds): True only
    if every attack leaves the smoothed probability of Unsafe above tau, False only if every attack leaves it below.
    alpha is split in halves between the two, then equally over the cells k >= tokens; the others say nothing about
    this budget. Pooled into one cell (s = tokens) the query needs fewest draws.

    Args:
        cells: (draws, unsafe) of the cells k = 0..s; in cell k exactly k leading slots were masked, in the last one
            at least s.
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        tokens: d, how many leading slots the attacker rewrites, 0..s.
        epsilon: L2 norm of the image shift, at least 0, in the units of sigma.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk, strictly between 0 and 1.

    Returns:
        True: Unsafe is certified. False: Safe is certified. None: neither (abstain).

    Raises:
        ValueError: a value outside its range.
    """
    tokens = ranges.whole("tokens", tokens)
    if tokens >= len(cells):
        raise ValueError(f"tokens={tokens} must be below the {len(cells)} cells; sample a cell with so many masked")
    share, t = ranges.open_unit("alpha", alpha) / 2.0, _distance(epsilon, sigma)

    def certified(verdict: Side) -> bool:
        lower = (0.0,) * tokens + _bounds(cells[tokens:], verdict, share, "any_time")
        return suffix_mixtures(kernel, lower)[tokens].at(t) > threshold(tau, verdict)

    if certified("unsafe"):
        return True
    return False if certified("safe") else None


def neyman_pearson_value(
    p_lower: float, *, kernel: TokenKernel, tokens: int, epsilon: float, sigma: float, verdict: Side = "unsafe"
) -> float:
    """Lower bound on the smoothed probability under every attack of one budget ([H] Theorem 4.2).

    Holds whenever p_lower is at most the clean probability: never above the worst case over all classifiers with
    that clean probability, and equal to it but for rounding. Limits: no token budget gives
    Phi(Phi^-1(p_lower) - epsilon/sigma), no image budget the fractional knapsack, computed in rationals.

    Args:
        p_lower: lower bound p_A on the clean smoothed probability, in [0, 1]; for Safe, on that of Safe.
        kernel: the token kernel.
        tokens: d, rewritten positions, at least 0.
        epsilon: L2 norm of the image shift, at least 0, in the units of sigma.
        sigma: standard deviation of the image noise, above 0.
        verdict: `safe` turns the answer into an upper bound on the Unsafe probability.

    Returns:
        The bound in [0, 1], rounded down; for Safe rounded up.

    Raises:
        ValueError: a value outside its range.
    """
    t = _distance(epsilon, sigma)
    return reported(worst_classifier(p_lower, ratio_groups(kernel, tokens)).at(t), verdict)


def neyman_pearson_radius(
    p_lower: float, *, kernel: TokenKernel, tokens: int, sigma: float, tau: float, verdict: Side = "unsafe"
) -> float | None:
    """Certified image radius beside `tokens` rewritten positions: sup of epsilon with value above tau (section 3).

    Solved once in units of sigma; the returned end of the search is one where the lower bound was evaluated above
    tau. At most 1e-9 (relative) below the exact radius for tau down to 1e-12.

    Args:
        p_lower: lower bound p_A on the clean smoothed probability, in [0, 1]; for Safe, on that of Safe.
        kernel: the token kernel.
        tokens: d, rewritten positions, at least 0.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: for `safe`, the radius at which the smoothed Unsafe probability stays below tau.

    Returns:
        The radius in the units of sigma, rounded down; None when the value at epsilon = 0 is not above tau; inf
        only for p_lower = 1.

    Raises:
        ValueError: a value outside its range.
    """
    return _radii([worst_classifier(p_lower, ratio_groups(kernel, tokens))], sigma, threshold(tau, verdict))[0]


def _bounds(cells: Sequence[tuple[int, int]], verdict: Side, alpha: float, bound: Bound) -> tuple[float, ...]:
    """Lower bounds on the verdict's probability in every cell from (draws, unsafe), each at an equal share."""
    if not len(cells):
        raise ValueError("cells=[] must hold (draws, unsafe) of at least one cell; pass the counts")
    safe, counts = is_safe(verdict), []
    for index, cell in enumerate(cells):
        if len(cell) != 2:
            raise ValueError(f"cells[{index}] has {len(cell)} entries, must be (draws, unsafe); pass both counts")
        draws = ranges.whole(f"cells[{index}].draws", cell[0])
        unsafe = ranges.whole(f"cells[{index}].unsafe", cell[1])
        if unsafe > draws:
            raise ValueError(
                f"cells[{index}].unsafe={unsafe} must be at most cells[{index}].draws={draws}; count each draw once"
            )
        counts.append((draws, draws - unsafe if safe else unsafe))
    limit, share = lower_bound(bound), share_down(alpha, len(cells))
    return tuple(limit(hits, draws, share) for draws, hits in counts)


def _distance(epsilon: float, sigma: float) -> float:
    """In units of sigma."""
    return ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)


def _radii(shifts: Sequence[Shift], sigma: float, level: float) -> list[float | None]:
    """How far each budget's shift exceeds the level, at most as far as the one before, in the units of sigma."""
    sigma, radii, cap = ranges.positive("sigma", sigma), list[float | None](), float("inf")
    for shift in shifts:
        cap = min(cap, shift.reach(level) or 0.0) if cap else 0.0
        radii.append(cap * sigma or None)
    return radii
