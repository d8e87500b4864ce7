"""Brute force over all attacks, and coverage, of the joint certificate and of erase-and-check."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from holdfast.certificates import (
    AbsorbingKernel,
    any_time_lower,
    append_radius,
    clopper_pearson_lower,
    joint_frontier,
)
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.guard.sides import safe_threshold
from holdfast.certificates.shifts.covers import cover_shifts
from holdfast.certificates.shifts.joint import LEVELS, ScoreShift, joint_shifts
from holdfast.certificates.shifts.mixtures import Law
from tests.certificates.joint_worlds import JointWorlds, joint_worlds, shifted
from tests.certificates.worlds import Floats, Worlds, random_worlds, tight_world

pytestmark = pytest.mark.slow

ROUNDING = 1e-9
NEVER = 1e-9
SHIFTS = (0.0, 0.4, 1.1, 2.5)
EACH = 340  # classifiers of each of 4 dependences, 2 kernels and 4 numbers of tails


def exact_bounds(worlds: JointWorlds, budget: int, t: float) -> tuple[Floats, Floats, Floats]:
    """What law (every value a level), cells and mean prove at exact probabilities, of every classifier."""
    values, survival = worlds.score_law(budget)
    mass = worlds.masked**budget
    steps = np.diff(values, prepend=0.0)
    law = mass * shifted(survival, t) @ steps
    cells = shifted(worlds.rates()[:, budget:] @ worlds.image, t) @ worlds.weights[budget:]
    return law, cells, mass * shifted(survival @ steps, t)


def served_shifts(worlds: JointWorlds, budget: int) -> list[ScoreShift]:
    """What is served of the same exact probabilities, at the levels that are served."""
    values, survival = worlds.score_law(budget)
    means = survival @ np.diff(values, prepend=0.0)
    reached = np.searchsorted(values, np.array(LEVELS) - ROUNDING)  # values[-1] is 1 but for its rounding
    laws = [Law(np.array(LEVELS), row) for row in survival[:, reached]]
    return [ScoreShift(min(1.0, q), law, worlds.masked**budget) for q, law in zip(means, laws, strict=True)]


def test_no_attack_on_any_of_ten_thousand_classifiers_refutes_law_cells_mean_or_what_is_served() -> None:
    tried, tight, better = 0, 0, 0
    for turn, unsafe in enumerate(joint_worlds(1, EACH)):
        tried += len(unsafe.worlds)
        for side, worlds in enumerate((unsafe, unsafe.complement())):
            for budget in range(3):
                served = served_shifts(worlds, budget) if turn % 2 == side else []
                for t in SHIFTS:
                    truth = worlds.worlds.extreme(range(budget), t)
                    law, cells, mean = exact_bounds(worlds, budget, t)
                    assert np.all(law <= truth + ROUNDING)
                    assert np.all(mean <= cells + ROUNDING)
                    assert np.all(cells <= law + ROUNDING)
                    assert np.all(np.array([shift.at(t) for shift in served] or [0.0]) <= truth + ROUNDING)
                    tight += int(np.sum(law > truth - ROUNDING))
                    better += int(np.sum(law > cells + 0.01))
    assert tried >= 10_000
    assert tight > tried
    assert better > tried


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
@pytest.mark.parametrize("safe", [False, True])
def test_no_attack_of_a_served_radius_changes_the_verdict(safe: bool, bound: Bound) -> None:
    # At this risk one of so many frontiers is wrong with probability below 1e-5.
    rng, certified = np.random.default_rng(2), 0
    for several in joint_worlds(3, 6):
        for index in range(len(several.worlds)):
            world = several.one(index).complement() if safe else several.one(index)
            tau = safe_threshold(0.6) if safe else 0.2
            asks: dict[str, Any] = {"kernel": world.kernel, "sigma": 1.0, "tau": tau, "alpha": 1e-8, "bound": bound}
            for budget, radius in enumerate(joint_frontier(world.votes(rng, 300), **asks)):
                if radius is not None:
                    certified += 1
                    (worst,) = world.worlds.extreme(range(budget), min(radius, 30.0) * (1 - 1e-9))
                    assert worst > tau
    assert certified > 100


@pytest.mark.parametrize("tails", [1, 3])
def test_no_attack_on_any_positions_refutes_the_covers_of_several_tails(tails: int) -> None:
    rng, known = np.random.default_rng(4), 0
    worlds = random_worlds(rng, count=40, sizes=(3, 3, 3), chances=(0.8, 0.7, 0.9), absorbing=True)
    table = (worlds.verdicts, worlds.mask_law(0))
    for index in range(len(worlds)):
        world, draws = worlds.one(index), 200
        image = rng.choice(len(world.bins) - 1, size=draws, p=np.diff(ndtr(world.bins)))
        masks = rng.random((draws, tails, 3)) < np.array(world.chances)
        symbols = np.where(masks, len(table[1]) - 1, 0)
        hits = world.verdicts[0][(*np.moveaxis(symbols, -1, 0), image[:, None])] > 0.0
        shifts = cover_shifts(masks, hits, mask_probability=world.chances, alpha=1e-8, max_tokens=3)
        for d, t in product(range(4), (0.0, 0.7, 1.5)):
            bound = shifts[d].at(t)
            known += bound > 0.0
            assert bound <= world.extreme_l0(d, t)[0] + ROUNDING
    assert known > 100


def overreach(q: float, tails: int, alpha: float) -> float:
    """Probability that the bound of a fixed 20 draws exceeds what is left of a guard that keeps nothing back.

    The image decides alone, so that an attack of 1 sigma leaves just b^2 Phi(Phi^-1(q) - 1).
    """
    (truth,), risk = tight_world((2, 2), (0.5, 0.5), q).extreme(range(2), 1.0), 0.0
    assert truth == pytest.approx(0.25 * ndtr(ndtri(q) - 1.0))
    for hits in range(21):
        votes = np.broadcast_to((np.arange(20) < hits)[:, None, None], (20, tails, 3))
        found = joint_shifts(votes, AbsorbingKernel(0.5), alpha, "clopper_pearson", shares=(0.0, 0.0, 1.0))
        risk += float(binom(20, q).pmf(hits)) * (found[2].serves.at(1.0) > truth)
    return risk


@pytest.mark.parametrize("decisive", [3, 11, 17, 20])
def test_one_tail_of_one_cell_fails_as_often_as_its_bound_and_just_below_it_uses_up_the_risk(decisive: int) -> None:
    worst = clopper_pearson_lower(decisive, 20, 0.3) - 1e-9
    assert 0.299 < overreach(worst, 1, 0.3) <= 0.3
    assert overreach(worst + 2e-9, 1, 0.3) < 0.3


@pytest.mark.parametrize("q", [0.1, 0.3, 0.45, 0.7])
def test_several_tails_pay_for_levels_that_this_guard_does_not_need_and_still_can_fail(q: float) -> None:
    assert 0.001 < overreach(q, 3, 0.9) <= min(0.9, overreach(q, 1, 0.9))


def test_a_law_fails_as_often_as_its_decisive_level() -> None:
    # The cell without masks always hits, the other as the image says: T is 1/2, or 1 with probability q.
    q, alpha = 0.6, 0.9
    rate = sum(binom(20, q).pmf(k) for k in range(21) if clopper_pearson_lower(k, 20, alpha / 96) > q)
    truth, risk = 0.5 + 0.5 * ndtr(ndtri(q) - 0.5), 0.0
    for hits in range(21):
        votes = np.ones((20, 1, 2), dtype=bool)
        votes[:, 0, 1] = np.arange(20) < hits
        law = joint_shifts(votes, AbsorbingKernel(0.5), alpha, "clopper_pearson", shares=(1.0, 0.0))[0].own.law
        assert law is not None
        # The lower half is certain, and known to be but for its own bound.
        known = Law(law.values, np.where(law.values <= 0.5, 1.0, law.survival)).shift
        risk += float(binom(20, q).pmf(hits)) * (known.at(0.5) > truth)
    assert 0.001 < risk == pytest.approx(rate)
    assert risk <= alpha / 96


def test_at_any_time_no_look_at_a_frontier_is_wrong_but_for_the_risk() -> None:
    rng, q, wrong = np.random.default_rng(7), 0.6, 0
    world = tight_world((2, 2), (0.9, 0.9), q)
    for _ in range(150):
        image = rng.random(24) < q
        votes = np.broadcast_to(image[:, None, None], (24, 1, 3))
        found = [joint_shifts(votes[:n], AbsorbingKernel(0.9), 0.9, "any_time") for n in (3, 6, 12, 24)]
        wrong += any(
            entry.serves.at(0.5) > world.extreme(range(d), 0.5)[0] for look in found for d, entry in enumerate(look)
        )
    assert 0 < wrong <= binom.isf(NEVER, 150, 0.9)


def unsafe_rule(chances: dict[tuple[int, ...], float], text: tuple[int, ...], most: int, tau: float) -> bool:
    """Whether the text or one of its truncations by up to `most` symbols has more than tau, empty text included."""
    return any(chances[text[: len(text) - cut]] > tau for cut in range(min(most, len(text)) + 1))


def test_no_appended_text_and_shift_of_the_image_undoes_erase_and_check() -> None:
    # Texts of up to four of three symbols; of two clean ones, every way to append two more at every shift.
    rng, bins = np.random.default_rng(8), Worlds(np.zeros((1, 1)), (), (), True).bins
    texts = [text for length in range(5) for text in product(range(3), repeat=length)]
    certified, spoiled = 0, 0
    for _ in range(10_000):
        lean = rng.normal(size=(len(texts), 1)) + rng.uniform(0, 2) * rng.normal(size=(1, 8)) + rng.normal(size=(1, 8))
        verdicts, tau = (lean + rng.uniform(-0.5, 1.5) > 0).astype(float), float(rng.choice([0.05, 0.3, 0.6]))
        for clean in ((), (0, 1)):
            (here,) = verdicts[[texts.index(clean)]] @ np.diff(ndtr(bins))
            reach = ndtri(min(here, 1.0)) - ndtri(tau) if here > tau else 0.0
            certified += reach > 0.0
            for t in np.array([-1.0, -0.5, 0.5, 1.0]) * min(reach, 9.0) * (1 - 1e-9) if reach else ():
                chances = dict(zip(texts, verdicts @ np.diff(ndtr(bins - t)), strict=True))
                for length in range(3):
                    for suffix in product(range(3), repeat=length):
                        assert unsafe_rule(chances, (*clean, *suffix), 2, tau)
                        spoiled += bool(chances[(*clean, *suffix)] <= tau)
    assert certified > 10_000
    assert spoiled > 40_000  # the appended text by itself would often have passed as Safe


def test_what_is_appended_may_turn_safe_into_unsafe_so_nothing_is_said_of_safe() -> None:
    chances = {(): 0.0, (0,): 0.0, (0, 1): 1.0}
    assert not unsafe_rule(chances, (0,), 1, 0.5)
    assert unsafe_rule(chances, (0, 1), 1, 0.5)


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_a_served_radius_of_erase_and_check_is_too_large_as_often_as_its_bound_is_wrong(bound: Bound) -> None:
    q, tau, alpha, draws = 0.7, 0.3, 0.3, 20
    exact = ndtri(q) - ndtri(tau)
    radii = [append_radius(k, draws, sigma=2.0, tau=tau, alpha=alpha, bound=bound) for k in range(draws + 1)]
    law = binom(draws, q)
    rate = sum(law.pmf(k) for k, radius in enumerate(radii) if radius is not None and radius > 2.0 * exact)
    lower = {"any_time": any_time_lower, "clopper_pearson": clopper_pearson_lower}[bound]
    assert rate == pytest.approx(sum(law.pmf(k) for k in range(draws + 1) if lower(k, draws, alpha) > q))
    assert 0.0 < rate <= alpha
    assert rate > 0.2 or bound == "any_time"
