"""A job's tallies as the evidence and the parameters of `holdfast.certificates.guard.answer`."""

from collections.abc import Sequence

import numpy as np

from holdfast.certificates import Counts, position_masks
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast.queue.orders import Tally

Cells = tuple[tuple[int, int], ...]
"""Per cell, (draws, unsafe)."""


def no_cells(spec: GuardSpec) -> Cells:
    """The cells before the first draw."""
    return ((0, 0),) * len(spec.cells)


def fold(cells: Cells, tally: Tally) -> Cells:
    """Adds one tally to the cells that it sampled."""
    found = dict(zip(tally.votes.cells, tally.votes.unsafe, strict=True))
    drawn = tally.stop - tally.start
    return tuple(
        (draws + drawn, unsafe + found[k]) if k in found else (draws, unsafe) for k, (draws, unsafe) in enumerate(cells)
    )


def counts_of(spec: GuardSpec, seed: str, tallies: Sequence[Tally], cells: Cells) -> Counts:
    """The evidence of a contiguous prefix of tallies, which `cells` adds up."""
    if not spec.masks_matter or not tallies:
        return Counts(cells)
    outcomes = [
        np.unpackbits(
            np.frombuffer(bytes.fromhex(tally.votes.outcomes or ""), np.uint8), count=tally.stop - tally.start
        )
        for tally in tallies
    ]
    masks = position_masks(
        question_of(spec), positions=tallies[0].votes.positions, seed=seed, start=0, stop=tallies[-1].stop
    )
    return Counts(cells, masks, np.concatenate(outcomes).astype(np.bool_))
