"""How the tails of a draw share one pass: what is computed once, and what sees what."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from holdfast_worker.models.guard.tails import shared_with_last, tail_layout

CPU = torch.device("cpu")
few_tokens = arrays(np.int64, st.tuples(*[st.integers(1, 3)] * 3, st.integers(0, 4)), elements=st.integers(0, 1))


@given(few_tokens)
def test_a_cell_shares_what_its_own_tail_has_in_common_with_the_last_cell_in_every_draw(
    tails: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> None:
    _, count, cells, slots = tails.shape
    found = shared_with_last(tails)
    assert [len(group) for group in found] == [cells] * count
    for tail, cell in np.ndindex(count, cells):
        common = 0
        while common < slots and (tails[:, tail, cell, common] == tails[:, tail, -1, common]).all():
            common += 1
        assert found[tail][cell] == (0 if cell == cells - 1 else common)


@given(few_tokens, st.integers(0, 3), st.integers(1, 2))
def test_every_tail_sees_the_prefix_and_its_own_earlier_tokens_and_no_other(
    tails: np.ndarray[tuple[int, ...], np.dtype[np.int64]], prefix: int, closing: int
) -> None:
    one = tails[:1]
    _, count, cells, slots = one.shape
    length = slots + closing
    layout = tail_layout(prefix, length, shared_with_last(one), CPU)
    ends = np.arange(closing)
    whole = np.concatenate((one[0], np.broadcast_to(100 + ends, (count, cells, closing))), axis=2)
    tokens, mask = whole.reshape(-1)[layout.kept], layout.mask[0, 0].numpy()
    places = layout.positions[0].numpy() - prefix
    for tail, cell in np.ndindex(count, cells):
        seen = np.flatnonzero(mask[layout.last[tail, cell].item()])
        assert seen[:prefix].tolist() == list(range(prefix))
        own = seen[prefix:] - prefix
        in_order = own[np.argsort(places[own])]
        np.testing.assert_array_equal(tokens[in_order], whole[tail, cell])
        np.testing.assert_array_equal(places[in_order], np.arange(length))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_more_tails_are_as_many_blocks_behind_one_prefix(count: int) -> None:
    shared = (0, 1, 2, 0)
    one, many = (tail_layout(5, 4, (shared,) * times, CPU) for times in (1, count))
    nodes = len(one.kept)
    assert many.mask.shape == (1, 1, count * nodes, 5 + count * nodes)
    for tail in range(count):
        block = many.mask[0, 0, tail * nodes : (tail + 1) * nodes, 5:]
        assert torch.equal(block[:, tail * nodes : (tail + 1) * nodes], one.mask[0, 0, :, 5:])
        assert block.sum() == one.mask[0, 0, :, 5:].sum()
