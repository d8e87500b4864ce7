"""What decides a guard's certificate: the parameters that were asked for, and the counted evidence."""

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
        text: `suffix`, `l0` or `none`.
        tabular: whether the positions are fields with an alphabet each.
        slots: suffix slots m; categorical fields; 0 for the l0 threat on text and without a text threat.
        max_tokens: largest budget d of the frontier.
        cells: what each cell is. A smoothed guard against every budget has the strata 0..s, cell k < s of exactly k
            leading masked slots and cell s of at least s; a further cell of its own noise, for the Neyman–Pearson
            bound of `auto`, and then the strata and it have half of a direction's alpha each. Where each budget d has
            a smoothed guard of its own, cell d is that guard's, with d slots.
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
        dimensions: of the noise space, whose lattice a radius pays for; 0 for noise that is on none.
    """

    text: Literal["suffix", "l0", "none"]
    tabular: bool
    slots: int
    max_tokens: int
    cells: tuple[Cell, ...]
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
    dimensions: int = 0

    @property
    def kernels(self) -> tuple[TokenKernel, ...]:
        """The token kernel of every alphabet."""
        if self.token_kernel == "absorbing":
            return tuple(AbsorbingKernel(self.beta) for _ in self.alphabets)
        return tuple(UniformKernel(self.beta, size) for size in self.alphabets)

    @property
    def per_budget(self) -> bool:
        """Whether each budget has a smoothed guard of its own."""
        return any(cell.slots != self.slots for cell in self.cells)

    @property
    def natural(self) -> bool:
        """Whether the last cell is the kernel's own noise beside the strata."""
        return not self.per_budget and len(self.cells) > 1 and self.cells[-1].leading_masked == 0


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

    def of(self, side: Side) -> "Counts":
        """The same draws with the side's outcome in the place of Unsafe."""
        if side == "unsafe":
            return self
        cells = tuple((draws, draws - unsafe) for draws, unsafe in self.cells)
        return Counts(cells, self.masks, None if self.unsafe is None else ~self.unsafe)


def position_masks(question: Question, *, positions: int, seed: str, start: int, stop: int) -> NDArray[np.bool_]:
    """The masks, bool (n, positions), of the draws [start, stop) of an l0 certificate: they follow from its seed."""
    if question.tabular:
        return field_draws(question.kernels, seed=seed, start=start, stop=stop).masked
    (kernel,) = question.kernels
    return suffix_draws(kernel, slots=positions, seed=seed, start=start, stop=stop, strata=0).masked[:, 0]
