"""How the cells' tails of one image draw share a single pass behind the prefix.

All tails of a draw stand behind one another in one sequence and attend, by an attention mask, to the prefix and to
their own earlier tokens only: no tail sees another, and the prefix's cache is never copied per cell. Where two tails
begin with the same tokens, those are computed once: suffix cell k is cell m up to slot k.
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
        kept: Flat indexes (cell · length + place) of the computed tail tokens, shape (nodes,).
        positions: Position ids of these tokens, shape (1, nodes).
        mask: True where a token (row) attends to a prefix or tail token (column), (1, 1, nodes, prefix + nodes).
        last: Which computed token ends each cell's tail, shape (cells,).
    """

    kept: NDArray[np.int64]
    positions: Tensor
    mask: Tensor
    last: Tensor


def shared_with_last(tails: NDArray[np.int64]) -> tuple[int, ...]:
    """Counts, per cell, the leading slots that equal the last cell's in every draw.

    Args:
        tails: Token ids, shape (n, cells, slots).

    Returns:
        One count per cell; 0 for the last cell, which shares with nobody.
    """
    same = (tails == tails[:, -1:]).all(axis=0)
    counts = np.logical_and.accumulate(same, axis=1).sum(axis=1)
    return (*map(int, counts[:-1]), 0)


@lru_cache(maxsize=64)
def tail_layout(prefix: int, length: int, shared: tuple[int, ...], device: torch.device) -> TailLayout:
    """Lays out the tails of one draw.

    Args:
        prefix: Positions before the tails.
        length: Tokens per tail, slots and closing tokens.
        shared: Leading tokens that each cell takes from the last cell (`shared_with_last`).
        device: Where the tensors go.
    """
    cells = len(shared)
    own = np.arange(length) >= np.array(shared)[:, None]
    node = np.cumsum(own).reshape(cells, length) - 1
    path = np.where(own, node, node[-1])
    sees = np.zeros((int(own.sum()), int(own.sum())), dtype=bool)
    earlier = np.tri(length, dtype=bool)
    for cell, common in enumerate(shared):
        sees[np.ix_(path[cell, common:], path[cell])] = earlier[common:]
    mask = np.concatenate((np.ones((len(sees), prefix), dtype=bool), sees), axis=1)
    kept = np.flatnonzero(own)
    return TailLayout(
        kept=kept,
        positions=torch.as_tensor(prefix + kept % length, device=device)[None],
        mask=torch.as_tensor(mask, device=device)[None, None],
        last=torch.as_tensor(path[:, -1], device=device),
    )
