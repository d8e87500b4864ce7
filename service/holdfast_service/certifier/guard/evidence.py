"""A job's tallies as the evidence of `holdfast.certificates.answer`: every vote, in the order of the draws."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import Votes, tail_masks, unpacked
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast.queue.orders import Tally


@dataclass(frozen=True, eq=False)
class Counted:
    """What was counted of a job.

    Attributes:
        votes: Of the draws up to the last look.
        waiting: Tallies since, which the next look adds to them: all votes are copied at a look, not at every tally.
        tallies: How many were counted.
        draws: How many image draws they have.
        positions: Eligible token positions of the input.
    """

    votes: Votes
    waiting: tuple[Tally, ...] = field(default=(), repr=False)
    tallies: int = 0
    draws: int = 0
    positions: int = 0

    @classmethod
    def nothing(cls, spec: GuardSpec) -> "Counted":
        """The evidence before the first draw."""
        none = np.zeros((0, spec.tails, len(spec.cells)), np.bool_)
        return cls(Votes(none, none, np.zeros((0, spec.tails, spec.slots), np.bool_) if spec.masks_matter else None))

    def with_tally(self, tally: Tally) -> "Counted":
        """Counts the next tally."""
        return replace(
            self,
            waiting=(*self.waiting, tally),
            tallies=self.tallies + 1,
            draws=self.draws + tally.draws,
            positions=tally.votes.positions,
        )

    def looked(self, spec: GuardSpec, seed: str) -> "Counted":
        """The same with every vote in its place.

        Raises:
            ValueError: a tally's planes are not of its draws.
        """
        if not self.waiting:
            return self
        return replace(self, votes=_joined(self.votes, _votes(spec, seed, self.waiting)), waiting=())


def _votes(spec: GuardSpec, seed: str, tallies: Sequence[Tally]) -> Votes:
    """The votes of tallies that follow one another; under l0 with their masks, which follow from the seed."""
    unsafe = np.concatenate([_plane(spec, tally, tally.votes.unsafe) for tally in tallies])
    near_tie = np.concatenate([_plane(spec, tally, tally.votes.near_tie) for tally in tallies])
    if not spec.masks_matter:
        return Votes(unsafe, near_tie)
    positions, start, stop = tallies[0].votes.positions, tallies[0].start, tallies[-1].stop
    masks = tail_masks(question_of(spec), positions=positions, seed=seed, start=start, stop=stop)
    return Votes(unsafe, near_tie, masks)


def _plane(spec: GuardSpec, tally: Tally, plane: str | None) -> NDArray[np.bool_]:
    shape = (tally.draws, spec.tails, len(spec.cells))
    return np.zeros(shape, np.bool_) if plane is None else unpacked(plane, shape)


def _joined(before: Votes, after: Votes) -> Votes:
    if not len(before.unsafe):
        return after
    masks = None if before.masks is None or after.masks is None else np.concatenate([before.masks, after.masks])
    return Votes(
        np.concatenate([before.unsafe, after.unsafe]), np.concatenate([before.near_tie, after.near_tie]), masks
    )
