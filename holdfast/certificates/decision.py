"""The decision query (section 5): is one budget certified, and for which verdict."""

from collections.abc import Sequence

from holdfast.certificates import ranges
from holdfast.certificates.guard.frontier import cell_lower_bounds
from holdfast.certificates.guard.sides import Verdict, threshold
from holdfast.certificates.noise.kernels import TokenKernel
from holdfast.certificates.stratified import suffix_value


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
    """Whether the smoothed verdict is settled against every attack of one budget.

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
    share = ranges.open_unit("alpha", alpha) / 2.0

    def certified(verdict: Verdict) -> bool:
        lower = [0.0] * tokens + cell_lower_bounds(cells[tokens:], share, verdict=verdict)
        value = suffix_value(lower, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=sigma)
        return value > threshold(tau, verdict)

    if certified("unsafe"):
        return True
    return False if certified("safe") else None
