"""Neyman–Pearson inside the cells of a partition: the general form behind sections 3 and 5 (ours).

For any partition of the noisy token strings into cells c of known groups, with q_c = P[f = 1 | c] at the clean input,
the worst classifier is the Neyman–Pearson one inside each cell:

    g(x_adv) >= sum over c of NP_c(q_c).

One cell is section 3. Cells of *observed* changes need no latent form, so they serve beta > (V-1)/V, beta = 1 included.
"""

import math
from collections.abc import Collection, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

from holdfast.certificates import ranges
from holdfast.certificates.guard.sides import Verdict, reported
from holdfast.certificates.noise.kernels import UniformKernel
from holdfast.certificates.noise.ratios import RatioGroups, product_groups, ratio_groups
from holdfast.certificates.shifts.neyman_pearson import groups_value


class PartitionCell(NamedTuple):
    """One cell of the noise space.

    Attributes:
        groups: its ratio groups; the clean masses sum to the cell's clean probability.
        lower: lower bound on q_c, in [0, 1]; for Safe, on the Safe probability.
    """

    groups: RatioGroups
    lower: float


def partitioned_neyman_pearson_value(
    cells: Sequence[PartitionCell], *, epsilon: float, sigma: float, verdict: Verdict = "unsafe"
) -> float:
    """Lower bound on the smoothed probability of Unsafe under one attack, from bounds inside a partition's cells.

    Never above the attacked probability when the cells' bounds hold together, and at exact q_c never below the value
    that the clean probability alone gives (section 5).

    Args:
        cells: the cells of one partition, all against the same attack; cells left out count as lost.
        epsilon: L2 norm of the image shift, at least 0, in the units of sigma.
        sigma: standard deviation of the image noise, above 0.
        verdict: `safe` turns the answer into an upper bound on the Unsafe probability.

    Returns:
        The bound in [0, 1], rounded down; for Safe rounded up.

    Raises:
        ValueError: a value outside its range, or cells of more than the whole probability.
    """
    shift = ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)
    whole = sum((sum(cell.groups.clean, Fraction(0)) for cell in cells), Fraction(0))
    if whole > 1:
        raise ValueError(f"cells of clean mass {float(whole)!r} must sum to at most 1; pass each cell once")
    total = sum(groups_value(cell.lower, cell.groups, shift) for cell in cells)
    return reported(total * _sum_margin(len(cells)), verdict)


def observed_change_value(
    lower: Sequence[float],
    *,
    kernel: UniformKernel,
    tokens: int,
    epsilon: float,
    sigma: float,
    verdict: Verdict = "unsafe",
) -> float:
    """Lower bound for the suffix threat from cells of observed changes, at any beta.

    In cell k < m the first k slots differ from the clean input and the next does not; in cell m all differ. Unlike
    masks, observed changes depend on the attack, and rewriting fewer slots can be worse; so the bound is the least
    over every set of rewritten slots among the first d. The attacker uses tokens of the alphabet.

    Args:
        lower: lower bounds on q_k, k = 0..m, each in [0, 1]; for Safe, on the Safe probability of each cell.
        kernel: the uniform kernel.
        tokens: d, how many leading slots the attacker may rewrite, 0..m; the time doubles with each.
        epsilon: L2 norm of the image shift, at least 0, in the units of sigma.
        sigma: standard deviation of the image noise, above 0.
        verdict: `safe` turns the answer into an upper bound on the Unsafe probability.

    Returns:
        The bound in [0, 1], rounded down; for Safe rounded up.

    Raises:
        ValueError: a value outside its range.
    """
    slots, tokens = len(lower) - 1, ranges.whole("tokens", tokens)
    if tokens > slots:
        raise ValueError(f"tokens={tokens} must be at most the {slots} slots that have cells; lower tokens")
    shift = ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)

    @cache
    def left(k: int, before: int, here: bool, after: int) -> float:
        return groups_value(lower[k], _observed_cell(kernel, slots, k, before, here, after), shift)

    def total(rewritten: tuple[bool, ...]) -> float:
        attacked = rewritten + (False,) * (slots + 1 - tokens)
        return sum(left(k, sum(attacked[:k]), attacked[k], sum(attacked[k + 1 :])) for k in range(slots + 1))

    least = min(total(rewritten) for rewritten in product((False, True), repeat=tokens))
    return reported(least * _sum_margin(slots + 1), verdict)


def observed_change_groups(kernel: UniformKernel, *, slots: int, rewritten: Collection[int]) -> list[RatioGroups]:
    """Ratio groups of the cells of observed changes when exactly these slots are rewritten.

    Args:
        kernel: the uniform kernel, any beta.
        slots: m, the reserved slots, at least 0.
        rewritten: which of the slots 0..m-1 are rewritten, to other tokens of the alphabet.

    Returns:
        Groups of the cells 0..m; their clean masses are beta^k (1-beta) for k < m and beta^m for k = m.

    Raises:
        ValueError: a slot outside its range.
    """
    slots, chosen = ranges.whole("slots", slots), set(rewritten)
    if not chosen <= set(range(slots)):
        raise ValueError(f"rewritten={sorted(chosen)} must be slots below slots={slots}; drop the others")
    before = [sum(slot < k for slot in chosen) for k in range(slots + 1)]
    return [
        _observed_cell(kernel, slots, k, before[k], k in chosen, len(chosen) - before[k] - (k in chosen))
        for k in range(slots + 1)
    ]


@lru_cache(maxsize=4096)
def _observed_cell(kernel: UniformKernel, slots: int, k: int, before: int, here: bool, after: int) -> RatioGroups:
    """Cell k, by how many slots are rewritten before slot k, whether it is itself, and how many after it."""
    beta, one = Fraction(kernel.beta), Fraction(kernel.beta) / (kernel.alphabet_size - 1)
    changed = _joint((one, 1 - beta), (beta - one, beta - one))
    parts = [changed] * before + [_joint((beta, beta))] * (k - before)
    if k < slots:
        parts.append(_joint((1 - beta, one if here else 1 - beta)))
    return product_groups([*parts, ratio_groups(kernel, after)])


def _sum_margin(terms: int) -> float:
    return 1.0 - (terms + 1) * 2.0**-52


def _joint(*masses: tuple[Fraction, Fraction]) -> RatioGroups:
    """Groups of (clean, attacked) masses, one string class each."""
    rows = [(clean, adversarial, _log_ratio(clean, adversarial)) for clean, adversarial in masses]
    return RatioGroups(
        clean=tuple(row[0] for row in rows),
        adversarial=tuple(row[1] for row in rows),
        log_ratio=tuple(row[2] for row in rows),
    )


def _log_ratio(clean: Fraction, adversarial: Fraction) -> float:
    if not adversarial:
        return -math.inf
    return math.log(adversarial / clean) if clean else math.inf
