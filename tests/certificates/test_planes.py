"""Votes as text, and masks drawn again: what was written is read back bit by bit, and nothing else is read at all."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from holdfast.certificates import packed, tail_masks, unpacked
from holdfast.certificates.noise.kernels import BLOCK, mask_probability
from tests.certificates.asking import asked

SHAPES = st.tuples(st.integers(0, 9), st.integers(1, 4), st.integers(1, 9))
PLANES = SHAPES.flatmap(lambda shape: arrays.arrays(np.bool_, shape))


@given(plane=PLANES)
def test_a_plane_is_read_back_as_it_was_written_a_bit_a_vote(plane: NDArray[np.bool_]) -> None:
    written = packed(plane)
    assert np.array_equal(unpacked(written, plane.shape), plane)
    assert len(base64.b64decode(written)) == -(-plane.size // 8)


@given(plane=PLANES, at=st.data())
def test_no_two_texts_are_one_plane(plane: NDArray[np.bool_], at: st.DataObject) -> None:
    written = packed(plane)
    other = at.draw(st.text(st.sampled_from("AB+/=9 "), max_size=3).map(lambda end: written[: len(written) // 2] + end))
    if other != written:
        try:
            read = unpacked(other, plane.shape)
        except ValueError:
            return
        assert packed(read) == other != written
        assert not np.array_equal(read, plane)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("q!==", "is no base64"), ("qg", "is no base64"), ("qg==\n", "is no base64"),
        ("qoA=", "of 2 bytes must have 1"), ("", "of 0 bytes must have 1"), ("qw==", "padding must be zero"),
        ("qh==", "padding must be zero"), ("é", "is no base64"),
    ],
)  # fmt: skip
def test_what_is_no_plane_of_five_votes_is_refused(text: str, words: str) -> None:
    assert unpacked("qA==", (5, 1, 1)).ravel().tolist() == [True, False, True, False, True]
    with pytest.raises(ValueError, match=words):
        unpacked(text, (5, 1, 1))


@pytest.mark.parametrize("tabular", [False, True])
@pytest.mark.parametrize("tails", [1, 3])
def test_the_masks_of_any_range_of_draws_are_those_of_the_whole(tails: int, tabular: bool) -> None:
    changes: dict[str, Any] = {"tabular": True, "alphabets": (3, 4, 5)} if tabular else {}
    question = asked(kernel="uniform", beta=0.5, text="l0", tails=tails, **changes)
    positions = 3 if tabular else 7
    whole = tail_masks(question, positions=positions, seed="s", start=0, stop=50)
    part = tail_masks(question, positions=positions, seed="s", start=BLOCK - 1, stop=40)
    assert whole.shape == (50, tails, positions)
    assert np.array_equal(whole[BLOCK - 1 : 40], part)
    assert not np.array_equal(whole, tail_masks(question, positions=positions, seed="t", start=0, stop=50))


@pytest.mark.parametrize("tabular", [False, True])
def test_every_tail_masks_every_position_at_its_rate_and_by_itself(tabular: bool) -> None:
    changes: dict[str, Any] = {"tabular": True, "alphabets": (3, 4, 5)} if tabular else {}
    question = asked(kernel="uniform", beta=0.4, text="l0", tails=2, **changes)
    masks = tail_masks(question, positions=3, seed="s", start=0, stop=20_000)
    rates = [mask_probability(kernel) for kernel in question.kernels] * (1 if tabular else 3)
    assert masks.mean(axis=0) == pytest.approx(np.tile(rates, (2, 1)), abs=0.02)
    flat = masks.reshape(len(masks), -1).astype(float)
    together = np.corrcoef(flat, rowvar=False) - np.eye(6)
    assert np.abs(together).max() < 0.04
