"""How all tails of one image draw share a single pass behind the prefix.

The tails of a draw stand behind one another in one sequence and attend, by an attention mask, to the prefix and to
their own earlier tokens only: no tail sees another, and the prefix's cache is never copied per tail. The cells of one
tail are a group: where two of them begin with the same tokens, those are computed once, for suffix cell k is cell s up
to slot k. Groups are noise of their own and share nothing.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class TailLayout:
    """The tail tokens that are computed and what they see.

    Attributes:
        kept: Flat indexes ((tail · cells + cell) · length + place) of the computed tail tokens, shape (nodes,).
        positions: Position ids of these tokens, shape (1, nodes).
        mask: True where a token (row) attends to a prefix or tail token (column), (1, 1, nodes, prefix + nodes).
        last: Which computed token ends each tail in each cell, shape (tails, cells).
    """

    kept: NDArray[np.int64]
    positions: Tensor
    mask: Tensor
    last: Tensor


Shared = tuple[tuple[int, ...], ...]
"""Per tail and cell, the leading tokens that it takes from the same tail in the last cell."""


def shared_with_last(tails: NDArray[np.int64]) -> Shared:
    """Counts, per tail and cell, the leading slots that equal the same tail's in the last cell, in every draw.

    Args:
        tails: Token ids, shape (n, tails, cells, slots).

    Returns:
        One count per tail and cell; 0 for the last cell, which shares with nobody.
    """
    same = (tails == tails[:, :, -1:]).all(axis=0)
    counts = np.logical_and.accumulate(same, axis=2).sum(axis=2)
    return tuple((*map(int, group[:-1]), 0) for group in counts)


@lru_cache(maxsize=64)
def tail_layout(prefix: int, length: int, shared: Shared, device: torch.device) -> TailLayout:
    """Lays out the tails of one draw.

    Args:
        prefix: Positions before the tails.
        length: Tokens per tail, slots and closing tokens.
        shared: Leading tokens that each cell of each tail takes from the last cell (`shared_with_last`).
        device: Where the tensors go.
    """
    common = np.array(shared)
    own = np.arange(length) >= common[..., None]
    node = np.cumsum(own).reshape(own.shape) - 1
    path = np.where(own, node, node[:, -1:])
    nodes = int(own.sum())
    sees = np.zeros((nodes, nodes), dtype=bool)
    earlier = np.tri(length, dtype=bool)
    for at, leading in np.ndenumerate(common):
        sees[np.ix_(path[at][leading:], path[at])] = earlier[leading:]
    mask = np.concatenate((np.ones((nodes, prefix), dtype=bool), sees), axis=1)
    kept = np.flatnonzero(own)
    return TailLayout(
        kept=kept,
        positions=torch.as_tensor(prefix + kept % length, device=device)[None],
        mask=torch.as_tensor(mask, device=device)[None, None],
        last=torch.as_tensor(path[..., -1], device=device),
    )
