"""Slow 50-digit references, written from the definitions and sharing no code with the package."""

import math
from collections.abc import Callable, Collection
from fractions import Fraction
from itertools import product
from typing import Any

import mpmath as mp
import numpy as np

__all__ = [
    "Number", "Pair", "binomial_tail", "knapsack", "log_mixture", "mp", "neyman_pearson", "prefix_failure",
    "token_pairs",
]  # fmt: skip

mp.mp.dps = 50

Number = Any  # a float or mpf; mpmath has no types
Pair = tuple[Any, Any]


def token_pairs(beta: Number, size: int | None, d: int) -> list[Pair]:
    """[(clean mass, attacked mass)] of every noisy string of d positions, summed by how many differ from each.

    `size` None is the absorbing kernel. The clean string is 0...0, the attacked one 1...1.
    """
    if size is None:
        masked = mp.mpf(beta) ** d
        return [(1 - masked, mp.mpf(0)), (masked, masked), (mp.mpf(0), 1 - masked)]
    keep, other = 1 - mp.mpf(beta), mp.mpf(beta) / (size - 1)
    masses: dict[tuple[int, int], Pair] = {}
    for i, j in product(range(d + 1), repeat=2):
        both = i + j - d
        if both >= 0:
            strings = mp.binomial(d, d - i) * mp.binomial(i, d - j) * mp.mpf(size - 2) ** both
            masses[i, j] = (strings * other**i * keep ** (d - i), strings * other**j * keep ** (d - j))
    return [pair for pair in masses.values() if pair != (0, 0)]


def neyman_pearson(p: Number, pairs: list[Pair], shift: Number) -> mp.mpf:
    """Least attacked mass of a test that holds clean mass p: Newton steps on the threshold, kept within a bracket."""
    p, shift = mp.mpf(p), mp.mpf(shift)
    free = sum((clean for clean, attacked in pairs if attacked == 0), mp.mpf(0))
    both = [(clean, attacked, mp.log(attacked / clean)) for clean, attacked in pairs if attacked and clean]
    if p <= free:
        return mp.mpf(0)

    def arguments(u: mp.mpf) -> list[mp.mpf]:
        return [(u - log_ratio) / shift + shift / 2 for _, _, log_ratio in both]

    low = min(row[2] for row in both) - 45 * shift - shift**2
    high = max(row[2] for row in both) + 45 * shift + shift**2
    u = (low + high) / 2
    for _ in range(400):
        ys = arguments(u)
        excess = free + sum(row[0] * mp.ncdf(y) for row, y in zip(both, ys, strict=True)) - p
        low, high = (u, high) if excess < 0 else (low, u)
        if abs(excess) < mp.mpf(10) ** -44 or high - low < mp.mpf(10) ** -44:
            break
        slope = sum(row[0] * mp.npdf(y) for row, y in zip(both, ys, strict=True)) / shift
        step = u - excess / slope if slope else low
        u = step if low < step < high else (low + high) / 2
    return sum(row[1] * mp.ncdf(y - shift) for row, y in zip(both, arguments(u), strict=True))


def knapsack(p: Number, pairs: list[Pair]) -> mp.mpf:
    """Least attacked mass of clean mass p without any image noise."""
    left, value = mp.mpf(p), mp.mpf(0)
    ascending = sorted((attacked / clean, clean) for clean, attacked in pairs if clean)
    for ratio, clean in ascending:
        taken = min(left, clean)
        value, left = value + taken * ratio, left - taken
    return value


def log_mixture(successes: float, draws: int, p: Number) -> mp.mpf:
    """log M_n(p) of the any-time bound (section 4)."""
    half = mp.mpf(1) / 2
    evidence = sum(
        half * mp.beta(successes + a, draws - successes + b) / mp.beta(a, b)
        for a, b in ((half, mp.mpf(1) / 20), (half, half))
    )
    return mp.log(evidence) - successes * mp.log(p) - (draws - successes) * mp.log(1 - p)


def binomial_tail(successes: int, draws: int, p: float | Fraction) -> Fraction:
    """P[Binomial(draws, p) >= successes], in rationals."""
    numerator, whole = Fraction(p).as_integer_ratio()
    upper = 2 * successes > draws
    terms = range(successes, draws + 1) if upper else range(successes)
    counts = sum(math.comb(draws, k) * numerator**k * (whole - numerator) ** (draws - k) for k in terms)
    side = Fraction(counts, whole**draws)
    return side if upper else 1 - side


def prefix_failure(
    lower: Callable[[int, int], float], p: float, draws: int, sizes: Collection[int] | None = None
) -> float:
    """P[lower(k, n) > p at some n <= draws], exactly up to float sums, by following every path of successes.

    `sizes` narrows the sample sizes that count.
    """
    alive, failed = np.ones(1), 0.0
    for n in range(1, draws + 1):
        moved = np.zeros(n + 1)
        moved[:-1] += alive * (1 - p)
        moved[1:] += alive * p
        if sizes is None or n in sizes:
            wrong = np.array([chance > 0.0 and lower(k, n) > p for k, chance in enumerate(moved)])
            failed += moved[wrong].sum()
            moved[wrong] = 0.0
        alive = moved
    return failed
