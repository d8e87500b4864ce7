"""Tallies in, frontier out, and when to stop: pure functions of a job's spec and its contiguous prefix of tallies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.certificates import AbsorbingKernel, TokenKernel, UniformKernel, cell_lower_bounds, suffix_radii
from holdfast.contract.certificates import Progress, Stopped
from holdfast.contract.requests import CertificationSpec
from holdfast.queue.orders import Order, Tally

__all__ = ["Assessment", "Bound", "Cells", "assess", "bound_name", "fold", "kernel_of", "next_order", "no_evidence"]

ORDER_DRAWS = 16
"""Draws in one order: one block of seeded noise, small enough that no job holds a worker for long."""

Cells = tuple[tuple[int, int], ...]
"""Per number k of leading masked slots, (draws, unsafe)."""

Bound = Literal["any_time", "clopper_pearson"]


@dataclass(frozen=True)
class Assessment:
    """What the evidence certifies so far; `stopped` says why no more draws are wanted, or None."""

    cells: Cells
    lower: tuple[float, ...]
    frontier: tuple[float | None, ...]
    stopped: Stopped | None

    @property
    def passes(self) -> int:
        """Noisy passes that the evidence counts."""
        return sum(draws for draws, _ in self.cells)

    def progress(self, spec: CertificationSpec) -> Progress:
        """The assessment as clients see it while the job runs."""
        return Progress(passes=self.passes, max_passes=spec.max_draws * spec.cells, frontier=self.frontier)


def kernel_of(spec: CertificationSpec) -> TokenKernel:
    """The token kernel that the spec names."""
    if spec.token_kernel == "uniform":
        return UniformKernel(spec.beta, spec.alphabet_size)
    return AbsorbingKernel(spec.beta)


def no_evidence(spec: CertificationSpec) -> Cells:
    """The cells before the first draw."""
    return ((0, 0),) * spec.cells


def fold(cells: Cells, tally: Tally) -> Cells:
    """Adds one tally to the cells that it sampled."""
    found = dict(zip(tally.cells, tally.unsafe, strict=True))
    drawn = tally.stop - tally.start
    return tuple(
        (draws + drawn, unsafe + found[k]) if k in found else (draws, unsafe) for k, (draws, unsafe) in enumerate(cells)
    )


def next_order(spec: CertificationSpec, job_id: str, index: int) -> Order | None:
    """The order of this index, or None once `max_passes` are spent; depends on nothing that was observed."""
    start = index * ORDER_DRAWS
    stop = min(start + ORDER_DRAWS, spec.max_draws)
    if start >= stop:
        return None
    return Order(job_id, index, start, stop, tuple(range(spec.cells)))


def assess(spec: CertificationSpec, cells: Cells) -> Assessment:
    """The simultaneous frontier of maths.md §5 on this evidence, at the spec's α, and whether to stop.

    With `stop="any_time"` the bounds hold at whatever moment the rule picks; with `"fixed"` they are Clopper–Pearson
    bounds and hold once, so that only the last assessment may be certified: earlier ones show progress.
    """
    lower = cell_lower_bounds(cells, spec.alpha, bound_name(spec))
    frontier = _frontier(spec, lower)
    return Assessment(cells, tuple(lower), frontier, _stopped(spec, cells, frontier))


def bound_name(spec: CertificationSpec) -> Bound:
    """The confidence bound that goes with the spec's stopping rule."""
    return "any_time" if spec.stop == "any_time" else "clopper_pearson"


def _frontier(spec: CertificationSpec, lower: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(suffix_radii(lower, kernel=kernel_of(spec), sigma=spec.sigma, tau=spec.tau))


def _stopped(spec: CertificationSpec, cells: Cells, frontier: tuple[float | None, ...]) -> Stopped | None:
    if all(draws >= spec.max_draws for draws, _ in cells):
        return "passes_spent"
    if spec.stop == "fixed" or any(draws == 0 for draws, _ in cells):
        return None
    hoped = _frontier(spec, cell_lower_bounds([_hoped(spec, cell) for cell in cells], spec.alpha, bound_name(spec)))
    slack = spec.tolerance * (hoped[0] or 0.0)
    settled = all(
        best is None or (radius is not None and best - radius <= slack)
        for radius, best in zip(frontier, hoped, strict=True)
    )
    if not settled:
        return None
    return "tolerance" if frontier[0] is not None else "not_certifiable"


def _hoped(spec: CertificationSpec, cell: tuple[int, int]) -> tuple[int, int]:
    """The cell once every pass is spent, were all further draws Unsafe at two standard errors above the rate so far.

    The upper end of the Wilson interval at z = 2. Only the stopping rule looks at it, never a bound.
    """
    draws, unsafe = cell
    rate = (unsafe + 2 + 2 * math.sqrt(unsafe * (draws - unsafe) / draws + 1)) / (draws + 4)
    rest = spec.max_draws - draws
    return spec.max_draws, unsafe + min(rest, math.ceil(rest * rate))
