"""Small worlds in which image draws are scored in every suffix cell: the exact law of their scores, and real draws."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from holdfast.certificates import AbsorbingKernel, TokenKernel, UniformKernel
from tests.certificates.worlds import Floats, Worlds, random_worlds

Dependence = Literal["image", "text", "mixed", "half-space"]
DEPENDENCES: tuple[Dependence, ...] = get_args(Dependence)
SIZES = (3, 3)
MASKED = (0.35, 0.6, 0.9)


@dataclass(frozen=True, eq=False)
class JointWorlds:
    """Classifiers of two slots and an image under one kernel, each scored by r tails in each of three cells."""

    worlds: Worlds
    tails: int

    @property
    def masked(self) -> float:
        return self.worlds.chances[0]

    @property
    def kernel(self) -> TokenKernel:
        size = self.worlds.sizes[0]
        return (
            AbsorbingKernel(self.masked) if self.worlds.absorbing else UniformKernel(self.masked * (1 - 1 / size), size)
        )

    @property
    def weights(self) -> Floats:
        """Of the cells 0, 1 and 2."""
        return np.array([1 - self.masked, self.masked * (1 - self.masked), self.masked**2])

    @property
    def image(self) -> Floats:
        """Probabilities of the bins at the clean input."""
        return np.diff(ndtr(self.worlds.bins))

    def complement(self) -> "JointWorlds":
        return JointWorlds(self.worlds.complement(), self.tails)

    def one(self, index: int) -> "JointWorlds":
        return JointWorlds(self.worlds.one(index), self.tails)

    def rates(self) -> Floats:
        """P[f = 1 | cell, bin], [classifier, cell, bin]."""
        verdicts = self.worlds.verdicts
        own = [np.eye(size + 2)[0] for size in self.worlds.sizes]
        masked = [self.worlds.mask_law(position) for position in range(2)]
        laws = [(own[0], (1 - self.masked) * own[1] + self.masked * masked[1]), (masked[0], own[1]), tuple(masked)]
        return np.stack([np.einsum("nabz,a,b->nz", verdicts, *law) for law in laws], axis=1)

    def score_law(self, budget: int) -> tuple[Floats, Floats]:
        """Every value of T_d, ascending, and P[T_d >= value], [classifier, value]."""
        hits = np.arange(self.tails + 1)
        rates = np.clip(self.rates(), 0.0, 1.0)[..., None]
        chances = np.asarray(binom.pmf(hits, self.tails, rates))  # [classifier, cell, bin, hits]
        shares = self.weights[budget:] / self.weights[budget:].sum()
        outcomes = list(product(hits, repeat=3 - budget))
        values = np.array([shares @ outcome for outcome in outcomes]) / self.tails
        joint = np.stack(
            [
                np.prod([chances[:, budget + cell, :, count] for cell, count in enumerate(outcome)], axis=0)
                @ self.image
                for outcome in outcomes
            ],
            axis=1,
        )
        order = np.argsort(values)
        survival = np.cumsum(joint[:, order[::-1]], axis=1)[:, ::-1]
        return values[order], np.clip(survival, 0.0, 1.0)

    def votes(self, rng: np.random.Generator, draws: int) -> NDArray[np.bool_]:
        """Real draws of the first classifier, (draws, tails, 3)."""
        bins = rng.choice(len(self.image), size=draws, p=self.image / self.image.sum())
        rates = self.rates()[0][:, bins].T
        return np.asarray(rng.random((draws, self.tails, 3)) < rates[:, None, :])


def joint_worlds(seed: int, count: int) -> Iterator[JointWorlds]:
    """So many classifiers of every dependence, kernel and number of tails, 1 to 4."""
    rng = np.random.default_rng(seed)
    for dependence, absorbing, tails in product(DEPENDENCES, (True, False), (1, 2, 3, 4)):
        chance = float(rng.choice(MASKED))
        worlds = random_worlds(rng, count=count, sizes=SIZES, chances=(chance, chance), absorbing=absorbing)
        yield JointWorlds(Worlds(depending(worlds.verdicts, dependence, rng), SIZES, worlds.chances, absorbing), tails)


def depending(verdicts: Floats, dependence: Dependence, rng: np.random.Generator) -> Floats:
    """The same classifiers, or the nearest that see the image alone, the text alone, or a half-line a text."""
    if dependence == "image":
        return np.broadcast_to(verdicts[:, :1, :1], verdicts.shape).copy()
    if dependence == "text":
        middle = verdicts.shape[-1] // 2
        return np.broadcast_to(verdicts[..., middle : middle + 1], verdicts.shape).copy()
    if dependence == "half-space":
        cut = verdicts.sum(axis=-1, keepdims=True) + rng.integers(-1, 2, size=(*verdicts.shape[:-1], 1))
        return np.where(np.arange(verdicts.shape[-1]) < cut, 1.0, 0.0)
    return verdicts


def shifted(probabilities: Floats, t: float) -> Floats:
    """Phi(Phi^-1(q) - t), of sums that are 1 but for their rounding too."""
    return np.asarray(ndtr(ndtri(np.where(probabilities > 1.0 - 1e-13, 1.0, probabilities)) - t))
