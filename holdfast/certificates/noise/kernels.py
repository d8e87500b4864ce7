"""Token kernels: their latent form, their suffix cells, and the seeded draws of tokens and fields.

Source: [H] Delattre et al. (ICML 2026); the latent form and the suffix cells are ours (`docs/maths.md`, sections 1
and 5).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import ranges
from holdfast.certificates.rounding import fraction_down

BLOCK = 16
"""Draws share one generator by blocks of this many indexes, so a range of draws is the same however it is cut."""


_WORD = 2**64

_Entry = TypeVar("_Entry", bound=np.generic)


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


def cell_weights(kernel: TokenKernel, slots: int) -> NDArray[np.float64]:
    """Probabilities of the suffix cells: exactly k leading slots are masked, or at least m in the last (section 5).

    Args:
        kernel: the token kernel.
        slots: m, the reserved slots, or the strata s of `suffix_draws`; at least 0.

    Returns:
        w of shape (slots + 1,): b^k (1-b) for k < m and b^m for k = m, with b the mask probability; every one computed
        in rationals and rounded down once.

    Raises:
        ValueError: slots is not a nonnegative integer, or the kernel has no latent form.
    """
    slots = ranges.whole("slots", slots)
    if not slots:
        return np.ones(1)
    return np.array(_leading_masks(kernel, slots))


@lru_cache(maxsize=256)
def _leading_masks(kernel: TokenKernel, slots: int) -> tuple[float, ...]:
    masked = _mask_chance(kernel)
    return tuple(fraction_down(masked**k * (1 - masked if k < slots else 1)) for k in range(slots + 1))


def _mask_chance(kernel: TokenKernel) -> Fraction:
    """`mask_probability`, exact."""
    mask_probability(kernel)  # refuses one without latent form
    if isinstance(kernel, AbsorbingKernel):
        return Fraction(kernel.beta)
    # At most 1 although the largest rate, a float, may be above (V-1)/V.
    return min(Fraction(1), Fraction(kernel.beta) * kernel.alphabet_size / (kernel.alphabet_size - 1))


def block_key(seed: str, channel: str, block: int) -> int:
    """Key of the generator that serves one block of draws on one channel.

    Args:
        seed: the certificate's secret seed.
        channel: what is drawn, e.g. `image`; channels are independent of each other.
        block: draw index // BLOCK.

    Returns:
        A 128-bit unsigned integer, the first sixteen bytes of a SHA-256 of the three.
    """
    parts = (seed.encode(), channel.encode(), str(block).encode())
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return int.from_bytes(hashlib.sha256(framed).digest()[:16], "big")


@dataclass(frozen=True)
class SuffixDraws:
    """Token noise of n draws over the m slots, for all s+1 cells.

    Attributes:
        masked: (n, s+1, m); `masked[i, k]` is a mask given that exactly k leading slots are masked, or at least s for
            the last cell k = s.
        replacement: (n, m) indexes into the alphabet for masked slots, shared by the cells of a draw; None for
            the absorbing kernel, whose masked slots take the mask token.
    """

    masked: NDArray[np.bool_]
    replacement: NDArray[np.int64] | None


def suffix_draws(
    kernel: TokenKernel, *, slots: int, seed: str, start: int, stop: int, strata: int | None = None
) -> SuffixDraws:
    """Seeded token noise of the draws [start, stop), the same values however the range is cut.

    The cells of one draw share their randomness: the frontier's union bound needs no independence between cells.
    Their probabilities are `cell_weights(kernel, strata)`; `strata=0` is the kernel's own noise, of an l0 threat too.

    Args:
        kernel: the token kernel.
        slots: m, the reserved slots, at least 0.
        seed: the certificate's secret seed.
        start: first draw index.
        stop: one past the last draw index.
        strata: s, 0..m; the last cell masks the first s slots and leaves the others to the kernel. None is m.

    Returns:
        Masks and replacements of stop - start draws.

    Raises:
        ValueError: the range, the slots or the strata are not valid, or the kernel has no latent form.
    """
    slots = ranges.whole("slots", slots)
    strata = slots if strata is None else ranges.whole("strata", strata)
    if strata > slots:
        raise ValueError(f"strata={strata} must be at most slots={slots}; lower strata")
    chance = _mask_chance(kernel) if slots else Fraction(0)
    natural = _drawn(seed, "tokens/mask", start, stop, lambda rng: _events(rng, chance, (BLOCK, slots)))
    masked = _cells(natural, strata)
    if isinstance(kernel, AbsorbingKernel):
        return SuffixDraws(masked=masked, replacement=None)
    size = kernel.alphabet_size
    replacement = _drawn(seed, "tokens/replacement", start, stop, lambda rng: rng.integers(size, size=(BLOCK, slots)))
    return SuffixDraws(masked=masked, replacement=replacement)


@dataclass(frozen=True)
class FieldDraws:
    """Noise of n draws over F categorical fields.

    Attributes:
        masked: (n, F); which fields forget their value.
        replacement: (n, F) indexes into each field's own values, for masked fields; -1 in fields with an absorbing
            kernel, whose mask value is none of them.
    """

    masked: NDArray[np.bool_]
    replacement: NDArray[np.int64]


def field_draws(kernels: Sequence[TokenKernel], *, seed: str, start: int, stop: int) -> FieldDraws:
    """Seeded noise of tabular inputs: every field by its own kernel, the same values however the range is cut.

    Args:
        kernels: one kernel per categorical field, F in all.
        seed: the certificate's secret seed.
        start: first draw index.
        stop: one past the last draw index.

    Returns:
        Masks and replacements of stop - start draws.

    Raises:
        ValueError: the range is not valid, or a kernel has no latent form.
    """
    shape = (BLOCK, len(kernels))
    chances = [_mask_chance(kernel) for kernel in kernels]
    sizes = np.array([getattr(kernel, "alphabet_size", 1) for kernel in kernels], dtype=np.int64)
    masked = _drawn(seed, "fields/mask", start, stop, lambda rng: _events_by_column(rng, chances))
    replacement = _drawn(seed, "fields/replacement", start, stop, lambda rng: rng.integers(sizes, size=shape))
    absorbing = np.array([isinstance(kernel, AbsorbingKernel) for kernel in kernels], dtype=np.bool_)
    replacement[:, absorbing] = -1
    return FieldDraws(masked=masked, replacement=replacement)


def _drawn(
    seed: str, channel: str, start: int, stop: int, sample: Callable[[np.random.Generator], NDArray[_Entry]]
) -> NDArray[_Entry]:
    """Rows [start, stop) of what `sample` draws, BLOCK rows from each block's generator."""
    start = ranges.whole("start", start)
    stop = ranges.whole("stop", stop, least=start)
    first, last = start // BLOCK, max(start, stop - 1) // BLOCK
    rows = [sample(_generator(seed, channel, block)) for block in range(first, last + 1)]
    return np.concatenate(rows)[start - first * BLOCK : stop - first * BLOCK]


def _generator(seed: str, channel: str, block: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=block_key(seed, channel, block)))


def _events(rng: np.random.Generator, chance: Fraction, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Independent events of exactly this chance: binary digits of a uniform number, 64 at a time."""
    whole, part = divmod(chance * _WORD, 1)
    words = rng.integers(0, _WORD - 1, shape, np.uint64, endpoint=True)
    if whole >= _WORD:
        return np.ones(shape, dtype=np.bool_)
    found: NDArray[np.bool_] = words < np.uint64(whole)
    undecided = words == np.uint64(whole)
    if part and undecided.any():
        found[undecided] = _events(rng, part, (int(undecided.sum()),))
    return found


def _events_by_column(rng: np.random.Generator, chances: Sequence[Fraction]) -> NDArray[np.bool_]:
    columns = [_events(rng, chance, (BLOCK,)) for chance in chances]
    return np.stack(columns, axis=1) if columns else np.empty((BLOCK, 0), dtype=np.bool_)


def _cells(natural: NDArray[np.bool_], strata: int) -> NDArray[np.bool_]:
    """Masks of every cell from independent masks (n, m): cell k overrides the slots up to k, the last up to k - 1."""
    slots = natural.shape[1]
    masked = np.repeat(natural[:, None, :], strata + 1, axis=1)
    cell, slot = np.indices((strata + 1, slots))
    masked[:, slot < cell] = True
    masked[:, (slot == cell) & (cell < strata)] = False
    return masked
