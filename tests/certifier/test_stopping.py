"""What the certifier asks for and when it stops: cheap where it can be, never twice the same draw."""

import itertools
import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.certificates import Answer, Votes, answer
from holdfast.certificates.guard.prospects import doubled
from holdfast.certificates.noise.kernels import BLOCK
from holdfast.contract.guard.requests import Target
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast.queue.orders import Order
from holdfast_service.certifier.guard.evidence import Counted
from holdfast_service.certifier.guard.stopping import AHEAD, is_look, order_draws, stopped
from tests.certifier.specs import SEED, Rate, spec, tally

PUBLISHED = {"beta": 0.25, "tau": 4.6e-5, "sigma": 1.0, "alphabets": (30_000,), "verdict": "unsafe"}


def run(asked: GuardSpec, rate: Rate) -> tuple[Counted, Answer, str]:
    """The certifier's rules on a guard of known rates, until they stop."""
    counted, question = Counted.nothing(asked), replace(question_of(asked), epsilons=())
    while True:
        start = counted.draws
        order = Order("job", counted.tallies, start, start + order_draws(asked, start))
        counted = counted.with_tally(tally(asked, order, rate))
        if not is_look(asked, counted.draws):
            continue
        counted = counted.looked(asked, SEED)
        found = answer(question, counted.votes)
        if reason := stopped(asked, question, counted.votes, found):
            return counted, found, reason


def planned(asked: GuardSpec) -> list[int]:
    """The sizes of all orders up to the last draw."""
    sizes, start = list[int](), 0
    while (size := order_draws(asked, start)) > 0:
        sizes.append(size)
        start += size
    return sizes


def radii(found: Answer) -> list[float]:
    return [point.radius or 0.0 for point in found.frontier]


TARGETS = st.none() | st.just(Target(tokens=1, epsilon=0.1))


@given(
    st.integers(1, 5000), TARGETS, st.sampled_from(["any_time", "fixed"]), st.none() | st.integers(1, 4000),
    st.none() | st.floats(1e-5, 10),
)  # fmt: skip
def test_orders_spend_the_draws_exactly_and_each_ends_by_the_next_look(
    most: int, target: Target | None, stop: str, room: int | None, draw_s: float | None
) -> None:
    asked = spec(max_draws=most, target=target, stop=stop, room=room, draw_s=draw_s)
    sizes = planned(asked)
    assert sum(sizes) == most
    assert min(sizes) >= 1
    assert max(sizes) <= max(1, BLOCK if draw_s is None else min(BLOCK, 1 / draw_s), room or 1)
    assert all(size * draw_s <= 1 or size == 1 for size in sizes) if draw_s else True
    ends = set(itertools.accumulate(sizes))
    assert {draws for draws in range(1, most + 1) if is_look(asked, draws)} <= ends


@given(st.integers(1, 5000), TARGETS, st.integers(1, 4000), st.floats(1e-5, 10))
def test_when_the_evidence_is_looked_at_does_not_depend_on_the_device(
    most: int, target: Target | None, room: int, draw_s: float
) -> None:
    slow, fast = spec(max_draws=most, target=target, room=room, draw_s=draw_s), spec(max_draws=most, target=target)
    assert all(is_look(slow, draws) == is_look(fast, draws) for draws in range(1, most + 1))


@pytest.mark.parametrize(("target", "least"), [(None, 16), (Target(tokens=1, epsilon=0.1), 1)])
def test_looks_are_a_quarter_apart_once_there_are_a_few_draws(target: Target | None, least: int) -> None:
    asked = spec(max_draws=100_000, target=target)
    looks = [draws for draws in range(1, 100_001) if is_look(asked, draws)]
    assert looks[:4] == [least, 2 * least, 3 * least, 4 * least]
    assert all(later - before <= max(least, before / 4) for before, later in itertools.pairwise(looks))
    assert len(looks) < 70


def test_a_targets_first_order_is_small_and_one_job_can_fill_the_device_later() -> None:
    asked = spec(target=Target(tokens=1, epsilon=0.1), max_draws=100_000, room=512, draw_s=0.001)
    sizes = planned(asked)
    assert sum(sizes[:AHEAD]) <= 4
    assert sizes[-2] == 512
    assert {size for size in sizes if size >= BLOCK and size % BLOCK} <= {sizes[-1]}


@pytest.mark.parametrize(
    ("room", "draw_s", "largest"),
    [(None, None, 16), (6, None, 16), (100, None, 96), (512, 0.01, 96), (512, 0.3, 2), (6, 5.0, 1)],
)
def test_an_order_fills_the_device_but_holds_no_worker_for_more_than_a_second(
    room: int | None, draw_s: float | None, largest: int
) -> None:
    assert max(planned(spec(max_draws=100_000, room=room, draw_s=draw_s))) == largest


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stop": "fixed", "max_draws": 100},
        {"method": "neyman_pearson"},
        {"method": "stratified"},
        {"text": "none", "slots": 0, "max_tokens": 0, "tails": 1},
        {"text": "append", "slots": 0, "max_tokens": 9, "tails": 1, "verdict": "unsafe"},
        {"scope": "per_budget", "slots": 3, "max_tokens": 3},
        {"target": Target(tokens=3, epsilon=0.2), "max_tokens": 3},
        {"text": "l0", "slots": 0, "max_tokens": 1},
        {"sigma": 0.0},
        {"max_draws": 10},
    ],
)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_sampling_stops_within_the_draws_and_says_why(changes: dict[str, object], rate: float) -> None:
    asked = spec(**{"max_draws": 300, **changes})
    counted, found, reason = run(asked, rate)
    assert counted.draws <= asked.max_draws
    assert reason != "draws_spent" or counted.draws == asked.max_draws
    assert (reason == "target") == (found.target is not None)
    assert reason != "tolerance" or found.verdict != "abstained"
    assert asked.stop == "any_time" or reason == "draws_spent"


def test_an_input_never_flagged_is_certified_safe_where_tau_allows_it() -> None:
    _, found, _ = run(spec(method="joint"), 0.0)
    assert found.verdict == "safe"
    assert found.max_tokens == 3  # 1 - 0.9^4 > tau = 0.3: no bound from masks can rule out more


def test_an_input_never_flagged_stops_early_when_only_unsafe_is_asked() -> None:
    counted, found, reason = run(spec(verdict="unsafe"), 0.0)
    assert (found.verdict, reason) == ("abstained", "not_certifiable")
    assert counted.draws <= 48


def test_a_rate_at_tau_abstains() -> None:
    _, found, reason = run(spec(), 0.3)
    assert found.verdict == "abstained"
    assert reason in ("not_certifiable", "draws_spent")


def test_what_may_yet_be_certified_is_not_given_up() -> None:
    """A rate of .45 above tau=.3 takes about a hundred draws to certify, whichever are drawn first."""
    counted, found, _ = run(spec(verdict="unsafe", tails=1, method="neyman_pearson", beta=0.1), 0.45)
    assert counted.draws > BLOCK
    assert found.verdict == "unsafe"


@pytest.mark.parametrize("tolerance", [0.1, 0.2, 0.3])
def test_a_frontier_stops_where_a_doubling_would_bring_less_than_the_tolerance(tolerance: float) -> None:
    asked = spec(tolerance=tolerance, max_draws=5000)
    counted, found, reason = run(asked, 0.97)
    assert reason == "tolerance"
    now, then = (sum(radii(one)) for one in (found, answer(question_of(asked), doubled(counted.votes))))
    assert now < then <= now * (1 + tolerance)
    before = Votes(*(plane[: counted.draws * 4 // 5] for plane in (counted.votes.unsafe, counted.votes.near_tie)))
    now, then = (sum(radii(answer(question_of(asked), votes))) for votes in (before, doubled(before)))
    assert then > now * (1 + 0.9 * tolerance)


def test_without_tolerance_every_draw_is_spent() -> None:
    counted, _, reason = run(spec(tolerance=0.0, max_draws=100), 1.0)
    assert (counted.draws, reason) == (100, "draws_spent")


def test_a_text_only_frontier_stops_once_no_further_budget_is_in_reach() -> None:
    asked = spec(sigma=0.0, epsilons=(0.0,))
    counted, found, reason = run(asked, 1.0)
    assert reason == "tolerance"
    assert counted.draws < 100
    assert found.max_tokens == answer(question_of(asked), doubled(counted.votes)).max_tokens


def test_a_fixed_sample_spends_every_draw_whatever_it_shows() -> None:
    counted, found, reason = run(spec(stop="fixed", max_draws=100, target=Target(tokens=1), max_tokens=1), 1.0)
    assert (counted.draws, reason, found.target) == (100, "draws_spent", "unsafe")


def test_near_ties_count_against_whichever_side_claims() -> None:
    asked = spec(max_draws=64)
    order = Order("job", 0, 0, 64)
    plain, tied = (
        Counted.nothing(asked).with_tally(tally(asked, order, 1.0, near_tie=share)).looked(asked, SEED)
        for share in (0.0, 0.2)
    )
    best, found = (answer(question_of(asked), counted.votes) for counted in (plain, tied))
    assert 0 < sum(radii(found)) < sum(radii(best))


def test_a_decision_that_cannot_succeed_any_more_says_so() -> None:
    asked = spec(target=Target(tokens=8, epsilon=2.0), max_tokens=8, tau=0.4)
    counted, found, reason = run(asked, 0.5)
    assert (found.target, reason) == (None, "not_certifiable")
    assert counted.draws <= 100


# The fewest draws that decide by Clopper-Pearson, were their number known beforehand and every vote Unsafe:
# b^d Phi(Phi^-1(alpha^(1/n)) - epsilon / sigma) > tau at alpha = .005, as both verdicts are tried.
DECISIONS = [((1, 0.25), 1), ((3, 0.5), 2), ((5, 0.5), 4), ((6, 0.25), 6)]


@pytest.mark.parametrize(("target", "fixed"), DECISIONS)
@pytest.mark.parametrize("tails", [1, 2, 4])
def test_a_target_spends_at_most_half_more_than_the_best_fixed_number_of_draws(
    target: tuple[int, float], fixed: int, tails: int
) -> None:
    tokens, epsilon = target
    asked = spec(
        **PUBLISHED | {"sigma": 0.5, "verdict": "both"},
        tails=tails, target=Target(tokens=tokens, epsilon=epsilon), max_tokens=tokens,
    )  # fmt: skip
    counted, found, reason = run(asked, 1.0)
    assert (found.target, reason) == ("unsafe", "target")
    assert counted.draws <= 1.5 * fixed


def test_a_target_is_decided_by_four_draws_of_a_guard_that_is_nearly_sure() -> None:
    asked = spec(**PUBLISHED | {"sigma": 0.5, "verdict": "both"}, tails=4, target=Target(tokens=3, epsilon=0.5))
    spent = []
    for offset in range(60):
        question, drawn = replace(question_of(asked), epsilons=()), np.random.default_rng(offset).random((64, 4, 1))
        for draws in filter(lambda draws: is_look(asked, draws), range(1, 65)):
            votes = Votes(drawn[:draws] < 0.99, np.zeros((draws, 4, 1), np.bool_))
            if stopped(asked, question, votes, answer(question, votes)) == "target":
                spent.append(draws)
                break
    assert len(spent) == 60
    assert statistics.median(spent) <= 4


FRONTIER = [7.2244, 6.4695, 5.6248, 4.6493, 3.4557, 1.7503]
"""[H] with 10,000 all-Unsafe passes for each d = 0..7 (80,000 in all), at alpha each: none certified beyond d = 5."""


def test_a_thousand_draws_reach_what_the_published_passes_do() -> None:
    counted, found, _ = run(spec(**PUBLISHED, tails=4, max_draws=1000, tolerance=0.0), 1.0)
    assert counted.draws == 1000
    assert found.max_tokens == 7
    shares = [ours / theirs for ours, theirs in zip(radii(found), FRONTIER, strict=False)]
    assert min(shares[3:]) >= 1
    assert min(shares) >= 0.86


def test_what_a_doubling_brings_shrinks_with_the_draws() -> None:
    asked = spec(**PUBLISHED, tails=4)
    gains = []
    for draws in (100, 400, 1600):
        counted = Counted.nothing(asked).with_tally(tally(asked, Order("job", 0, 0, draws), 1.0)).looked(asked, SEED)
        now, then = (math.fsum(radii(answer(question_of(asked), v))) for v in (counted.votes, doubled(counted.votes)))
        gains.append(then / now - 1)
    assert gains == sorted(gains, reverse=True)
