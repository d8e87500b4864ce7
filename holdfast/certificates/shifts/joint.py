"""One image draw scored in every suffix cell: what its tails prove together (ours, section 5, joint scores).

Draw j has r tails in every cell k of exactly k leading masked slots (the last cell s: at least s). With w_k the cells'
probabilities, b the mask probability and F_k the share of cell k's tails that hit, its score against d rewritten slots

    T_d = sum over k >= d of w_k F_k / b^d = 1 - sum over k >= d of w_k (1 - F_k) / b^d

lies in [0, 1], and E T_d = P[f = 1 | K >= d]. Given K >= d the text has one law at the clean and at every attacked
input, so that {T_d >= v} is a randomised test of the image alone, and with distances t in units of sigma

    g(x_adv) >= b^d sum over j of (v_j - v_{j-1}) Phi(Phi^-1(L_j) - t),    L_j <= P[T_d >= v_j],    (law)
    g(x_adv) >= b^d Phi(Phi^-1(L) - t),                                    L <= E T_d.              (mean)

Whatever holds against d' >= d slots holds against d. Any token in the slots is covered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from holdfast.certificates import ranges
from holdfast.certificates.bounds.counts import Bound, lower_bound
from holdfast.certificates.bounds.means import standing_lower, unit_numbers
from holdfast.certificates.noise.kernels import TokenKernel, cell_weights
from holdfast.certificates.rounding import SMALLEST, Floats, down, fraction_down, quantile_down, up
from holdfast.certificates.shifts.mixtures import Law, Mixture
from holdfast.certificates.shifts.shift import Greatest, Shift

Votes = NDArray[np.bool_]

MEAN_PART = Fraction(3, 4)
"""The mean's part of a score's risk; the law has the rest."""

LEVELS = (*(step / 24 - 2.0**-20 for step in range(1, 24)), 1.0)
"""The v_j of every law: constants, whatever is drawn. 24ths serve 1, 2, 3, 4, 6 and 8 tails of one cell.

All but the last lie a hair below, so that a score which is one and was rounded down still reaches it. Over 576
synthetic budgets the mean radius is .8 % above that of twelfths and 2 % above eight levels; 48 levels would add .4 %.
Levels that are denser at one end, and shares of alpha that rise or fall along them, gained less than .2 %.
"""


@dataclass(frozen=True, eq=False)
class ScoreShift:
    """What the draws prove of a score's mean here and, as a `Shift`, elsewhere: the better of its mean and its law.

    Attributes:
        lower: lower bound on the mean of the score at the clean input, in [0, 1).
        law: lower bounds on its survival function at `LEVELS`; None where it has no share of the risk.
        mass: probability, rounded down, of the event that the score is conditioned on; the shift carries it.
    """

    lower: float
    law: Law | None
    mass: float = 1.0

    @cached_property
    def _parts(self) -> Greatest:
        mean = Mixture(np.array([self.mass]), quantile_down(np.array([self.lower])))
        if self.law is None:
            return Greatest((mean,))
        steps = self.mass * np.diff(self.law.values, prepend=0.0)  # one rounding: the steps of `LEVELS` are exact
        return Greatest((mean, Mixture(steps, quantile_down(self.law.survival))))

    @cached_property
    def _reached(self) -> dict[float, float | None]:
        return {}

    def at(self, t: float) -> float:
        """Lower bound on the smoothed mean at every input at most t sigma away."""
        return self._parts.at(t)

    def reach(self, level: float) -> float | None:
        """Largest t found with at(t) > level; None when there is none. Found once for every level that is asked."""
        if level not in self._reached:
            self._reached[level] = self._parts.reach(level)
        return self._reached[level]


@dataclass(frozen=True, eq=False)
class JointBudget:
    """One budget of d slots.

    Attributes:
        own: what the scores T_d prove.
        serves: the best of all budgets d' >= d, each of which holds against d slots too.
    """

    own: ScoreShift
    serves: Shift


def draw_scores(hits: Votes, weights: ArrayLike) -> Floats:
    """The score T of every draw, rounded down; exactly 1.0 where all its tails hit.

    *Rounding.* Let w be the exact weights, W their sum, and v, V = sum of v the given ones. A weight is at most one
    ULP below its exact value (or 2^-1074, where it is subnormal; W above `SMALLEST` makes that 1e-33 of W), and V <= W.
    So the exact loss sum w (1 - F) / W is at most (1 + ULP) sum v (1 - F) / V. Evaluated are C products, two sums of C
    nonnegative terms in a fixed order, a product and a division: (3 + 2 (C - 1)) / 2 ULPs more, C + 2 in all, which
    `up` takes; what it and the last `down` take beyond is above the subnormal rest. Every step rises with the number
    of hits, so that the score does.

    Args:
        hits: (n, r, C) bool; whether tail i of draw j hit in cell c, with at least one tail and cell.
        weights: (C,) probabilities of the cells, each rounded down once: `cell_weights(kernel, s)[d:]`.

    Returns:
        (n,) float64 in [0, 1]; 0.0 where a tail missed and the weights are too small to tell how much.

    Raises:
        ValueError: shapes or types that contradict each other, or weights outside [0, 1].
    """
    hits, given = checked_votes(hits), unit_numbers("weights", weights)
    if given.shape != hits.shape[2:]:
        raise ValueError(f"weights of shape {given.shape} must be one per cell of hits {hits.shape}; pass the cells'")
    tails, cells = hits.shape[1:]
    misses = tails - np.count_nonzero(hits, axis=1)
    scores, lost, total = np.zeros(len(hits)), np.zeros(len(hits)), 0.0
    for cell, weight in enumerate(given.tolist()):  # in this order on every machine, unlike a matrix product
        lost += weight * misses[:, cell]
        total += weight
    if total > SMALLEST:
        np.clip(down(1.0 - up(lost / (tails * total), cells + 2)), 0.0, 1.0, out=scores)
    scores[~np.any(misses, axis=1)] = 1.0
    return scores


def score_shift(
    scores: ArrayLike, alpha: float, bound: Bound, *, binary: bool = False, imageless: bool = False, mass: float = 1.0
) -> ScoreShift:
    """The shift of a mean of scores; it holds at all distances at once with probability at least 1 - alpha.

    Three quarters of alpha bound the mean, one the law at `LEVELS`, in equal shares: equal halves gain up to 2 % of the
    radius where the text decides, and lose 1 % where the image does. A score that is 0 or 1 has no law beside its
    mean, and where the image is not attacked the law proves nothing more: both give all to the mean.

    The mean of scores has `standing_lower`, at every number of draws: wherever the text decides anything it is far
    above what their sum proves (image share 0 to 50 %, 1,000 draws, means .2 to .9: by .02 to .06).

    Args:
        scores: independent draws of a score in [0, 1], (n,), none included.
        alpha: risk, strictly between 0 and 1.
        bound: of counts.
        binary: the score is known beforehand to be 0 or 1.
        imageless: no attack shifts the image.
        mass: probability of the event that the score is conditioned on, rounded down.

    Raises:
        ValueError: a value outside its range, or scores between 0 and 1 that were called binary.
    """
    below, alpha = lower_bound(bound), ranges.open_unit("alpha", alpha)
    values = np.zeros(0) if not np.size(scores) else unit_numbers("scores", scores)
    if binary:
        if np.any((values > 0.0) & (values < 1.0)):
            raise ValueError("scores between 0 and 1 must not be called binary; leave binary out")
        return ScoreShift(below(int(values.sum()), len(values), alpha), None, mass)
    share = alpha if imageless else risk_part(alpha, MEAN_PART)
    lower = standing_lower(values, share) if len(values) else 0.0
    if imageless:
        return ScoreShift(lower, None, mass)
    each = risk_part(alpha, (1 - MEAN_PART) / len(LEVELS))
    survival = [below(int(np.count_nonzero(values >= level)), len(values), each) for level in LEVELS]
    return ScoreShift(lower, Law(np.array(LEVELS), np.array(survival)), mass)


def risk_part(alpha: float, part: Fraction) -> float:
    """A part of a risk, rounded down, so that parts of sum 1 are together at most the whole."""
    return fraction_down(Fraction(alpha) * part)


def budget_shares(budgets: int) -> list[Fraction]:
    """Shares of alpha of the budgets d = 0, 1, ..., constants of their number: five parts for d = 0, else one.

    d = 0 feeds the Neyman–Pearson bound of every budget too. A bound pays the logarithm of its share alone.
    """
    return [Fraction(5 if budget == 0 else 1, budgets + 4) for budget in range(budgets)]


def joint_shifts(
    hits: Votes,
    kernel: TokenKernel,
    alpha: float,
    bound: Bound,
    *,
    shares: Sequence[float] | None = None,
    imageless: bool = False,
) -> list[JointBudget]:
    """The shift of every budget d = 0..s of leading slots from the same draws, together at risk alpha.

    Args:
        hits: (n, r, s+1) bool; whether tail i of draw j hit in cell k, no draw included. The draws are independent;
            tails and cells of a draw share its image.
        kernel: the token kernel; the uniform one needs beta <= (V-1)/V.
        alpha: risk of the whole, strictly between 0 and 1.
        bound: `any_time` holds at every number of draws at once, `clopper_pearson` at one fixed beforehand.
        shares: of alpha, one for each budget, fixed beforehand, of sum at most 1; a budget without one proves nothing
            by itself. By default `budget_shares`.
        imageless: no attack shifts the image.

    Raises:
        ValueError: shapes or types that contradict each other, or a value outside its range.
    """
    hits = checked_votes(hits)
    tails, cells = hits.shape[1:]
    weights, risks = cell_weights(kernel, cells - 1), _risks(alpha, cells, shares)
    found = []
    for budget, risk in enumerate(risks):
        mass = float(cell_weights(kernel, budget)[-1])
        if not risk:
            found.append(ScoreShift(0.0, None, mass))
            continue
        scores = draw_scores(hits[:, :, budget:], weights[budget:])
        binary = tails == 1 and budget == cells - 1
        found.append(score_shift(scores, risk, bound, binary=binary, imageless=imageless, mass=mass))
    return [JointBudget(own, Greatest(tuple(found[budget:]))) for budget, own in enumerate(found)]


def checked_votes(hits: Votes, name: str = "hits") -> Votes:
    """Votes of shape (draws, tails, cells), at least one tail and one cell.

    Raises:
        ValueError: they are not.
    """
    votes = np.asarray(hits)
    if votes.ndim != 3 or votes.dtype != np.bool_ or not all(votes.shape[1:]):
        raise ValueError(
            f"{name} of {votes.dtype} {votes.shape} must be bool (draws, tails, cells), at least one tail and cell; "
            "pass one vote per draw, tail and cell"
        )
    return votes


def _risks(alpha: float, budgets: int, shares: Sequence[float] | None) -> list[float]:
    """Each budget's risk, rounded down, so that their sum is at most alpha."""
    if shares is None:
        parts = budget_shares(budgets)
    else:
        parts = [Fraction(ranges.closed_unit(f"shares[{d}]", share)) for d, share in enumerate(shares)]
        if len(parts) != budgets or sum(parts) > 1:
            raise ValueError(
                f"shares of number {len(parts)} and sum {math.fsum(shares)!r} must be {budgets} of sum at most 1; "
                "share alpha over the budgets"
            )
    return [risk_part(ranges.open_unit("alpha", alpha), part) for part in parts]
