"""The Neyman–Pearson hybrid certificate: what one number p_A proves ([H] Theorem 4.2 and A.13, section 3).

The worst classifier at a budget fills the noise space by ascending likelihood ratio until it holds p_A of the clean
mass. With token groups of clean mass p, attacked mass a and log ratio l, s = epsilon / sigma and a threshold t = e^u:

    F(u) = sum p Phi(y),    V(u) = sum a Phi(y - s),    y = (u - l) / s + s / 2.

By weak duality V(u) - t (F(u) - p_A) is a lower bound for *every* u, so that the root F(u) = p_A needs no accuracy
and only the evaluation has to be rounded down. Token masses are exact rationals, and p_A is compared with them
exactly, from the side (p_A or 1 - p_A) on which less is left. The ratios cover attackers who use alphabet tokens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.guard.sides import Verdict, reported, threshold
from holdfast.certificates.noise.kernels import TokenKernel
from holdfast.certificates.noise.ratios import RatioGroups, ratio_groups
from holdfast.certificates.search import greatest_proved, rising_root

Floats = NDArray[np.float64]

_ULP = 2.0**-52
_SMALLEST = 1e-290  # below it floats lose their relative precision
_FAR = 37.0  # quantiles beyond it belong to such masses
_STEP = 2.0**-36
# The value at a smaller shift is bounded by the one here; division by s stays harmless.
_LEAST_SHIFT = 2.0**-40
_GREATEST_SHIFT = 100.0  # beyond it no p_A below 1 leaves a value that a float can hold
_LOG_LARGEST = 700.0


def neyman_pearson_value(
    p_lower: float,
    *,
    kernel: TokenKernel,
    tokens: int,
    epsilon: float,
    sigma: float,
    verdict: Verdict = "unsafe",
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
    shift = ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)
    return reported(groups_value(p_lower, ratio_groups(kernel, tokens), shift), verdict)


def neyman_pearson_radius(
    p_lower: float, *, kernel: TokenKernel, tokens: int, sigma: float, tau: float, verdict: Verdict = "unsafe"
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
    sigma, tau = ranges.positive("sigma", sigma), threshold(tau, verdict)
    reach = groups_radius(p_lower, ratio_groups(kernel, tokens), tau)
    return None if reach is None else reach * sigma


def neyman_pearson_frontier(
    p_lower: float, *, kernel: TokenKernel, max_tokens: int, sigma: float, tau: float, verdict: Verdict = "unsafe"
) -> list[float | None]:
    """`neyman_pearson_radius` of every budget d = 0..max_tokens, all from the one p_A and so at its risk.

    Against suffix and l0 attacks alike; for the uniform kernel by attackers who use tokens of the alphabet only.

    Args:
        p_lower: lower bound p_A on the clean smoothed probability, in [0, 1]; for Safe, on that of Safe.
        kernel: the token kernel.
        max_tokens: the largest budget, at least 0.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: which verdict is certified.

    Returns:
        max_tokens + 1 radii in the units of sigma, nonincreasing; None is *not certified*.

    Raises:
        ValueError: a value outside its range.
    """

    def radius(tokens: int) -> float | None:
        return neyman_pearson_radius(p_lower, kernel=kernel, tokens=tokens, sigma=sigma, tau=tau, verdict=verdict)

    return nonincreasing(radius, ranges.whole("max_tokens", max_tokens) + 1)


def nonincreasing(radius: Callable[[int], float | None], budgets: int) -> list[float | None]:
    """Radii of the budgets 0..budgets-1, each at most the one before it; asks for none after the first None."""
    radii: list[float | None] = []
    cap = math.inf
    for budget in range(budgets):
        cap = min(cap, radius(budget) or 0.0) if cap > 0.0 else 0.0
        radii.append(cap if cap > 0.0 else None)
    return radii


def groups_value(p_lower: float, groups: RatioGroups, shift: float) -> float:
    """The value of one cell: attacked mass left when p_lower of the clean mass of `groups` is Unsafe.

    Args:
        p_lower: lower bound on the Unsafe share of the clean mass, in [0, 1].
        groups: the cell's groups, by ascending ratio; their masses may sum to less than 1.
        shift: epsilon / sigma, at least 0.

    Returns:
        The bound, rounded down.
    """
    problem = _pose(p_lower, groups)
    if problem is None:
        return 0.0
    if shift == 0.0 or problem.excluded == 0.0:
        return problem.knapsack
    if shift > _GREATEST_SHIFT:
        return 0.0
    return min(problem.knapsack, _proved_value(problem, shift))


def groups_radius(p_lower: float, groups: RatioGroups, tau: float) -> float | None:
    """Where the value of groups of clean mass 1 passes tau, in units of sigma and rounded down; None is nowhere."""
    problem = _pose(p_lower, groups)
    if problem is None or problem.knapsack <= tau:
        return None
    if problem.excluded == 0.0:
        return math.inf
    return greatest_proved(_guess_radius(problem, p_lower, tau), lambda s: _proved_value(problem, s) > tau)


@dataclass(frozen=True)
class _Problem:
    """One p_A against the token groups that both sides can produce.

    Attributes:
        clean: their clean masses p.
        adversarial: their attacked masses a.
        gap: their log ratios, from that of the anchor, the group which p_A cuts at shift 0.
        anchor: the anchor's log ratio.
        start: the threshold in the anchor group at shift 0.
        included: clean mass of theirs that the test holds (p_A without the groups of ratio 0).
        excluded: clean mass that the test leaves out (1 - p_A).
        knapsack: the value at shift 0, rounded down.
    """

    clean: Floats
    adversarial: Floats
    gap: Floats
    anchor: float
    start: float
    included: float
    excluded: float
    knapsack: float


def _pose(p_lower: float, groups: RatioGroups) -> _Problem | None:
    """The problem of one p_A; None when groups of ratio 0 can hold all of it, so that nothing is left."""
    p_lower = ranges.closed_unit("p_lower", p_lower)
    rows = [
        row for row in zip(groups.clean, groups.adversarial, groups.log_ratio, strict=True) if math.isfinite(row[2])
    ]
    excluded = sum(groups.clean, Fraction(0)) * (1 - Fraction(p_lower))
    included = sum((row[0] for row in rows), Fraction(0)) - excluded
    if included <= 0:
        return None
    value, left = Fraction(0), included
    for clean, adversarial, anchor in rows:  # noqa: B007  the group that the loop ends in is the anchor
        share = min(Fraction(1), left / clean)
        value += share * adversarial
        left -= share * clean
        if not left:
            break
    return _Problem(
        clean=np.array([float(row[0]) for row in rows]),
        adversarial=np.array([float(row[1]) for row in rows]),
        gap=np.array([row[2] for row in rows]) - anchor,
        anchor=anchor,
        start=_quantile(share, 1 - share),
        included=float(included),
        excluded=float(excluded),
        knapsack=_round_down(value),
    )


def _quantile(below: Fraction, above: Fraction) -> float:
    """Normal quantile of below / (below + above), precise in both tails."""
    total = below + above
    return float(ndtri(float(below / total)) if below < above else -ndtri(float(above / total)))


def _round_down(value: Fraction) -> float:
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, 0.0)


def _arguments(problem: _Problem, shift: float, threshold: float) -> Floats:
    """The y of every group; `threshold` is (u - anchor) / s."""
    return threshold - problem.gap / shift + shift / 2.0


def _threshold(problem: _Problem, shift: float, start: float) -> float:
    """Approximate root of F = p_A, by Newton steps on the probit of the smaller side."""
    mass = problem.included + problem.excluded
    sign = 1.0 if problem.included <= problem.excluded else -1.0
    target = float(ndtri(min(problem.included, problem.excluded) / mass))

    def deviation(threshold: float) -> tuple[float, float]:
        y = _arguments(problem, shift, threshold)
        probit = float(ndtri(problem.clean @ ndtr(sign * y) / mass))
        if abs(probit) > _FAR:
            return math.copysign(math.inf, sign * probit), 0.0
        return sign * (probit - target), _density(problem.clean, y) / mass * math.exp(0.5 * probit**2)

    ends = sign * target - shift / 2.0 + problem.gap / shift
    return rising_root(deviation, float(np.min(ends)) - 1.0, float(np.max(ends)) + 1.0, start, _STEP)


def _density(masses: Floats, arguments: Floats) -> float:
    """Sum of masses times exp(-arguments^2 / 2)."""
    return float(masses @ np.exp(-0.5 * np.minimum(np.abs(arguments), 38.0) ** 2))


def _rounding(arguments: Floats) -> Floats:
    """Relative error allowed to Phi, for its own rounding and that of its argument."""
    return (16.0 + 4.0 * np.clip(arguments, -40.0, 0.0) ** 2) * _ULP


def _phi_down(arguments: Floats) -> Floats:
    return np.maximum(ndtr(arguments) * (1.0 - _rounding(arguments)) - _SMALLEST, 0.0)


def _phi_up(arguments: Floats) -> Floats:
    return ndtr(arguments) * (1.0 + _rounding(arguments)) + _SMALLEST


def _proved_value(problem: _Problem, shift: float) -> float:
    """The dual bound V - t (F - p_A) at a near-optimal threshold, every rounding taken against us."""
    shift = max(shift, _LEAST_SHIFT)
    threshold = _threshold(problem, shift, problem.start - shift / 2.0)
    threshold = min(threshold, (_LOG_LARGEST - problem.anchor) / shift)
    y = _arguments(problem, shift, threshold)
    sums = 4.0 * (len(y) + 4) * _ULP
    value = float(problem.adversarial @ _phi_down(y - shift)) * (1.0 - sums)
    if problem.included <= problem.excluded:
        slack = problem.included * (1.0 - sums) - float(problem.clean @ _phi_up(y)) * (1.0 + sums)
    else:
        slack = float(problem.clean @ _phi_down(-y)) * (1.0 - sums) - problem.excluded * (1.0 + sums)
    return max(0.0, value + math.exp(problem.anchor + shift * threshold) * slack)


def _guess_radius(problem: _Problem, p_lower: float, tau: float) -> float:
    """Approximate radius in units of sigma; the radius without a token budget bounds it."""
    target = float(ndtri(tau))
    cap = max(0.0, _quantile(Fraction(p_lower), 1 - Fraction(p_lower)) - target)
    warm = problem.start

    def deviation(shift: float) -> tuple[float, float]:
        nonlocal warm
        shift = max(shift, _LEAST_SHIFT)
        warm = _threshold(problem, shift, warm)
        x = _arguments(problem, shift, warm) - shift
        probit = float(ndtri(problem.adversarial @ ndtr(x)))
        if abs(probit) > _FAR:
            return math.copysign(math.inf, -probit), 0.0
        # Along the optimum dV/ds is minus the attacked mass at the threshold (envelope theorem).
        return target - probit, _density(problem.adversarial, x) * math.exp(0.5 * probit**2)

    start = float(ndtri(problem.knapsack)) - target
    return rising_root(deviation, 0.0, cap, start, _STEP)
