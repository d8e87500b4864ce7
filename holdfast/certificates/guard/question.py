"""What decides a guard's certificate: the parameters that were asked for, and the votes."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.guard.sides import Side
from holdfast.certificates.noise.kernels import (
    AbsorbingKernel,
    TokenKernel,
    UniformKernel,
    field_draws,
    suffix_draws,
)


class Cell(NamedTuple):
    """What a cell's draws have in common: which of the leading slots were masked; the rest was left to the kernel.

    Attributes:
        slots: suffix slots of the smoothed guard that it belongs to.
        leading_masked: how many leading slots are masked; 0 with `at_least` is the kernel's own noise.
        at_least: whether the next slot was left to the kernel too, or was not masked.
    """

    slots: int
    leading_masked: int
    at_least: bool


@dataclass(frozen=True)
class Question:
    """The parameters that decide a certificate's numbers; named as in the REST contract.

    Attributes:
        text: `suffix`, `append`, `l0` or `none`.
        tabular: whether the positions are fields with an alphabet each.
        slots: suffix slots m; categorical fields; 0 without noise on slots of known number.
        max_tokens: largest budget d of the frontier; under `append` of code points.
        cells: what each cell is in which every draw was scored. A smoothed guard against every budget has the strata
            0..s, cell k < s of exactly k leading masked slots and cell s of at least s; for a target (d, epsilon) the
            one cell of at least d. Where each budget d has a smoothed guard of its own, cell d is that guard's, with d
            slots; for a target there is the target's alone. Otherwise there is the one cell of the kernel's own noise.
        per_budget: whether each budget has a smoothed guard of its own.
        tails: r, tails that score each draw in every cell.
        token_kernel: `uniform` or `absorbing`.
        beta: corruption rate.
        alphabets: V of the tokens, or of each categorical field.
        sigma: standard deviation of the image noise; 0 for none.
        tau: decision threshold.
        alpha: risk of the whole answer.
        sides: the verdicts that are tried for, each with an equal share of alpha.
        method: `auto`, `joint`, `stratified`, `neyman_pearson` or `erase_and_check`.
        bound: the confidence bound.
        target: (tokens, epsilon) of a decision query.
        epsilons: where the worst case is reported.
        operator_norm: of the resize from the image's own size.
        dimensions: of the noise space, whose lattice a radius pays for; 0 for noise that is on none.
    """

    text: Literal["suffix", "append", "l0", "none"]
    tabular: bool
    slots: int
    max_tokens: int
    cells: tuple[Cell, ...]
    per_budget: bool
    tails: int
    token_kernel: Literal["uniform", "absorbing"]
    beta: float
    alphabets: tuple[int, ...]
    sigma: float
    tau: float
    alpha: float
    sides: tuple[Side, ...]
    method: Literal["auto", "joint", "stratified", "neyman_pearson", "erase_and_check"]
    bound: Bound
    target: tuple[int, float] | None
    epsilons: tuple[float, ...]
    operator_norm: float = 1.0
    dimensions: int = 0

    @property
    def kernels(self) -> tuple[TokenKernel, ...]:
        """The token kernel of every alphabet."""
        if self.token_kernel == "absorbing":
            return tuple(AbsorbingKernel(self.beta) for _ in self.alphabets)
        return tuple(UniformKernel(self.beta, size) for size in self.alphabets)


@dataclass(frozen=True, eq=False)
class Votes:
    """The evidence.

    Attributes:
        unsafe: which passes were Unsafe, bool (n, r, C): draws, tails, cells.
        near_tie: which margins were so near a tie that they count against whichever side claims, bool (n, r, C).
        masks: which positions each tail masked, bool (n, r, L), where that matters (`l0`).
    """

    unsafe: NDArray[np.bool_]
    near_tie: NDArray[np.bool_]
    masks: NDArray[np.bool_] | None = None

    def hits(self, side: Side) -> NDArray[np.bool_]:
        """The passes that speak for the side, bool (n, r, C)."""
        return (self.unsafe if side == "unsafe" else ~self.unsafe) & ~self.near_tie


def tail_masks(question: Question, *, positions: int, seed: str, start: int, stop: int) -> NDArray[np.bool_]:
    """The masks, bool (n, r, positions), of the draws [start, stop) of an l0 certificate: they follow from its seed."""
    shape = stop - start, question.tails, positions
    if question.tabular:
        kernels = question.kernels * question.tails
        return field_draws(kernels, seed=seed, start=start, stop=stop).masked.reshape(shape)
    (kernel,) = question.kernels
    # The tails of a draw are as many positions, one behind the other.
    natural = suffix_draws(kernel, slots=question.tails * positions, seed=seed, start=start, stop=stop, strata=0)
    return natural.masked[:, 0].reshape(shape)
