"""How prompts of different texts share one pass: a stem that all begin with, and a tree of what follows it.

A node is a distinct sequence of tokens behind the stem, so whatever prompts begin with alike is computed once, each
token of it at its own position with the same tokens before it as if the prompt were read alone. Where texts part, so do
their nodes: the closing tokens behind each of them are run again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Branches:
    """The tokens that are computed and what they see; they are the same for all draws.

    Attributes:
        stem: What every prompt begins with, never all of it, shape (S,).
        tokens: Token ids of the nodes, each behind those that it follows, shape (nodes,).
        depths: Places of the nodes behind the stem, shape (nodes,).
        sees: True where a node (row) follows another or is it (column), shape (nodes, nodes).
        ends: The node that each prompt ends with, shape (prompts,).
    """

    stem: NDArray[np.int64]
    tokens: NDArray[np.int64]
    depths: NDArray[np.int64]
    sees: NDArray[np.bool_]
    ends: NDArray[np.int64]

    def mask(self, device: torch.device) -> Tensor:
        """True where a node attends to a token of the stem or a node, shape (1, 1, nodes, stem + nodes)."""
        stem = np.ones((len(self.tokens), len(self.stem)), dtype=bool)
        return torch.as_tensor(np.concatenate((stem, self.sees), axis=1), device=device)[None, None]


def branches(prompts: Sequence[NDArray[np.int64]]) -> Branches:
    """Lays out prompts, at least one and none of them empty.

    Args:
        prompts: Token ids of each, shape (its length,).
    """
    shortest = min(map(len, prompts))
    alike = (np.array([prompt[:shortest] for prompt in prompts]) == prompts[0][:shortest]).all(axis=0)
    # The last token of every prompt is a node: the verdict is read there.
    common = min(int(np.logical_and.accumulate(alike).sum()), shortest - 1)
    nodes: dict[tuple[int, int], int] = {}
    ends = []
    for prompt in prompts:
        at = -1
        for token in prompt[common:].tolist():
            at = nodes.setdefault((at, token), len(nodes))
        ends.append(at)
    sees = np.eye(len(nodes), dtype=bool)
    for (parent, _), node in nodes.items():
        if parent >= 0:
            sees[node] |= sees[parent]
    return Branches(
        stem=prompts[0][:common],
        tokens=np.array([token for _, token in nodes], dtype=np.int64),
        depths=sees.sum(axis=1) - 1,
        sees=sees,
        ends=np.array(ends),
    )
