"""Prompts laid out as a tree: each is there as it is, and nothing that two begin with is there twice."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast_worker.models.guard.branches import Branches, branches

# Of so few tokens that prompts begin alike more often than not.
PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=9)


def laid_out(prompts: list[list[int]]) -> Branches:
    return branches([np.array(prompt, dtype=np.int64) for prompt in prompts])


def seen_from(tree: Branches, end: int) -> NDArray[np.int64]:
    """The nodes that a prompt's last one sees, in the order of their places."""
    path = np.flatnonzero(tree.sees[end])
    return path[np.argsort(tree.depths[path])]


@given(PROMPTS)
def test_what_a_prompts_last_token_sees_is_the_prompt_in_its_order(prompts: list[list[int]]) -> None:
    tree = laid_out(prompts)
    for prompt, end in zip(prompts, tree.ends, strict=True):
        path = seen_from(tree, end)
        assert [*tree.stem, *tree.tokens[path]] == prompt
        assert tree.depths[path].tolist() == list(range(len(path)))
        assert path[-1] == end


@given(PROMPTS)
def test_whatever_prompts_begin_with_alike_is_computed_once(prompts: list[list[int]]) -> None:
    tree = laid_out(prompts)
    stem = len(tree.stem)
    begun = {tuple(prompt[:length]) for prompt in prompts for length in range(stem + 1, len(prompt) + 1)}
    assert len(tree.tokens) == len(begun)
    assert all(prompt[:stem] == prompts[0][:stem] and len(prompt) > stem for prompt in prompts)
    # A longer stem would swallow a prompt's last token, or is not what all begin with.
    longer = {tuple(prompt[: stem + 1]) for prompt in prompts}
    assert len(longer) > 1 or stem + 1 == min(map(len, prompts))


@given(PROMPTS)
def test_a_node_sees_the_stem_itself_and_none_behind_it(prompts: list[list[int]]) -> None:
    tree = laid_out(prompts)
    mask = tree.mask(torch.device("cpu"))[0, 0].numpy()
    stem = len(tree.stem)
    assert mask[:, :stem].all()
    assert mask[:, stem:].diagonal().all()
    assert not np.triu(mask[:, stem:], 1).any()
    assert (mask[:, stem:].sum(axis=1) == tree.depths + 1).all()


def test_closing_tokens_are_run_again_behind_each_text_and_once_behind_the_same() -> None:
    tree = laid_out([[7, 1, 2, 9, 8], [7, 1, 9, 8], [7, 1, 9, 8]])
    assert tree.stem.tolist() == [7, 1]
    assert tree.tokens.tolist() == [2, 9, 8, 9, 8]
    assert tree.depths.tolist() == [0, 1, 2, 0, 1]
    assert tree.ends.tolist() == [2, 4, 4]
