"""Thousands of small classifiers at once, where every attack on every one of them can be tried.

A classifier maps symbols at a few positions and a one-dimensional image (sigma is 1) to Safe or Unsafe. The symbols of
a position with V tokens are those V, one token outside the alphabet, and the mask token; the clean input is all 0.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np
from scipy.stats import norm

BINS = np.array([-np.inf, *np.linspace(-2.0, 2.0, 7), np.inf])
SHIFTS = np.linspace(-1.5, 1.5, 13)


@dataclass(frozen=True)
class Worlds:
    """`verdicts[classifier, z_1, ..., z_L, bin]` in {0, 1}; position i has sizes[i] tokens, is masked by chances[i]."""

    verdicts: np.ndarray
    sizes: tuple
    chances: tuple
    absorbing: bool

    @property
    def positions(self):
        return len(self.sizes)

    def mask_law(self, position):
        law = np.zeros(self.sizes[position] + 2)
        if self.absorbing:
            law[-1] = 1.0
        else:
            law[: self.sizes[position]] = 1.0 / self.sizes[position]
        return law

    @cached_property
    def smoothed(self):
        """P[f = 1] at every input: [classifier, x_1, ..., x_L, shift]; x_i is a token or the one outside."""
        image = np.diff(norm.cdf(BINS[None, :] - SHIFTS[:, None]), axis=1)
        table = self.verdicts @ image.T
        for position, (size, chance) in enumerate(zip(self.sizes, self.chances, strict=True)):
            kernel = (1 - chance) * np.eye(size + 1, size + 2) + chance * self.mask_law(position)
            table = np.moveaxis(np.tensordot(table, kernel, axes=(1 + position, 1)), -1, 1 + position)
        return table

    @cached_property
    def by_mask(self):
        """P[f = 1 | exactly this mask] at the clean input: [classifier, masked_1, ..., masked_L]."""
        table = self.verdicts @ np.diff(norm.cdf(BINS))
        for position, size in enumerate(self.sizes):
            laws = np.stack([np.eye(size + 2)[0], self.mask_law(position)])
            table = np.moveaxis(np.tensordot(table, laws, axes=(1 + position, 1)), -1, 1 + position)
        return table

    def covered(self, masked, kept=()):
        """q of every classifier given that these positions are masked and those are not."""
        table = self.by_mask
        for position in reversed(range(self.positions)):
            chance = 1.0 if position in masked else 0.0 if position in kept else self.chances[position]
            table = table @ np.array([1 - chance, chance])
        return table

    def cells(self, strata):
        """q of the suffix cells 0..strata, [classifier, cell]."""
        exact = [self.covered(range(k), [k] if k < strata else []) for k in range(strata + 1)]
        return np.stack(exact, axis=1)

    def extreme(self, attacked, epsilon, largest=False, outside=True):
        """Least (or largest) P[f = 1] over all rewrites of the attacked positions and shifts up to epsilon."""
        here = [slice(size + outside) if i in attacked else slice(1) for i, size in enumerate(self.sizes)]
        table = self.smoothed[(slice(None), *here, np.abs(SHIFTS) <= epsilon + 1e-12)].reshape(len(self.verdicts), -1)
        return table.max(axis=1) if largest else table.min(axis=1)

    def extreme_l0(self, d, epsilon, largest=False, outside=True):
        """The same over every set of d positions."""
        sets = combinations(range(self.positions), d)
        found = np.stack([self.extreme(attacked, epsilon, largest, outside) for attacked in sets])
        return found.max(axis=0) if largest else found.min(axis=0)


def random_worlds(rng, *, count, sizes, chances, absorbing):
    """Verdicts lean on some symbols and the image, so that attacks hurt."""
    lean = rng.uniform(-1.5, 2.5, size=[count] + [1] * (len(sizes) + 1))
    for axis, symbols in enumerate([*(size + 2 for size in sizes), len(BINS) - 1]):
        shape = [count] + [symbols if axis == k else 1 for k in range(len(sizes) + 1)]
        weight = rng.uniform(0, 2.5, size=[count] + [1] * (len(sizes) + 1))
        lean = lean + rng.normal(size=shape) * weight
    shape = np.broadcast_shapes(lean.shape, (count, *(size + 2 for size in sizes), len(BINS) - 1))
    noise = rng.normal(size=shape) * rng.uniform(0, 1.5, size=[count] + [1] * (len(sizes) + 1))
    return Worlds((lean + noise > 0).astype(float), tuple(sizes), tuple(chances), absorbing)


def all_masks(positions):
    """Every mask, in the order in which `by_mask` ravels."""
    return np.array(list(product([False, True], repeat=positions)))
