"""What decides a guard's certificate: the parameters that were asked for, and the counted evidence."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.noise.kernels import AbsorbingKernel, TokenKernel, UniformKernel

__all__ = ["Counts", "Question", "Side"]

Side = Literal["unsafe", "safe"]


@dataclass(frozen=True)
class Question:
    """The parameters that decide a certificate's numbers; named as in the REST contract.

    Attributes:
        text: `suffix`, `l0` or `none`.
        tabular: whether the positions are fields with an alphabet each.
        slots: suffix slots m; categorical fields; 0 for the l0 threat on text and without a text threat.
        max_tokens: largest budget d of the frontier.
        strata: cells k < strata have exactly k leading masked slots, cell `strata` at least so many.
        natural: whether one more cell is the kernel's own noise, for the Neyman–Pearson bound of `auto`; the strata
            and it have half of a direction's alpha each.
        per_budget: whether cell d belongs to a smoothed guard of its own, with d slots.
        token_kernel: `uniform` or `absorbing`.
        beta: corruption rate.
        alphabets: V of the tokens, or of each categorical field.
        sigma: standard deviation of the image noise; 0 for none.
        tau: decision threshold.
        alpha: risk of the whole answer.
        sides: the verdicts that are tried for, each with an equal share of alpha.
        method: `auto`, `stratified` or `neyman_pearson`.
        bound: the confidence bound.
        wanted: the cells that are sampled.
        target: (tokens, epsilon) of a decision query.
        epsilons: where the worst case is reported.
        operator_norm: of the resize from the image's own size.
    """

    text: Literal["suffix", "l0", "none"]
    tabular: bool
    slots: int
    max_tokens: int
    strata: int
    natural: bool
    per_budget: bool
    token_kernel: Literal["uniform", "absorbing"]
    beta: float
    alphabets: tuple[int, ...]
    sigma: float
    tau: float
    alpha: float
    sides: tuple[Side, ...]
    method: Literal["auto", "stratified", "neyman_pearson"]
    bound: Bound
    wanted: tuple[int, ...]
    target: tuple[int, float] | None
    epsilons: tuple[float, ...]
    operator_norm: float = 1.0

    @property
    def kernels(self) -> tuple[TokenKernel, ...]:
        """The token kernel of every alphabet."""
        if self.token_kernel == "absorbing":
            return tuple(AbsorbingKernel(self.beta) for _ in self.alphabets)
        return tuple(UniformKernel(self.beta, size) for size in self.alphabets)


@dataclass(frozen=True, eq=False)
class Counts:
    """The evidence.

    Attributes:
        cells: (draws, unsafe) of every cell, (0, 0) where it was not sampled.
        masks: which positions each draw masked, bool (n, L), where that matters (`l0`).
        unsafe: each draw's outcome, bool (n,), with `masks`.
    """

    cells: tuple[tuple[int, int], ...]
    masks: NDArray[np.bool_] | None = None
    unsafe: NDArray[np.bool_] | None = None
