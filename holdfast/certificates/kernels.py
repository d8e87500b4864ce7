"""Token kernels: their likelihood-ratio groups, their suffix cells, and the seeded draws of both.

Source: [H] Delattre et al. (ICML 2026), Appendix A.13; the latent form and the suffix cells are ours
(`docs/maths.md`, sections 1, 3 and 5).
"""

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges

BLOCK = 16
"""Draws share one generator by blocks of this many indexes, so a range of draws is the same however it is cut."""


def _check_beta(beta: float) -> None:
    if not 0.0 < ranges.real("beta", beta) <= 1.0:
        remedy = "raise beta" if beta <= 0.0 else "lower beta"
        raise ValueError(f"beta={beta!r} must lie in (0, 1]; {remedy}")


@dataclass(frozen=True)
class UniformKernel:
    """Keeps a token with probability 1-beta, else draws uniformly from the other V-1 tokens.

    Attributes:
        beta: corruption rate in (0, 1].
        alphabet_size: V, the number of tokens that a replacement is drawn from; at least 2.

    Raises:
        ValueError: a value outside its range.
    """

    beta: float
    alphabet_size: int

    def __post_init__(self) -> None:
        _check_beta(self.beta)
        ranges.whole("alphabet_size", self.alphabet_size, least=2)


@dataclass(frozen=True)
class AbsorbingKernel:
    """Keeps a token with probability 1-beta, else puts the fixed mask token.

    Attributes:
        beta: corruption rate in (0, 1].

    Raises:
        ValueError: beta outside its range.
    """

    beta: float

    def __post_init__(self) -> None:
        _check_beta(self.beta)


TokenKernel = UniformKernel | AbsorbingKernel


def mask_probability(kernel: TokenKernel) -> float:
    """Probability that a position is masked, i.e. forgets the token that stood there (latent form, section 1).

    Args:
        kernel: the token kernel. For the uniform one a masked position draws from all V tokens, its own included.

    Returns:
        beta for the absorbing kernel, beta*V/(V-1) for the uniform one; in (0, 1].

    Raises:
        ValueError: beta is above (V-1)/V, where the uniform kernel has no latent form.
    """
    if isinstance(kernel, AbsorbingKernel):
        return float(kernel.beta)
    size = kernel.alphabet_size
    limit = (size - 1) / size
    if kernel.beta > limit:
        raise ValueError(
            f"beta={kernel.beta!r} must be at most (V-1)/V={limit!r} for an alphabet of {size}; lower beta"
        )
    return min(1.0, float(kernel.beta) * size / (size - 1))


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


@lru_cache(maxsize=256)
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


def cell_weights(kernel: TokenKernel, slots: int) -> NDArray[np.float64]:
    """Probabilities of the suffix cells: exactly k leading slots are masked (section 5).

    Args:
        kernel: the token kernel.
        slots: m, the reserved slots, at least 0.

    Returns:
        w of shape (slots + 1,): b^k (1-b) for k < m and b^m for k = m, with b the mask probability.

    Raises:
        ValueError: slots is not a nonnegative integer, or the kernel has no latent form.
    """
    slots = ranges.whole("slots", slots)
    if not slots:
        return np.ones(1)
    masked = mask_probability(kernel)
    weights = masked ** np.arange(slots + 1, dtype=np.float64)
    weights[:-1] *= 1.0 - masked
    return weights


def block_key(seed: str, channel: str, block: int) -> int:
    """Key of the generator that serves one block of draws on one channel.

    Args:
        seed: the certificate's secret seed.
        channel: what is drawn, e.g. `image`; channels are independent of each other.
        block: draw index // BLOCK.

    Returns:
        A 64-bit unsigned integer, the first eight bytes of a SHA-256 of the three.
    """
    parts = (seed.encode(), channel.encode(), str(block).encode())
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return int.from_bytes(hashlib.sha256(framed).digest()[:8], "big")


@dataclass(frozen=True)
class SuffixDraws:
    """Token noise of n draws over the m slots, for all m+1 cells.

    Attributes:
        masked: (n, m+1, m); `masked[i, k]` is a mask given that exactly k leading slots are masked.
        replacement: (n, m) indexes into the alphabet for masked slots, shared by the cells of a draw; None for
            the absorbing kernel, whose masked slots take the mask token.
    """

    masked: NDArray[np.bool_]
    replacement: NDArray[np.int64] | None


def suffix_draws(kernel: TokenKernel, *, slots: int, seed: str, start: int, stop: int) -> SuffixDraws:
    """Seeded token noise of the draws [start, stop), the same values however the range is cut.

    The cells of one draw share their randomness: the frontier's union bound needs no independence between cells.

    Args:
        kernel: the token kernel.
        slots: m, the reserved slots, at least 0.
        seed: the certificate's secret seed.
        start: first draw index.
        stop: one past the last draw index.

    Returns:
        Masks and replacements of stop - start draws.

    Raises:
        ValueError: the range or the slots are not valid, or the kernel has no latent form.
    """
    slots = ranges.whole("slots", slots)
    start = ranges.whole("start", start)
    stop = ranges.whole("stop", stop, least=start)
    chance = mask_probability(kernel) if slots else 0.0
    blocks = range(start // BLOCK, -(-stop // BLOCK))
    window = slice(start - blocks.start * BLOCK, stop - blocks.start * BLOCK)

    tails = np.zeros((len(blocks), BLOCK, slots), dtype=np.bool_)
    for row, block in enumerate(blocks):
        tails[row] = _generator(seed, "tokens/mask", block).random((BLOCK, slots)) < chance
    masked = _cells(tails.reshape(len(blocks) * BLOCK, slots)[window])
    if isinstance(kernel, AbsorbingKernel):
        return SuffixDraws(masked=masked, replacement=None)

    replacement = np.zeros((len(blocks), BLOCK, slots), dtype=np.int64)
    for row, block in enumerate(blocks):
        generator = _generator(seed, "tokens/replacement", block)
        replacement[row] = generator.integers(kernel.alphabet_size, size=(BLOCK, slots))
    flat = replacement.reshape(len(blocks) * BLOCK, slots)
    return SuffixDraws(masked=masked, replacement=flat[window])


def _generator(seed: str, channel: str, block: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=block_key(seed, channel, block)))


def _cells(tails: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks of every cell from independent masks (n, m): cell k overrides the slots up to k."""
    slots = tails.shape[1]
    masked = np.repeat(tails[:, None, :], slots + 1, axis=1)
    cell, slot = np.indices((slots + 1, slots))
    masked[:, slot < cell] = True
    masked[:, slot == cell] = False
    return masked
