"""Tabular inputs: the worst d of categorical fields, each with a kernel of its own (sections 1 and 3).

One set of fields is bounded by the product of its fields' ratio groups, in exact masses; the attacker chooses the set.
The ratios cover attackers who use each field's own values.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from itertools import islice

from holdfast.certificates.noise.kernels import TokenKernel, UniformKernel
from holdfast.certificates.noise.ratios import RatioGroups, product_groups, ratio_groups

_MAX_SETS = 1_000
"""Sets of fields that are tried one by one; fields of one beta need a single set."""

Kernels = tuple[TokenKernel, ...]


@lru_cache(maxsize=256)
def hardest_groups(kernels: Kernels, fields: int) -> tuple[RatioGroups, ...]:
    """The ratio groups of every set of `fields` fields that can be the worst.

    More rewritten fields tell the two inputs further apart, so sets of exactly min(d, F) fields are enough.

    Raises:
        ValueError: kernels of too many different rates.
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
