"""Votes that might still come: what sampling on would show, for rules that stop it. No certificate rests on them."""

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.guard.question import Votes
from holdfast.certificates.guard.sides import Side, is_safe


def doubled(votes: Votes) -> Votes:
    """The evidence of twice the draws at exactly the same law: every draw once more."""
    return _joined(votes, votes)


def hoped(votes: Votes, side: Side, draws: int) -> Votes:
    """The evidence after so many draws more that all speak for one side, under masks that cover every attack.

    What this does not certify, no further draws will.

    Args:
        votes: so far.
        side: the verdict that the further draws speak for.
        draws: how many come, at least 0.
    """
    further = (draws, *votes.unsafe.shape[1:])
    masks = None if votes.masks is None else np.ones((draws, *votes.masks.shape[1:]), dtype=np.bool_)
    return _joined(votes, Votes(np.full(further, not is_safe(side)), np.zeros(further, dtype=np.bool_), masks))


def _joined(first: Votes, then: Votes) -> Votes:
    masks: NDArray[np.bool_] | None = None
    if first.masks is not None and then.masks is not None:
        masks = np.concatenate([first.masks, then.masks])
    return Votes(np.concatenate([first.unsafe, then.unsafe]), np.concatenate([first.near_tie, then.near_tie]), masks)
