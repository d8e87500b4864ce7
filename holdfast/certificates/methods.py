"""The better of two methods per budget, at no further risk (section 5).

The bounds on the cells also bound the clean probability, p_A >= sum of w_k q_k, on the same event; so the
Neyman–Pearson radius at that p_A holds together with the stratified one and takes no share of alpha. For a uniform
kernel it covers attackers who use tokens of the alphabet only: the method's name lets the caller say so.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from holdfast.certificates.guard.sides import Verdict
from holdfast.certificates.noise.kernels import TokenKernel
from holdfast.certificates.shifts.covers import CoverBounds, cover_radii, cover_value
from holdfast.certificates.shifts.neyman_pearson import neyman_pearson_frontier
from holdfast.certificates.stratified import suffix_radii, suffix_value

Method = Literal["stratified", "neyman_pearson"]


class Reach(NamedTuple):
    """A certified radius and the method that proved it; both None where nothing is certified."""

    radius: float | None
    method: Method | None


def auto_frontier(
    lower: Sequence[float], *, kernel: TokenKernel, sigma: float, tau: float, verdict: Verdict = "unsafe"
) -> list[Reach]:
    """The suffix threat's frontier by the better method per budget; never below either of the two.

    Args:
        lower: lower bounds of the cells k = 0..m, see `cell_lower_bounds`, made for the same verdict.
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: which verdict is certified.

    Returns:
        (radius, method) per budget d = 0..m, radii rounded down and nonincreasing.

    Raises:
        ValueError: a value outside its range.
    """
    radii = suffix_radii(lower, kernel=kernel, sigma=sigma, tau=tau, verdict=verdict)
    clean = suffix_value(lower, kernel=kernel, tokens=0, epsilon=0.0, sigma=sigma)
    return better(radii, _single(clean, len(radii), kernel, sigma, tau, verdict))


def l0_auto_frontier(
    bounds: Sequence[CoverBounds], *, kernel: TokenKernel, sigma: float, tau: float, verdict: Verdict = "unsafe"
) -> list[Reach]:
    """The l0 threat's frontier by the better method per budget; covers are the stratified one.

    Args:
        bounds: all budgets of `cover_bounds` from d = 0, made for the same verdict.
        kernel: the token kernel of every position.
        sigma: standard deviation of the image noise, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: which verdict is certified.

    Returns:
        (radius, method) per budget, radii rounded down and nonincreasing.

    Raises:
        ValueError: a value outside its range.
    """
    if not len(bounds) or bounds[0].tokens:
        raise ValueError("bounds must start with the budget 0, whose bound is p_A; pass all of cover_bounds")
    clean = cover_value(bounds[0], 0.0, sigma)
    return better(cover_radii(bounds, sigma, tau, verdict), _single(clean, len(bounds), kernel, sigma, tau, verdict))


def better(stratified: Sequence[float | None], single: Sequence[float | None]) -> list[Reach]:
    """Per budget the larger radius and its method; the stratified one where they tie."""
    return [_larger(*pair) for pair in zip(stratified, single, strict=True)]


def _larger(stratified: float | None, single: float | None) -> Reach:
    if single is not None and (stratified is None or single > stratified):
        return Reach(single, "neyman_pearson")
    return Reach(stratified, None if stratified is None else "stratified")


def _single(
    clean: float, budgets: int, kernel: TokenKernel, sigma: float, tau: float, verdict: Verdict
) -> list[float | None]:
    return neyman_pearson_frontier(clean, kernel=kernel, max_tokens=budgets - 1, sigma=sigma, tau=tau, verdict=verdict)
