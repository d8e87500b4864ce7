"""Thousands of small classifiers at once, where every attack on every one of them can be tried.

A classifier maps symbols at a few positions and a one-dimensional image (sigma is 1) to Safe or Unsafe. The symbols of
a position with V tokens are those V, one token outside the alphabet, and the mask token; the clean input is all 0.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, product
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Floats = NDArray[np.float64]

BINS = np.array([-np.inf, *np.linspace(-2.0, 2.0, 7), np.inf])


@dataclass(frozen=True, eq=False)
class Worlds:
    """`verdicts[classifier, z_1, ..., z_L, bin]` in {0, 1}; position i has sizes[i] tokens, is masked by chances[i]."""

    verdicts: Floats
    sizes: tuple[int, ...]
    chances: tuple[float, ...]
    absorbing: bool
    bins: Floats = field(default_factory=lambda: BINS)

    def __len__(self) -> int:
        return len(self.verdicts)

    def one(self, index: int) -> "Worlds":
        return Worlds(self.verdicts[index : index + 1], self.sizes, self.chances, self.absorbing, self.bins)

    def complement(self) -> "Worlds":
        return Worlds(1.0 - self.verdicts, self.sizes, self.chances, self.absorbing, self.bins)

    @property
    def positions(self) -> int:
        return len(self.sizes)

    def mask_law(self, position: int) -> Floats:
        law = np.zeros(self.sizes[position] + 2)
        if self.absorbing:
            law[-1] = 1.0
        else:
            law[: self.sizes[position]] = 1.0 / self.sizes[position]
        return law

    def smoothed(self, shifts: Floats) -> Floats:
        """P[f = 1] at every input: [classifier, x_1, ..., x_L, shift]; x_i is a token or the one outside."""
        table = self.verdicts @ np.diff(ndtr(self.bins[None, :] - shifts[:, None]), axis=1).T
        for position, (size, chance) in enumerate(zip(self.sizes, self.chances, strict=True)):
            kernel = (1 - chance) * np.eye(size + 1, size + 2) + chance * self.mask_law(position)
            table = np.moveaxis(np.tensordot(table, kernel, axes=(1 + position, 1)), -1, 1 + position)
        return table

    @property
    def bin_chances(self) -> Floats:
        return np.diff(ndtr(self.bins))

    @cached_property
    def seen(self) -> Floats:
        """P[f = 1 | exactly this mask, the image in this bin] at the clean input: [classifier, masked_1, ..., bin]."""
        table = self.verdicts
        for position, size in enumerate(self.sizes):
            laws = np.stack([np.eye(size + 2)[0], self.mask_law(position)])
            table = np.moveaxis(np.tensordot(table, laws, axes=(1 + position, 1)), -1, 1 + position)
        return table

    @cached_property
    def by_mask(self) -> Floats:
        """P[f = 1 | exactly this mask] at the clean input: [classifier, masked_1, ..., masked_L]."""
        return self.seen @ self.bin_chances

    def covered(self, masked: Iterable[int], kept: Sequence[int] = (), *, by_bin: bool = False) -> Floats:
        """q of every classifier given that these positions are masked and those are not; [classifier, bin] by bin."""
        table, masked = np.moveaxis(self.seen, -1, 1) if by_bin else self.by_mask, tuple(masked)
        for position in reversed(range(self.positions)):
            chance = 1.0 if position in masked else 0.0 if position in kept else self.chances[position]
            table = table @ np.array([1 - chance, chance])
        return np.clip(table, 0.0, 1.0)

    def cells(self, strata: int, *, by_bin: bool = False) -> Floats:
        """q of the suffix cells 0..strata, [classifier, cell], or [classifier, bin, cell] by bin."""
        exact = [self.covered(range(k), [k] if k < strata else [], by_bin=by_bin) for k in range(strata + 1)]
        return np.stack(exact, axis=-1)

    def extreme(self, attacked: Iterable[int], epsilon: float, largest: bool = False, outside: bool = True) -> Floats:
        """Least (or largest) P[f = 1] over all rewrites of the attacked positions and shifts up to epsilon."""
        attacked = tuple(attacked)
        here = [slice(size + outside) if i in attacked else slice(1) for i, size in enumerate(self.sizes)]
        shifts = np.linspace(-epsilon, epsilon, 13 if epsilon else 1)
        table = self.smoothed(shifts)[(slice(None), *here)].reshape(len(self), -1)
        return cast(Floats, table.max(axis=1) if largest else table.min(axis=1))

    def extreme_l0(self, d: int, epsilon: float, largest: bool = False, outside: bool = True) -> Floats:
        """The same over every set of d positions."""
        sets = combinations(range(self.positions), min(d, self.positions))
        found = np.stack([self.extreme(attacked, epsilon, largest, outside) for attacked in sets])
        return cast(Floats, found.max(axis=0) if largest else found.min(axis=0))


def random_worlds(
    rng: np.random.Generator, *, count: int, sizes: Sequence[int], chances: Sequence[float], absorbing: bool
) -> Worlds:
    """Verdicts lean on some symbols and the image, so that attacks hurt."""
    lean = rng.uniform(-1.5, 2.5, size=[count] + [1] * (len(sizes) + 1))
    for axis, symbols in enumerate([*(size + 2 for size in sizes), len(BINS) - 1]):
        shape = [count] + [symbols if axis == k else 1 for k in range(len(sizes) + 1)]
        weight = rng.uniform(0, 2.5, size=[count] + [1] * (len(sizes) + 1))
        lean = lean + rng.normal(size=shape) * weight
    shape = [count, *(size + 2 for size in sizes), len(BINS) - 1]
    noise = rng.normal(size=shape) * rng.uniform(0, 1.5, size=[count] + [1] * (len(sizes) + 1))
    return Worlds((lean + noise > 0).astype(float), tuple(sizes), tuple(chances), absorbing)


def tight_world(sizes: Sequence[int], chances: Sequence[float], q: float) -> Worlds:
    """Unsafe while every token is its own or masked, and the image below the quantile of q; a token outside is Safe.

    The image decides alone in every clean cell, so that an attack on a set A of positions and a shift of t leave
    exactly b(A) Phi(Phi^-1(q) - t): what sections 5 and 6 prove, and no more.
    """
    verdicts = np.zeros((1, *(size + 2 for size in sizes), 2))
    kept = [[0, size + 1] for size in sizes]
    for symbols in product(*kept):
        verdicts[(0, *symbols, 0)] = 1.0
    return Worlds(verdicts, tuple(sizes), tuple(chances), True, np.array([-np.inf, ndtri(q), np.inf]))


def likelihood_ratio_world(beta: float, size: int, shift: float, threshold: float) -> Worlds:
    """The classifier of one position that is hardest for section 3: Unsafe where the attack is not too likely.

    Against the uniform kernel, the attack that writes the token 1 and shifts the image up by `shift`: Unsafe where
    log(density attacked / density clean) is at most `threshold`, token and image together.
    """
    log_ratio = math.log(beta / (size - 1) / (1 - beta))
    cuts = [(threshold - ratio) / shift + shift / 2 for ratio in (log_ratio, -log_ratio, 0.0)]
    bins = np.array([-np.inf, *sorted(cuts), np.inf])
    verdicts = np.zeros((1, size + 2, len(bins) - 1))
    for token in range(size):
        verdicts[0, token] = bins[1:] <= cuts[min(token, 2)]
    return Worlds(verdicts, (size,), (beta * size / (size - 1),), False, bins)


def all_masks(positions: int) -> NDArray[np.bool_]:
    """Every mask, in the order in which `by_mask` ravels."""
    return np.array(list(product([False, True], repeat=positions)), dtype=np.bool_).reshape(-1, positions)
