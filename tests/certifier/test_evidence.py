"""Tallies as evidence: the same votes whatever the cut, and the masks that follow from the seed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.certificates import answer, joint_frontier, packed, suffix_frontier, tail_masks
from holdfast.certificates.noise.lattice import certified_radius
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast.queue.orders import Order
from holdfast_service.certifier.guard.evidence import Counted
from tests.certifier.specs import POSITIONS, SEED, spec, tally

L0 = {"text": "l0", "slots": 0, "max_tokens": 2}
FIELDS = {"kind": "tabular", "text": "l0", "slots": 3, "max_tokens": 2, "alphabets": (5, 9, 3), "beta": 0.6}


def counted(asked: GuardSpec, *ends: int, looks: bool = False) -> Counted:
    """The evidence of orders that end at these draws, looked at in the end or after each."""
    found, start = Counted.nothing(asked), 0
    for index, stop in enumerate(ends):
        found = found.with_tally(tally(asked, Order("job", index, start, stop), 0.5, near_tie=0.1))
        found, start = found.looked(asked, SEED) if looks else found, stop
    return found.looked(asked, SEED)


@pytest.mark.parametrize("changes", [{}, {"tails": 1}, {"scope": "per_budget"}, L0, FIELDS])
@given(cuts=st.lists(st.integers(1, 39), max_size=4, unique=True).map(sorted), looks=st.booleans())
def test_votes_and_masks_are_the_same_however_the_draws_were_cut_and_looked_at(
    changes: dict[str, object], cuts: list[int], looks: bool
) -> None:
    asked = spec(**changes)
    whole, parts = counted(asked, 40), counted(asked, *cuts, 40, looks=looks)
    assert (whole.draws, parts.draws, parts.tallies) == (40, 40, len(cuts) + 1)
    assert np.array_equal(whole.votes.unsafe, parts.votes.unsafe)
    assert np.array_equal(whole.votes.near_tie, parts.votes.near_tie)
    if whole.votes.masks is not None:
        assert parts.votes.masks is not None
        assert np.array_equal(whole.votes.masks, parts.votes.masks)


@pytest.mark.parametrize(("changes", "positions"), [(L0, POSITIONS), (FIELDS, 3)])
def test_masks_are_those_of_the_seed(changes: dict[str, object], positions: int) -> None:
    asked = spec(**changes)
    masks = tail_masks(question_of(asked), positions=positions, seed=SEED, start=0, stop=40)
    found = counted(asked, 7, 40).votes.masks
    assert found is not None
    assert np.array_equal(found, masks)


def test_counting_copies_no_votes_before_a_look() -> None:
    asked = spec()
    before = counted(asked, 16)
    after = before.with_tally(tally(asked, Order("job", 1, 16, 32), 0.5))
    assert after.votes is before.votes
    assert (after.draws, len(after.waiting)) == (32, 1)
    assert after.looked(asked, SEED).waiting == ()


def test_no_draws_certify_nothing() -> None:
    for asked in (spec(), spec(**L0), spec(target={"tokens": 2}, max_tokens=2)):
        assert answer(question_of(asked), Counted.nothing(asked).votes).verdict == "abstained"


def test_a_tally_of_other_tails_or_cells_is_refused() -> None:
    asked = spec()
    drawn = tally(asked, Order("job", 0, 0, 16), 0.5)
    wrong = replace(drawn, found=replace(drawn.votes, unsafe=packed(np.ones(16, np.bool_))))
    with pytest.raises(ValueError, match="a plane of 2 bytes must have 36, a bit for each of 288 votes"):
        Counted.nothing(asked).with_tally(wrong).looked(asked, SEED)


@pytest.mark.parametrize(("verdict", "share"), [("unsafe", 0.01), ("both", 0.005)])
def test_the_answer_is_the_public_frontier_at_its_share_of_alpha(verdict: str, share: float) -> None:
    asked = spec(method="joint", verdict=verdict)
    votes = Counted.nothing(asked).with_tally(tally(asked, Order("job", 0, 0, 100), 0.97)).looked(asked, SEED).votes
    question = question_of(asked)
    found = [point.radius for point in answer(question, votes).frontier]
    free = joint_frontier(votes.unsafe, kernel=question.kernels[0], sigma=asked.sigma, tau=asked.tau, alpha=share)
    assert found == [certified_radius(radius, dimensions=asked.space.dimensions) for radius in free]


def test_the_stratified_answer_is_the_public_frontier_of_each_cells_count() -> None:
    asked = spec(method="stratified", tails=1, verdict="unsafe")
    votes = Counted.nothing(asked).with_tally(tally(asked, Order("job", 0, 0, 100), 0.97)).looked(asked, SEED).votes
    cells, question = [(100, int(hits)) for hits in votes.unsafe[:, 0].sum(axis=0)], question_of(asked)
    free = suffix_frontier(cells, kernel=question.kernels[0], sigma=asked.sigma, tau=asked.tau, alpha=question.alpha)
    expected = [certified_radius(radius, dimensions=asked.space.dimensions) for radius in free]
    assert [point.radius for point in answer(question, votes).frontier] == expected
