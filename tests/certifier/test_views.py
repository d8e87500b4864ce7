"""What the loop may rely on, whichever kind of model draws: the tallies alone decide plan, stop and numbers."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from holdfast.contract.guard.requests import Target
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast_service.certifier.features.view import FeatureView
from holdfast_service.certifier.guard.view import GuardView
from holdfast_service.certifier.views import View, count, is_checkpoint
from tests.certifier import feature_specs, specs

BORN = datetime(2026, 1, 1, tzinfo=UTC)


class Job(NamedTuple):
    """A job before its first tally, and what its workers report."""

    view: View
    tally: Callable[[Order], Tally]


def of_guard(rate: float = 0.97, **changes: object) -> Job:
    asked = specs.spec(**{"max_draws": 300, **changes})
    view = GuardView.begin(JobRecord("cert_0", "running", asked, specs.SEED, BORN, (64, 64)), asked)
    return Job(view, lambda order: specs.tally(asked, order, rate))


def of_encoder(mean: float = 0.9, **changes: object) -> Job:
    asked = feature_specs.spec(**changes)
    view = FeatureView.begin(JobRecord("cert_0", "running", asked, "ab" * 32, BORN, (64, 64)), asked)
    return Job(view, lambda order: feature_specs.tally(asked, order, mean))


JOBS: dict[str, Callable[[], Job]] = {
    "suffix": of_guard,
    "orders smaller than a step": lambda: of_guard(draw_s=0.3, max_draws=60),
    "a target": lambda: of_guard(target=Target(tokens=2, epsilon=0.5), max_tokens=2),
    "l0": lambda: of_guard(text="l0", slots=0, max_tokens=2),
    "fixed": lambda: of_guard(stop="fixed"),
    "append": lambda: of_guard(text="append", slots=0, max_tokens=20, tails=1, verdict="unsafe"),
    "not certifiable": lambda: of_guard(rate=0.3),
    "a feature": of_encoder,
    "a head": lambda: of_encoder(head=feature_specs.HEAD),
    "a feature at any time": lambda: of_encoder(stop="any_time", draws=5000),
}


def run(job: Job) -> tuple[View, list[Order], list[Tally]]:
    """The view at its end, with every order that it asked for and every tally that it counted."""
    view, asked, tallies = job.view, dict[int, Order](), list[Tally]()
    while view.stopped is None:
        for order in view.wanted:
            assert asked.setdefault(order.index, order) == order
        tallies.append(job.tally(asked[view.counted]))
        view = view.add(tallies[-1])
    return view, list(asked.values()), tallies


@pytest.mark.parametrize("name", JOBS)
def test_every_order_takes_fresh_draws(name: str) -> None:
    _, asked, _ = run(JOBS[name]())
    assert [order.index for order in asked] == list(range(len(asked)))
    assert asked[0].start == 0
    assert all(before.stop == after.start for before, after in itertools.pairwise(asked))


@pytest.mark.parametrize("name", JOBS)
def test_the_view_is_the_same_however_many_tallies_come_at_once(name: str) -> None:
    job = JOBS[name]()
    whole, asked, tallies = run(job)
    at_once = count(job.view, tallies)
    in_two = count(count(job.view, tallies[:3]), tallies[3:])
    for view in (at_once, in_two):
        assert (view.counted, view.stopped, view.progress) == (whole.counted, whole.stopped, whole.progress)
    begun = count(job.view, tallies[:2])
    assert list(begun.wanted) == [order for order in asked if order.index >= 2][: len(begun.wanted)]


@pytest.mark.parametrize("name", JOBS)
def test_what_arrives_after_the_end_is_not_counted(name: str) -> None:
    job = JOBS[name]()
    whole, asked, tallies = run(job)
    late = [job.tally(order) for order in asked[len(tallies) :]]
    assert count(job.view, [*tallies, *late]).progress == whole.progress


@pytest.mark.parametrize("name", JOBS)
def test_no_more_draws_are_asked_for_than_are_allowed(name: str) -> None:
    job = JOBS[name]()
    view, asked, tallies = run(job)
    assert sum(order.draws for order in asked) <= view.progress.max_draws
    assert view.progress.draws == sum(tally.draws for tally in tallies)


def test_an_encoders_certificate_needs_what_its_workers_settled() -> None:
    view, _, _ = run(of_encoder())
    with pytest.raises(ValueError, match="job cert_0 has no reference, must have one; see the worker's log"):
        view.certificate("draws_spent", None)


def test_an_encoders_evidence_is_looked_at_by_eighths() -> None:
    looked = [counted for counted in range(1, 200) if is_checkpoint(counted)]
    assert looked[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(looked) < 50
    assert all(later <= earlier * 1.15 + 1 for earlier, later in itertools.pairwise(looked))


def test_progress_says_how_long_the_rest_of_the_draws_would_take_where_that_is_known() -> None:
    known, unknown = of_guard(draw_s=0.002), of_guard()
    for job in (known, unknown):
        assert (job.view.progress.draws, job.view.progress.max_draws) == (0, 300)
    assert known.view.progress.seconds_left == pytest.approx(0.6)
    after = known.view.add(known.tally(known.view.wanted[0]))
    assert after.progress.draws == 16
    assert after.progress.seconds_left == pytest.approx(284 * 0.002)
    assert unknown.view.progress.seconds_left is None
    assert of_encoder().view.progress.seconds_left is None
