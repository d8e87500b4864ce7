"""Coverage by seeded simulation: all numbers of an answer hold together, but for its risk.

The guards are tight, so that a bound above its rate is a number that some attack refutes: these tests can fail.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import binom

from holdfast.certificates import Votes, answer, clopper_pearson_lower
from tests.certificates.scenes import TIGHT, Scene, tight_scene, violations

pytestmark = pytest.mark.slow

RUNS = 120
RISK = 0.3
NEVER = 1e-9
MOST = binom.isf(NEVER, RUNS, RISK)  # wrong answers exceed it with probability below 1e-9
BOLD = 0.6  # any-time bounds and bets keep room to spare: only a large risk shows that they can fail


def looks(scene: Scene, rng: np.random.Generator, draws: tuple[int, ...]) -> Iterator[Votes]:
    """The evidence after each number of draws of one path of them."""
    path = scene.votes(0, draws[-1], rng)
    for n in draws:
        yield Votes(path.unsafe[:n], path.near_tie[:n], None if path.masks is None else path.masks[:n])


def failures(scene: Scene, draws: tuple[int, ...]) -> int:
    """Paths on which some number is wrong at some look."""
    rng = np.random.default_rng(1)
    return sum(
        any(violations(scene, [answer(scene.question, votes)]) for votes in looks(scene, rng, draws))
        for _ in range(RUNS)
    )


@pytest.mark.parametrize("name", TIGHT)
def test_at_any_time_all_numbers_hold_at_every_look_but_for_the_risk(name: str) -> None:
    wrong = failures(tight_scene(name, q=0.6, alpha=BOLD, tau=0.3), (3, 6, 12, 24))
    assert 0 < wrong <= binom.isf(NEVER, RUNS, BOLD)


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("name", TIGHT)
def test_at_a_fixed_number_of_draws_all_numbers_hold_but_for_the_risk(name: str, safe: bool) -> None:
    # Of one tail, so that single cells have the bound of counts: bets on means fail too rarely to be seen to.
    side = "safe" if safe else "unsafe"
    scene = tight_scene(name, q=0.7, safe=safe, alpha=BOLD, bound="clopper_pearson", sides=(side,), tails=1)
    assert 0 < failures(scene, (20,)) <= binom.isf(NEVER, RUNS, BOLD)


def test_one_cell_and_one_side_fail_as_often_as_their_bound_and_all_but_use_up_the_risk() -> None:
    scene = tight_scene("image only", q=0.7, alpha=RISK, bound="clopper_pearson", sides=("unsafe",))
    law = binom(20, 0.7)
    rate = sum(law.pmf(k) for k in range(21) if clopper_pearson_lower(k, 20, RISK) > 0.7)
    assert 0.2 < rate < RISK
    assert binom.ppf(NEVER, RUNS, rate) <= failures(scene, (20,)) <= binom.isf(NEVER, RUNS, rate)


def test_a_fixed_bound_fails_more_often_than_its_risk_when_it_is_looked_at_again_and_again() -> None:
    scene = tight_scene("image only", q=0.7, alpha=RISK, bound="clopper_pearson", sides=("unsafe",))
    assert failures(scene, tuple(range(1, 120, 2))) > MOST
