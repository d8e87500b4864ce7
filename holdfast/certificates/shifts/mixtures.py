"""Parts that keep their weight under the attack, each shifted by itself (sections 5 and 6).

Under Gaussian noise an event of probability q at x has at least Phi(Phi^-1(q) - t) at every x' of distance t sigma. So
a mean that is a sum of weights times such probabilities is, elsewhere, at least

    sum over k of w_k Phi(Phi^-1(q_k) - t).

*Suffix cells* (ours): given that the first k >= d slots are masked, the text has the same law at the clean and at any
attacked input; w_k is the cell's probability and q_k = P[f = 1 | K = k]. Tokens outside the alphabet are covered too.
*A mean* ([F] Theorem 3.2): one part of weight 1. *A law* (Kumar et al. 2020): a score in [0, 1] is an integral of the
events S >= v, so w_j = v_j - v_{j-1} and q_j is a lower bound on P[S >= v_j].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from holdfast.certificates import ranges
from holdfast.certificates.noise.kernels import TokenKernel, cell_weights
from holdfast.certificates.rounding import Floats, phi_down, positive_down, quantile_down
from holdfast.certificates.search import greatest_proved, rising_root

_FAR = 37.0  # no probability that counts has a quantile beyond
_STEP = 2.0**-40


@dataclass(frozen=True, eq=False)
class Mixture:
    """A sum of weights times shifted probabilities.

    Attributes:
        weights: w_k, at least 0, of sum at most 1, rounded down or a single rounding away, (m,).
        quantiles: Phi^-1(q_k) rounded down, -inf and inf for the probabilities 0 and 1, (m,).
    """

    weights: Floats
    quantiles: Floats

    def at(self, t: float) -> float:
        """Lower bound on the mean at every x' at most t sigma away; t at least 0, may be inf."""
        kept = np.isposinf(self.quantiles) if t == math.inf else phi_down(self.quantiles - t)
        # A rounding of the weight, one of its product and m - 1 of the sum.
        return positive_down(float(self.weights @ kept), len(self.weights))

    def reach(self, level: float) -> float | None:
        """Largest t found with at(t) > level, for level in (0, 1]; None when there is none."""
        if self.at(math.inf) > level:
            return math.inf
        if self.at(0.0) <= level:
            return None
        target, finite = float(ndtri(level)), self.quantiles[np.isfinite(self.quantiles)]

        def deviation(t: float) -> tuple[float, float]:
            probit = float(ndtri(min(1.0, float(self.weights @ ndtr(self.quantiles - t)))))
            if abs(probit) > _FAR:
                return math.copysign(math.inf, -probit), 0.0
            density = float(self.weights @ np.exp(-0.5 * np.minimum(np.abs(self.quantiles - t), 38.0) ** 2))
            return target - probit, density * math.exp(0.5 * probit**2)

        farthest = max(0.0, float(np.max(finite)) + _FAR) if finite.size else 0.0
        guess = rising_root(deviation, 0.0, farthest, 0.0, _STEP)
        return greatest_proved(guess, lambda t: self.at(t) > level)


@dataclass(frozen=True, eq=False)
class Law:
    """What is proved of the law of a score S(x) in [0, 1].

    Attributes:
        values: v_1 < ... < v_m in [0, 1], (m,).
        survival: lower bounds on P[S(x) >= v_j], nonincreasing in [0, 1], (m,).
    """

    values: Floats
    survival: Floats

    @property
    def shift(self) -> Mixture:
        """What it proves of the score's mean."""
        return Mixture(np.diff(self.values, prepend=0.0), quantile_down(self.survival))

    def survival_at(self, t: float) -> Floats:
        """Lower bounds on P[S(x') >= v_j] for every x' at most t sigma away, nonincreasing, rounded down, (m,)."""
        return np.minimum.accumulate(phi_down(quantile_down(self.survival) - ranges.nonnegative("t", t)))


def mean_mixture(lower: float) -> Mixture:
    """What a lower bound on a mean in [0, 1] proves: Phi(Phi^-1(lower) - t) ([F] Theorem 3.2).

    Raises:
        ValueError: it is outside [0, 1].
    """
    return Mixture(np.ones(1), quantile_down(np.array([ranges.closed_unit("lower", lower)])))


def event_mixture(weight: float, lower: float) -> Mixture:
    """One part: an event of this probability that the attack leaves alone, and the mean given it at least `lower`."""
    return Mixture(np.array([weight]), quantile_down(np.array([lower])))


def suffix_mixtures(kernel: TokenKernel, lower: Sequence[float]) -> list[Mixture]:
    """The suffix threat's shift for every budget d = 0..s of leading slots: what the cells k >= d prove.

    Args:
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        lower: lower bounds on q_k, k = 0..s, each in [0, 1]; in cell k exactly k leading slots are masked, in the last
            one at least s.

    Raises:
        ValueError: a bound outside its range or none, or a kernel without a latent form.
    """
    if not len(lower):
        raise ValueError("lower=[] must hold one bound per cell; pass at least one")
    cells = quantile_down(np.array([ranges.closed_unit(f"lower[{k}]", q) for k, q in enumerate(lower)]))
    weights = cell_weights(kernel, len(cells) - 1)
    return [Mixture(weights[d:], cells[d:]) for d in range(len(cells))]
