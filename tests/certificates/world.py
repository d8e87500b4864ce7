"""A small world where every attack can be tried: few tokens, few slots, a one-dimensional image."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import norm

BINS = np.array([-np.inf, *np.linspace(-2.5, 2.5, 9), np.inf])


@dataclass(frozen=True)
class World:
    """`verdicts[z_1, ..., z_m, bin]`; symbols are V alphabet tokens, one token outside it, and the mask token."""

    verdicts: np.ndarray
    size: int
    masked: float
    absorbing: bool

    @property
    def slots(self):
        return self.verdicts.ndim - 1

    def noisy_token(self, token, masked):
        """Law of one slot that is masked with probability `masked`."""
        law = np.zeros(self.size + 2)
        law[token] += 1 - masked
        if self.absorbing:
            law[self.size + 1] += masked
        else:
            law[: self.size] += masked / self.size
        return law

    def probability(self, laws, shifts):
        """P[f = 1] when the slots follow `laws` and the image is shifted, for every shift (sigma is 1)."""
        by_bin = self.verdicts
        for law in laws:
            by_bin = np.tensordot(law, by_bin, axes=(0, 0))
        return np.diff(norm.cdf(BINS[None, :] - np.asarray(shifts)[:, None])) @ by_bin

    def cell(self, k):
        """q_k at the clean input, all slots holding token 0."""
        chances = [1.0] * k + [0.0] * (k < self.slots) + [self.masked] * max(0, self.slots - k - 1)
        return self.probability([self.noisy_token(0, chance) for chance in chances], [0.0])[0]

    def worst(self, d, epsilon, *, outside=True):
        """Least P[f = 1] over every rewrite of the first d slots and a grid of shifts.

        The attacker may put the token outside the alphabet unless `outside` is false.
        """
        shifts = np.linspace(-epsilon, epsilon, 21)
        tails = [self.noisy_token(0, self.masked)] * (self.slots - d)
        return min(
            self.probability([self.noisy_token(token, self.masked) for token in attack] + tails, shifts).min()
            for attack in product(range(self.size + outside), repeat=d)
        )


def random_world(rng, *, size, slots, masked, absorbing):
    """Verdicts lean on the first slots and the image, so that attacks hurt."""
    shape = (size + 2,) * slots + (len(BINS) - 1,)
    lean = rng.uniform(-1, 2) + sum(
        rng.normal(size=[n if axis == k else 1 for axis, n in enumerate(shape)]) * rng.uniform(0, 2)
        for k in range(slots + 1)
    )
    return World((lean + rng.normal(size=shape) > 0).astype(float), size, masked, absorbing)
