"""Evidence in, frontier out: the functions that callers use for the suffix threat."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, lower_bound
from holdfast.certificates.guard.sides import Verdict, is_safe
from holdfast.certificates.noise.kernels import TokenKernel
from holdfast.certificates.stratified import suffix_radii, suffix_value


class WorstCase(NamedTuple):
    """What every attack of one budget can make of the smoothed probability of Unsafe.

    Attributes:
        tokens: rewritten slots d.
        epsilon: L2 norm of the image shift, in the units of sigma.
        value: lower bound on the probability, in [0, 1]; for the verdict Safe an upper bound.
    """

    tokens: int
    epsilon: float
    value: float


def cell_lower_bounds(
    cells: Sequence[tuple[int, int]], alpha: float, bound: Bound = "any_time", verdict: Verdict = "unsafe"
) -> list[float]:
    """Lower bounds on the verdict's probability in every cell, each at risk alpha / (m+1).

    Together they hold with probability at least 1 - alpha (union bound; the cells may share their draws).

    Args:
        cells: (draws, unsafe) of the cells k = 0..m.
        alpha: risk of the whole, strictly between 0 and 1.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand.
        verdict: whose probability: that of Unsafe, or of Safe (the draws that are not Unsafe).

    Returns:
        One bound in [0, 1) per cell.

    Raises:
        ValueError: counts that contradict each other or a value outside its range.
    """
    below, safe = lower_bound(bound), is_safe(verdict)
    if not len(cells):
        raise ValueError("cells=[] must hold (draws, unsafe) of at least one cell; pass the counts")
    share = ranges.open_unit("alpha", alpha) / len(cells)
    lower = []
    for index, cell in enumerate(cells):
        if len(cell) != 2:
            raise ValueError(f"cells[{index}] has {len(cell)} entries, must be (draws, unsafe); pass both counts")
        draws = ranges.whole(f"cells[{index}].draws", cell[0])
        unsafe = ranges.whole(f"cells[{index}].unsafe", cell[1])
        if unsafe > draws:
            raise ValueError(
                f"cells[{index}].unsafe={unsafe} must be at most cells[{index}].draws={draws}; count each draw once"
            )
        lower.append(below(draws - unsafe if safe else unsafe, draws, share))
    return lower


def suffix_frontier(
    cells: Sequence[tuple[int, int]],
    *,
    kernel: TokenKernel,
    sigma: float,
    tau: float,
    alpha: float,
    bound: Bound = "any_time",
    verdict: Verdict = "unsafe",
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
        alpha: risk, strictly between 0 and 1.
        bound: the confidence bound, see `cell_lower_bounds`.
        verdict: which verdict is certified.

    Returns:
        m+1 radii in the units of sigma, rounded down and nonincreasing; None is *not certified*.

    Raises:
        ValueError: a value outside its range; the message gives value, rule and remedy.
    """
    lower = cell_lower_bounds(cells, alpha, bound, verdict)
    return suffix_radii(lower, kernel=kernel, sigma=sigma, tau=tau, verdict=verdict)


def worst_case(
    lower: Sequence[float],
    *,
    kernel: TokenKernel,
    sigma: float,
    epsilons: Sequence[float],
    verdict: Verdict = "unsafe",
) -> list[WorstCase]:
    """The bound itself on a grid: every budget d = 0..m with every epsilon (section 2).

    Args:
        lower: lower bounds of the cells k = 0..m, see `cell_lower_bounds`.
        kernel: the token kernel.
        sigma: standard deviation of the image noise, above 0.
        epsilons: L2 norms of the image shift, each at least 0, in the units of sigma.
        verdict: for `safe`, `lower` bounds the Safe probability and the values are upper bounds.

    Returns:
        (tokens, epsilon, value) rows, by tokens, then in the order of epsilons.

    Raises:
        ValueError: a value outside its range.
    """
    rows = []
    for tokens in range(len(lower)):
        for epsilon in epsilons:
            value = suffix_value(lower, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=sigma, verdict=verdict)
            rows.append(WorstCase(tokens, epsilon, value))
    return rows


def passes_to_detect(probability: float) -> int:
    """Plain noisy passes that see at least one Unsafe with 99 % probability (section 2).

    Args:
        probability: the smoothed probability of Unsafe, in (0, 1].

    Returns:
        The smallest n with (1 - probability)^n <= 0.01; where logarithms cannot settle a tie, one more.

    Raises:
        ValueError: probability outside its range.
    """
    if ranges.closed_unit("probability", probability) == 0.0:
        raise ValueError("probability=0.0 must be above 0: no number of passes is enough; ask only where it is")
    miss = 1 - Fraction(probability)
    if not miss:
        return 1
    exact = math.log(0.01) / math.log1p(-probability)
    fewest, most = (math.ceil(exact * (1.0 + rounding)) for rounding in (-(2.0**-44), 2.0**-44))
    settled = fewest <= 64 and miss**fewest <= Fraction(1, 100)
    return fewest if fewest == most or settled else most
