"""The stratified certificate of the suffix threat (ours, section 5).

The sampler knows how many leading slots it masked. Given that the first k >= d are masked, the text has the same
law at the clean and at any attacked input, and only the image's Gaussian shift is left:

    g(x_adv) >= sum over k >= d of w_k Phi(Phi^-1(q_k) - epsilon/sigma),    q_k = P[f = 1 | K = k].

It covers every token that an attacker may put into the slots, those outside the alphabet included.
Text-only certificates read the value at epsilon = 0; image-only ones have a single cell.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.guard.sides import Verdict, reported, threshold
from holdfast.certificates.noise.kernels import TokenKernel, cell_weights
from holdfast.certificates.search import greatest_proved

_ROUNDING = 2.0**-40
"""Relative margin taken off a value; the roundings behind it stay below 1e-13 for shifts up to 37 sigma."""
_SMALLEST = 1e-290  # below it floats lose their relative precision

Floats = NDArray[np.float64]


def suffix_value(
    lower: Sequence[float],
    *,
    kernel: TokenKernel,
    tokens: int,
    epsilon: float,
    sigma: float,
    verdict: Verdict = "unsafe",
) -> float:
    """Lower bound on the smoothed probability of Unsafe under every attack of one budget (section 5).

    Never above the true worst case when the cells' bounds hold; at epsilon = 0 no image attack is left and sigma
    does not matter.

    Args:
        lower: lower bounds on q_k, k = 0..m, each in [0, 1]; for Safe, on the Safe probability of each cell.
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        tokens: d, how many leading slots the attacker rewrites, 0..m.
        epsilon: L2 norm of the image shift, at least 0, in the units of sigma.
        sigma: standard deviation of the image noise, above 0.
        verdict: `safe` turns the answer into an upper bound on the same probability.

    Returns:
        The bound in [0, 1], rounded down; for Safe rounded up.

    Raises:
        ValueError: a value outside its range.
    """
    weights, quantiles = _cells(lower, kernel)
    tokens = _budget(tokens, len(weights) - 1)
    shift = ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)
    return reported(_value(weights, quantiles, tokens, shift), verdict)


def suffix_radius(
    lower: Sequence[float],
    *,
    kernel: TokenKernel,
    tokens: int,
    sigma: float,
    tau: float,
    verdict: Verdict = "unsafe",
) -> float | None:
    """Certified image radius beside `tokens` rewritten slots: where `suffix_value` is still above tau.

    Args:
        lower: lower bounds on q_k, k = 0..m; for Safe, on the Safe probability of each cell.
        kernel: the token kernel.
        tokens: d, 0..m.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: for `safe`, the radius at which the smoothed Unsafe probability stays below tau.

    Returns:
        The radius in the units of sigma, rounded down; None where nothing is certified; inf only when cells with
        `lower` = 1 weigh more than tau by themselves.

    Raises:
        ValueError: a value outside its range.
    """
    tokens = _budget(tokens, len(lower) - 1)
    return suffix_radii(lower, kernel=kernel, sigma=sigma, tau=tau, verdict=verdict)[tokens]


def suffix_radii(
    lower: Sequence[float], *, kernel: TokenKernel, sigma: float, tau: float, verdict: Verdict = "unsafe"
) -> list[float | None]:
    """The radii of all budgets d = 0..m at once, as `suffix_radius`; nonincreasing in d, None at the end."""
    weights, quantiles = _cells(lower, kernel)
    sigma = ranges.positive("sigma", sigma)
    tau = threshold(tau, verdict)
    radii: list[float | None] = []
    cap = math.inf
    for tokens, guess in enumerate(_guesses(weights, quantiles, tau)):
        reach: float | None = None
        if _value(weights, quantiles, tokens, math.inf) > tau:
            reach = math.inf
        elif guess > 0.0:
            reach = greatest_proved(guess, partial(_exceeds, tau, weights, quantiles, tokens))
        cap = min(cap, reach or 0.0)
        radii.append(cap * sigma if cap > 0.0 else None)
    return radii


def _cells(lower: Sequence[float], kernel: TokenKernel) -> tuple[Floats, Floats]:
    """Weights and quantiles of the cells, the quantiles rounded down."""
    if not len(lower):
        raise ValueError("lower=[] must hold one bound per cell; pass at least one")
    bounds = np.array([ranges.closed_unit(f"lower[{k}]", q) for k, q in enumerate(lower)])
    quantiles = ndtri(bounds)
    finite = np.isfinite(quantiles)
    quantiles[finite] -= 2.0**-48 * (1.0 + np.abs(quantiles[finite]))
    return cell_weights(kernel, len(bounds) - 1), quantiles


def _budget(tokens: int, slots: int) -> int:
    tokens = ranges.whole("tokens", tokens)
    if tokens > slots:
        raise ValueError(f"tokens={tokens} must be at most the {slots} slots that have cells; lower tokens")
    return tokens


def _value(weights: Floats, quantiles: Floats, tokens: int, shift: float) -> float:
    if math.isinf(shift):
        return float(weights[tokens:] @ np.isposinf(quantiles[tokens:]))
    value = float(weights[tokens:] @ ndtr(quantiles[tokens:] - shift)) * (1.0 - _ROUNDING)
    return value if value > _SMALLEST else 0.0


def _exceeds(tau: float, weights: Floats, quantiles: Floats, tokens: int, shift: float) -> bool:
    return _value(weights, quantiles, tokens, shift) > tau


def _guesses(weights: Floats, quantiles: Floats, tau: float) -> Floats:
    """Approximate radii of all budgets in units of sigma, by Newton steps on the probit of the value.

    Budgets whose value at shift 0 is not above tau come back as 0.
    """
    tail = np.triu(np.broadcast_to(weights, (len(weights), len(weights))))
    finite = np.where(np.isinf(quantiles), np.sign(quantiles) * 40.0, quantiles)
    target = float(ndtri(tau))
    low = np.zeros(len(weights))
    high = np.full(len(weights), max(0.0, float(np.max(finite)) - target))
    shift = low.copy()
    for _ in range(60):
        reached = finite[None, :] - shift[:, None]
        probit = ndtri(np.sum(tail * ndtr(reached), axis=1))
        above = probit > target
        low = np.where(above, shift, low)
        high = np.where(above, high, shift)
        density = np.sum(tail * np.exp(-0.5 * reached**2), axis=1)
        with np.errstate(all="ignore"):
            step = (probit - target) * np.exp(-0.5 * probit**2) / density
        proposal = shift + step
        moved = np.where((proposal >= low) & (proposal <= high), proposal, 0.5 * (low + high))
        if np.all(np.abs(moved - shift) <= 2.0**-40 * moved):
            break
        shift = moved
    return np.where(high > 0.0, shift, 0.0)
