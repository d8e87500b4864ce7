"""Tallies as evidence: the same numbers whatever the cut, and the masks that follow from the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates import answer, suffix_frontier
from holdfast.certificates.noise.lattice import certified_radius
from holdfast.questions import question_of
from holdfast.queue.orders import Order, Tally, Votes
from holdfast_service.certifier.guard.evidence import counts_of, fold, no_cells
from tests.certifier.specs import SEED, masks_of, spec, tally


@settings(derandomize=True, max_examples=50)
@given(st.permutations(range(6)))
def test_the_cells_are_the_same_in_whatever_order_tallies_are_folded(arrival: list[int]) -> None:
    asked = spec()
    tallies = [
        Tally(16 * i, 16 * i + 16, Votes(tuple(range(9)), tuple((i + k) % 17 for k in range(9)))) for i in range(6)
    ]
    forward, shuffled = no_cells(asked), no_cells(asked)
    for index in range(6):
        forward, shuffled = fold(forward, tallies[index]), fold(shuffled, tallies[arrival[index]])
    assert forward == shuffled


def test_a_tally_of_some_cells_counts_in_those_alone() -> None:
    cells = fold(no_cells(spec(method="stratified")), Tally(0, 16, Votes((3, 8), (5, 16))))
    assert cells == ((0, 0), (0, 0), (0, 0), (16, 5), (0, 0), (0, 0), (0, 0), (0, 0), (16, 16))


@pytest.mark.parametrize(("verdict", "share"), [("unsafe", 0.01), ("both", 0.005)])
def test_the_stratified_answer_is_the_public_frontier_at_its_share_of_alpha(verdict: str, share: float) -> None:
    asked, cells = spec(method="stratified", verdict=verdict), ((100, 97),) * 9
    question = question_of(asked)
    free = suffix_frontier(cells, kernel=question.kernels[0], sigma=asked.sigma, tau=asked.tau, alpha=share)
    expected = [certified_radius(radius, dimensions=asked.space.dimensions) for radius in free]
    found = answer(question, counts_of(asked, SEED, [], cells))
    assert [point.radius for point in found.frontier] == expected


def test_outcomes_and_masks_line_up_however_the_draws_were_cut() -> None:
    asked = spec(text="l0", slots=0, max_tokens=2)
    whole = [tally(asked, Order("job", 0, 0, 40, (0,)), 0.5)]
    parts = [tally(asked, Order("job", 0, a, b, (0,)), 0.5) for a, b in ((0, 5), (5, 21), (21, 40))]
    one, other = (counts_of(asked, SEED, tallies, ((40, 0),)) for tallies in (whole, parts))
    assert one.masks is not None
    assert other.masks is not None
    assert one.unsafe is not None
    assert other.unsafe is not None
    assert np.array_equal(one.unsafe, other.unsafe)
    assert np.array_equal(one.masks, other.masks)
    assert np.array_equal(one.masks, masks_of(asked, 40))
