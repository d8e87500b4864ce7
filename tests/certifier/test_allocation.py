"""What the certifier asks for and when it stops: cheap where it can be, never twice the same draw."""

from dataclasses import replace

import pytest

from holdfast.certificates import Answer, Counts, answer
from holdfast.contract.guard.requests import Target
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast.queue.orders import Order, Tally
from holdfast_service.certifier.guard.allocation import AHEAD, next_order, stopped
from holdfast_service.certifier.guard.evidence import counts_of, fold, no_cells
from holdfast_service.certifier.views import is_checkpoint
from tests.certifier.specs import SEED, Rate, spec, tally


def run(asked: GuardSpec, rate: Rate) -> tuple[list[Order], list[Tally], Answer, str]:
    """The certifier's rules on a guard of known rates, with the orders it would have out."""
    question, cells = replace(question_of(asked), epsilons=()), no_cells(asked)
    plan: list[Order] = []
    tallies: list[Tally] = []
    while True:
        while len(plan) < len(tallies) + AHEAD and (order := next_order(asked, question, "job", plan, cells)):
            plan.append(order)
        tallies.append(tally(asked, plan[len(tallies)], rate))
        cells = fold(cells, tallies[-1])
        if not is_checkpoint(len(tallies), len(plan)):
            continue
        counts = counts_of(asked, SEED, tallies, cells)
        found = answer(question, counts)
        if reason := stopped(asked, question, counts, found, sum(one.passes for one in tallies)):
            return plan, tallies, found, reason


def passes(tallies: list[Tally]) -> int:
    return sum(one.passes for one in tallies)


def radii(found: Answer) -> list[float]:
    return [point.radius or 0.0 for point in found.frontier]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stop": "fixed", "max_passes": 1000},
        {"method": "neyman_pearson", "max_passes": 500},
        {"text": "none", "slots": 0, "max_tokens": 0, "max_passes": 300},
        {"scope": "per_budget", "max_passes": 900},
        {"target": Target(tokens=3, epsilon=0.2), "max_tokens": 3},
        {"text": "l0", "slots": 0, "max_tokens": 2, "max_passes": 400},
        {"max_passes": 10},
    ],
)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.6, 1.0])
def test_orders_are_fresh_contiguous_and_within_the_passes(changes: dict[str, object], rate: float) -> None:
    plan, tallies, _, _ = run(spec(**changes), rate)
    assert [order.index for order in plan] == list(range(len(plan)))
    assert [order.start for order in plan] == [0, *(order.stop for order in plan)][: len(plan)]
    assert all(order.stop > order.start for order in plan)
    assert sum(order.passes for order in plan) <= spec(**changes).max_passes
    assert len(tallies) <= len(plan) <= len(tallies) + AHEAD


def test_an_input_never_flagged_is_certified_safe_where_tau_allows_it() -> None:
    _, _, found, _ = run(spec(method="stratified"), 0.0)
    assert found.verdict == "safe"
    assert found.max_tokens == 3  # 1 - 0.9^4 > tau = 0.3: no bound from masks can rule out more


def test_an_input_never_flagged_stops_early_when_only_unsafe_is_asked() -> None:
    _, tallies, found, reason = run(spec(verdict="unsafe"), 0.0)
    assert (found.verdict, reason) == ("abstained", "not_certifiable")
    assert passes(tallies) <= 500


def test_a_rate_at_tau_abstains() -> None:
    _, _, found, reason = run(spec(max_passes=1800), 0.3)
    assert found.verdict == "abstained"
    assert reason in ("not_certifiable", "passes_spent")


def test_an_input_always_flagged_stops_within_the_tolerance_of_spending_all() -> None:
    _, early, found, reason = run(spec(tolerance=0.1, method="stratified"), 1.0)
    _, late, best, _ = run(spec(tolerance=0.0, method="stratified"), 1.0)
    assert reason == "tolerance"
    assert passes(early) < passes(late)
    assert all(b - a <= 0.1 * radii(best)[0] for a, b in zip(radii(found), radii(best), strict=True))


def test_a_decision_is_ready_within_ten_passes() -> None:
    asked = spec(
        beta=0.25, tau=4.6e-5, alphabets=(30_000,), target=Target(tokens=3, epsilon=0.5), max_tokens=3, max_passes=1000
    )
    _, tallies, found, reason = run(asked, 0.99)
    assert (found.target, reason) == ("unsafe", "target")
    assert passes(tallies) <= 10


def test_a_decision_samples_one_cell_alone() -> None:
    asked = spec(target=Target(tokens=3, epsilon=0.5), max_tokens=3)
    plan, _, _, _ = run(asked, 1.0)
    assert {order.cells for order in plan} == {(3,)}


def test_a_decision_that_cannot_succeed_any_more_says_so() -> None:
    asked = spec(target=Target(tokens=8, epsilon=2.0), tau=0.4)
    _, tallies, found, reason = run(asked, 0.5)
    assert (found.target, reason) == (None, "not_certifiable")
    assert passes(tallies) < 500


def test_a_fixed_sample_spends_every_pass_and_uses_every_cell_alike() -> None:
    plan, tallies, _, reason = run(spec(stop="fixed", max_passes=900), 1.0)
    assert (reason, passes(tallies)) == ("passes_spent", 900)
    assert {order.cells for order in plan} == {tuple(range(10))}


PUBLISHED = [7.2244, 6.4695, 5.6248, 4.6493, 3.4557, 1.7503]
"""[H] with 10,000 all-Unsafe passes for each d = 0..7 (80,000 in all), at alpha each: none certified beyond d = 5."""


@pytest.mark.parametrize(("max_passes", "from_tokens", "share_at_none"), [(900, 4, 0.74), (9000, 2, 0.88)])
def test_a_fraction_of_the_published_passes_reaches_further(
    max_passes: int, from_tokens: int, share_at_none: float
) -> None:
    asked = spec(
        beta=0.25,
        tau=4.6e-5,
        sigma=1.0,
        alphabets=(30_000,),
        max_passes=max_passes,
        tolerance=0.0,
        verdict="unsafe",
        method="stratified",
    )
    _, tallies, found, _ = run(asked, 1.0)
    assert passes(tallies) <= max_passes
    assert found.max_tokens == 7
    assert all(ours >= theirs for ours, theirs in list(zip(radii(found), PUBLISHED, strict=False))[from_tokens:])
    assert radii(found)[0] >= share_at_none * PUBLISHED[0]


def test_budgets_that_no_cell_can_certify_share_one_cell() -> None:
    assert spec(beta=0.25, tau=4.6e-5, alphabets=(30_000,), verdict="unsafe").strata == 7
    assert spec(beta=0.25, tau=0.3, alphabets=(30_000,), verdict="unsafe").strata == 0
    assert spec(beta=0.9, tau=0.3).strata == 8


def test_draws_go_to_the_cells_that_gain_most() -> None:
    """A cell whose rate is settled at nothing gets fewer draws than the others."""
    asked = spec(max_passes=3000, tolerance=0.0, verdict="unsafe", method="stratified")
    _, tallies, _, _ = run(asked, lambda cell: 0.0 if cell == 2 else 1.0)
    draws = [sum(one.stop - one.start for one in tallies if cell in one.votes.cells) for cell in range(9)]
    assert draws[2] < 0.7 * max(draws)


def test_auto_is_as_good_as_each_method_alone_at_its_share() -> None:
    """On the draws that `auto` took: the strata at half of alpha, the natural noise at the other half."""
    asked = spec(max_passes=3600)
    question = question_of(asked)
    _, tallies, found, _ = run(asked, 1.0)
    cells = no_cells(asked)
    for one in tallies:
        cells = fold(cells, one)
    half = replace(question, alpha=question.alpha / 2, epsilons=())
    strata = replace(half, method="stratified", cells=question.cells[:-1], wanted=tuple(range(9)))
    single = replace(half, method="neyman_pearson", cells=question.cells[-1:], wanted=(0,))
    for alone in (answer(strata, Counts(cells[:-1])), answer(single, Counts(cells[-1:]))):
        assert all(ours >= theirs for ours, theirs in zip(radii(found), radii(alone), strict=True))
