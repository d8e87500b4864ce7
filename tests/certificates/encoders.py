"""Encoders whose mean under every shift is known exactly, each the worst of its law.

The score rises with the noise's projection on the attack, so that an attack of t sigma moves the projection by -t and
no other encoder of the same law loses more. The feature is the unit vector (2S - 1, sqrt(1 - (2S - 1)^2)).
"""

from dataclasses import dataclass

import mpmath as mp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import beta

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StepEncoder:
    """Scores `levels`, ascending, with clean masses `masses`."""

    levels: Floats
    masses: Floats

    @property
    def cuts(self) -> Floats:
        return -ndtri(self.survival[1:])

    @property
    def survival(self) -> Floats:
        above = np.cumsum(self.masses[:0:-1])[::-1] / np.sum(self.masses)
        return np.concatenate([[1.0], above])

    def scores(self, rng: np.random.Generator, draws: int, t: float = 0.0) -> Floats:
        return self.levels[np.searchsorted(self.cuts, rng.standard_normal(draws) - t)]

    def features(self, rng: np.random.Generator, draws: int, t: float = 0.0) -> Floats:
        cosines = 2.0 * self.scores(rng, draws, t) - 1.0
        return np.stack([cosines, np.sqrt(1.0 - cosines**2)], axis=1)

    def law(self, t: float) -> Floats:
        """Masses of the levels at a shift of t sigma."""
        survival = np.concatenate([[1.0], ndtr(-self.cuts - t), [0.0]])
        return np.asarray(survival[:-1] - survival[1:])

    def mean(self, t: float = 0.0) -> float:
        return float(self.law(t) @ self.levels)

    def feature(self, t: float = 0.0) -> Floats:
        cosines = 2.0 * self.levels - 1.0
        return np.asarray(self.law(t) @ np.stack([cosines, np.sqrt(1.0 - cosines**2)], axis=1))

    def cosine(self, t: float = 0.0) -> float:
        feature = self.feature(t)
        return float(feature[0] / np.linalg.norm(feature))


def steps(*rows: tuple[float, float]) -> StepEncoder:
    """From (level, mass) by ascending level."""
    return StepEncoder(*np.array(rows, dtype=float).T)


def beta_law(mean: float, deviation: float, levels: int = 256) -> StepEncoder:
    """A Beta law of these two moments, every score at its quantile in the middle of a cell of equal mass."""
    size = mean * (1.0 - mean) / deviation**2 - 1.0
    middles = (np.arange(levels) + 0.5) / levels
    return StepEncoder(beta(mean * size, (1.0 - mean) * size).ppf(middles), np.full(levels, 1.0 / levels))


ENCODERS = {
    "half_space": steps((0.0, 0.1), (1.0, 0.9)),
    "rare_misses": steps((0.0, 0.02), (0.7, 0.28), (0.95, 0.7)),
    "many_levels": steps((0.2, 0.1), (0.5, 0.2), (0.8, 0.3), (1.0, 0.4)),
    "concentrated": beta_law(0.969, 0.03),
    "narrow_margin": beta_law(0.6, 0.1),
}


def wealth(scores: ArrayLike, mean: mp.mpf, alpha: float, horizon: int) -> mp.mpf:
    """Log of the betting bound's wealth at a mean, from its definition (section 6), to 50 digits."""
    needed = -mp.log(mp.mpf(alpha))
    least = min(mp.mpf(15) / 16, mp.sqrt(8 * needed / horizon) / 8)
    bets, bet = list[mp.mpf](), mp.mpf(15) / 16
    while not bets or bets[-1] > least * (1 + mp.mpf(10) ** -12):
        bets.append(bet)
        bet /= mp.mpf(3) / 2
    weighted = [(mp.mpf(1), mp.mpf(1) / 2), *((bet, 1 / mp.mpf(2 * len(bets))) for bet in bets)]
    values, counts = np.unique(np.asarray(scores, dtype=float), return_counts=True)
    pairs = [(mp.mpf(float(value)) / mean, int(count)) for value, count in zip(values, counts, strict=True)]
    return mp.log(sum(w * mp.fprod((1 + b * (x - 1)) ** c for x, c in pairs) for b, w in weighted))


def divergence(p: mp.mpf, q: mp.mpf) -> mp.mpf:
    """KL of two Bernoulli laws."""
    terms = [(p, q), (1 - p, 1 - q)]
    return sum(a * mp.log(a / b) for a, b in terms if a)
