"""Tabular inputs: an attacker rewrites any d categorical fields, each with a kernel of its own (sections 1, 3 and 5).

Two bounds, as for text: covers with each field's own mask probability, and Neyman–Pearson with the product of the
rewritten fields' ratio groups, at the worst set of fields.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.guard.sides import Verdict, reported, threshold
from holdfast.certificates.methods import Reach, better
from holdfast.certificates.noise.kernels import TokenKernel, UniformKernel, mask_probability
from holdfast.certificates.noise.ratios import RatioGroups, product_groups, ratio_groups
from holdfast.certificates.shifts.covers import MAX_COVERS, cover_bounds, cover_radii, cover_value
from holdfast.certificates.shifts.neyman_pearson import groups_radius, groups_value, nonincreasing

_MAX_SETS = 1_000
"""Sets of fields that are tried one by one; fields of one beta need a single set."""

Kernels = tuple[TokenKernel, ...]


def fields_neyman_pearson_value(
    p_lower: float,
    *,
    kernels: Sequence[TokenKernel],
    fields: int,
    epsilon: float,
    sigma: float,
    verdict: Verdict = "unsafe",
) -> float:
    """Lower bound on the smoothed probability when any `fields` fields are rewritten ([H] Theorem 4.2).

    The value of one set of fields is that of `neyman_pearson_value` on the product of its fields' ratio groups, in
    exact masses; the bound is the least over all sets. The ratios cover attackers who use each field's own values.

    Args:
        p_lower: lower bound p_A on the clean smoothed probability, in [0, 1]; for Safe, on that of Safe.
        kernels: one kernel per categorical field, F in all.
        fields: d, rewritten fields, at least 0; above F it is F.
        epsilon: L2 norm of the shift of the numeric fields, at least 0, in the units of sigma.
        sigma: standard deviation of their noise, above 0.
        verdict: `safe` turns the answer into an upper bound on the Unsafe probability.

    Returns:
        The bound in [0, 1], rounded down; for Safe rounded up.

    Raises:
        ValueError: a value outside its range, or kernels of too many different rates.
    """
    shift = ranges.nonnegative("epsilon", epsilon) / ranges.positive("sigma", sigma)
    hardest = _hardest_groups(tuple(kernels), ranges.whole("fields", fields))
    return reported(min(groups_value(p_lower, groups, shift) for groups in hardest), verdict)


def fields_neyman_pearson_radius(
    p_lower: float,
    *,
    kernels: Sequence[TokenKernel],
    fields: int,
    sigma: float,
    tau: float,
    verdict: Verdict = "unsafe",
) -> float | None:
    """Certified radius beside any `fields` rewritten fields: where the value is still above tau.

    Args:
        p_lower: lower bound p_A on the clean smoothed probability, in [0, 1]; for Safe, on that of Safe.
        kernels: one kernel per categorical field, F in all.
        fields: d, rewritten fields, at least 0; above F it is F.
        sigma: standard deviation of the noise on the numeric fields, above 0.
        tau: decision threshold, strictly between 0 and 1.
        verdict: for `safe`, the radius at which the smoothed Unsafe probability stays below tau.

    Returns:
        The radius in the units of sigma, rounded down; None where nothing is certified; inf only for p_lower = 1.

    Raises:
        ValueError: a value outside its range, or kernels of too many different rates.
    """
    sigma, tau = ranges.positive("sigma", sigma), threshold(tau, verdict)
    least = math.inf
    for groups in _hardest_groups(tuple(kernels), ranges.whole("fields", fields)):
        radius = groups_radius(p_lower, groups, tau)
        if radius is None:
            return None
        least = min(least, radius)
    return least * sigma


def tabular_frontier(
    masks: NDArray[np.bool_],
    unsafe: NDArray[np.bool_],
    *,
    kernels: Sequence[TokenKernel],
    sigma: float,
    tau: float,
    alpha: float,
    max_fields: int,
    bound: Bound = "any_time",
    max_covers: int = MAX_COVERS,
    verdict: Verdict = "unsafe",
) -> list[Reach]:
    """The frontier r(d), d = 0..max_fields, of rewritten fields: per d the better of covers and Neyman–Pearson.

    With probability at least 1 - alpha over the draws, for all d at once: every attack that rewrites any d fields and
    shifts the numeric ones by less than r(d) leaves the smoothed probability of Unsafe above tau (for the verdict
    Safe: below tau). The cover bound of d = 0 is p_A, so that Neyman–Pearson takes no share of alpha.

    Args:
        masks: (n, F); which fields were masked in each draw.
        unsafe: (n,); which draws were Unsafe.
        kernels: one kernel per categorical field; the uniform ones need beta <= (V-1)/V.
        sigma: standard deviation of the noise on the numeric fields, above 0.
        tau: decision threshold, strictly between 0 and 1.
        alpha: risk, strictly between 0 and 1.
        max_fields: largest budget, at least 0.
        bound: the confidence bound, see `cover_bounds`.
        max_covers: budgets with more covers are left to Neyman–Pearson.
        verdict: which verdict is certified.

    Returns:
        (radius, method) per budget, radii rounded down and nonincreasing; (None, None) is *not certified*.

    Raises:
        ValueError: a value outside its range.
    """
    bounds = cover_bounds(
        masks,
        unsafe,
        mask_probability=np.array([mask_probability(kernel) for kernel in kernels]),
        alpha=alpha,
        max_tokens=max_fields,
        bound=bound,
        max_covers=max_covers,
        verdict=verdict,
    )
    clean = cover_value(bounds[0], 0.0, sigma)

    def radius(fields: int) -> float | None:
        return fields_neyman_pearson_radius(
            clean, kernels=kernels, fields=fields, sigma=sigma, tau=tau, verdict=verdict
        )

    return better(cover_radii(bounds, sigma, tau, verdict), nonincreasing(radius, len(bounds)))


@lru_cache(maxsize=256)
def _hardest_groups(kernels: Kernels, fields: int) -> tuple[RatioGroups, ...]:
    """The ratio groups of every set of fields that can be the worst.

    More rewritten fields tell the two inputs further apart, so sets of exactly min(d, F) fields are enough.
    """
    found = {tuple(sorted(chosen, key=repr)) for chosen in _choices(_ranked(kernels), min(fields, len(kernels)))}
    return tuple(
        product_groups(ratio_groups(kernel, count) for kernel, count in Counter(chosen).items())
        for chosen in sorted(found, key=repr)
    )


def _ranked(kernels: Kernels) -> list[Kernels]:
    """The kernels in families, hardest first; within a family the hardest d are at least as bad as any other d.

    Two inputs are the easier told apart the higher the curve of attacked mass against clean mass that their ratio
    groups give. Kernels of one family have nested curves: uniform ones of one beta <= (V-1)/V rise with V (their
    corners are (beta/(V-1), 1-beta) and (beta, 1-beta/(V-1))), absorbing ones as beta falls.
    """
    families: defaultdict[object, list[TokenKernel]] = defaultdict(list)
    for kernel in kernels:
        if not isinstance(kernel, UniformKernel):
            families["absorbing"].append(kernel)
        elif Fraction(kernel.beta) * kernel.alphabet_size <= kernel.alphabet_size - 1:
            families[kernel.beta].append(kernel)
        else:
            families[kernel].append(kernel)
    return [tuple(sorted(family, key=_ease)) for family in families.values()]


def _ease(kernel: TokenKernel) -> float:
    return -kernel.alphabet_size if isinstance(kernel, UniformKernel) else kernel.beta


def _choices(families: list[Kernels], fields: int) -> list[Kernels]:
    """Every way to take `fields` kernels, the hardest ones of each family."""
    found = list(islice(_taken(families, fields), _MAX_SETS + 1))
    if len(found) > _MAX_SETS:
        raise ValueError(
            f"fields={fields} of kernels with {len(families)} different rates make more than {_MAX_SETS} sets to try; "
            "give the fields one beta, or lower fields"
        )
    return found


def _taken(families: list[Kernels], fields: int) -> Iterator[Kernels]:
    if fields == 0:
        yield ()
    elif fields <= sum(map(len, families)):
        head, *rest = families
        for count in range(min(fields, len(head)) + 1):
            for others in _taken(rest, fields - count):
                yield head[:count] + others
