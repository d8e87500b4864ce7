"""Likelihood-ratio groups of the token kernels, in exact masses ([H] Delattre et al., ICML 2026, A.13; section 3)."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from holdfast.certificates import ranges
from holdfast.certificates.noise.kernels import AbsorbingKernel, TokenKernel, UniformKernel


@dataclass(frozen=True)
class RatioGroups:
    """Sets of noisy token strings with one likelihood ratio each, by ascending ratio.

    Attributes:
        clean: probability of each group at the clean input, exact.
        adversarial: probability of each group at the attacked input, exact.
        log_ratio: log(adversarial / clean) of a string of the group; -inf and +inf where one side is impossible.
    """

    clean: tuple[Fraction, ...]
    adversarial: tuple[Fraction, ...]
    log_ratio: tuple[float, ...]


@lru_cache(maxsize=256, typed=True)  # True is no number of positions, though it equals one
def ratio_groups(kernel: TokenKernel, tokens: int) -> RatioGroups:
    """Likelihood-ratio groups of a kernel when `tokens` positions are rewritten ([H] A.13, section 3).

    A float beta is a rational number, so the masses are computed in integers and are exact: the ratios span
    e±100 and more, and no rounding enters. For the uniform kernel they cover attackers who use tokens of the
    alphabet only.

    Args:
        kernel: the token kernel.
        tokens: rewritten positions d, at least 0.

    Returns:
        The groups; each of the two masses sums to 1.

    Raises:
        ValueError: tokens is not a nonnegative integer.
    """
    tokens = ranges.whole("tokens", tokens)
    if isinstance(kernel, AbsorbingKernel):
        overlap = Fraction(kernel.beta) ** tokens
        lost = 1 - overlap
        groups = [(-math.inf, lost, Fraction(0)), (0.0, overlap, overlap), (math.inf, Fraction(0), lost)]
    else:
        groups = _uniform_groups(kernel, tokens)
    kept = sorted(group for group in groups if group[1] or group[2])
    return RatioGroups(
        clean=tuple(group[1] for group in kept),
        adversarial=tuple(group[2] for group in kept),
        log_ratio=tuple(group[0] for group in kept),
    )


def _uniform_groups(kernel: UniformKernel, tokens: int) -> list[tuple[float, Fraction, Fraction]]:
    """Groups (log ratio, clean, adversarial): i tokens differ from the clean string, j from the attacked one."""
    changed, whole = float(kernel.beta).as_integer_ratio()
    kept = (whole - changed) * (kernel.alphabet_size - 1)
    step = math.log(Fraction(changed, kept)) if kept else math.inf
    counts: Counter[int] = Counter()
    for i in range(tokens + 1):
        mass = math.comb(tokens, i) * changed**i * kept ** (tokens - i)
        for j in range(tokens - i, tokens + 1):
            free = i + j - tokens
            counts[j - i] += mass * math.comb(i, free) * (kernel.alphabet_size - 2) ** free
    scale = (whole * (kernel.alphabet_size - 1)) ** tokens
    merged: dict[float, tuple[int, int]] = {}
    for shift in range(-tokens, tokens + 1):
        ratio = shift * step if shift else 0.0
        clean, adversarial = merged.get(ratio, (0, 0))
        # Swapping the two strings negates the shift: the attacked mass is the clean mass of the mirror group.
        merged[ratio] = (clean + counts[shift], adversarial + counts[-shift])
    return [(ratio, Fraction(p, scale), Fraction(a, scale)) for ratio, (p, a) in merged.items()]


def product_groups(parts: Iterable[RatioGroups]) -> RatioGroups:
    """Ratio groups of independent parts of the noise: masses multiply and groups of equal ratio merge, exactly.

    Args:
        parts: groups of each part; their masses need not sum to 1.

    Returns:
        The groups of all parts together, by ascending ratio.
    """
    rows = [(Fraction(1), Fraction(1), 0.0)]
    for part in parts:
        merged: dict[Fraction | float, tuple[Fraction, Fraction, float]] = {}
        for clean, adversarial, log_ratio in rows:
            for p, a, step in zip(part.clean, part.adversarial, part.log_ratio, strict=True):
                mass, attacked = clean * p, adversarial * a
                if mass or attacked:
                    ratio = attacked / mass if mass else math.inf
                    known = merged.get(ratio, (Fraction(0), Fraction(0), log_ratio + step))
                    merged[ratio] = (known[0] + mass, known[1] + attacked, known[2])
        rows = [merged[ratio] for ratio in sorted(merged)]
    return RatioGroups(
        clean=tuple(row[0] for row in rows),
        adversarial=tuple(row[1] for row in rows),
        log_ratio=tuple(row[2] for row in rows),
    )
