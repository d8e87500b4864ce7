"""What the certifier makes of tallies: the same whatever the order of arrival, and when it stops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates import suffix_frontier
from holdfast.contract.models import NoiseSpace
from holdfast.contract.requests import CertificationSpec
from holdfast.queue.orders import Tally
from holdfast_service.certifier.evidence import Assessment, assess, fold, kernel_of, next_order, no_evidence


def spec(**changes: object) -> CertificationSpec:
    values = {
        "model": "guard",
        "fingerprint": "sha256:0",
        "token_kernel": "uniform",
        "alphabet_size": 480,
        "slots": 8,
        "beta": 0.9,
        "sigma": 0.25,
        "tau": 0.3,
        "alpha": 0.01,
        "max_passes": 9000,
        "stop": "any_time",
        "tolerance": 0.02,
        "epsilons": (0.0, 0.5),
        "space": NoiseSpace(channels=3, height=64, width=64),
        "false_flag": None,
    }
    return CertificationSpec.model_validate({**values, **changes})


def sample(asked: CertificationSpec, rate: float, seed: int = 0) -> Assessment:
    rng, cells = np.random.default_rng(seed), no_evidence(asked)
    for index in range(10_000):
        order = next_order(asked, "job", index)
        assert order is not None
        unsafe = rng.binomial(order.stop - order.start, rate, len(order.cells))
        cells = fold(cells, Tally(order.start, order.stop, order.cells, tuple(map(int, unsafe))))
        if (found := assess(asked, cells)).stopped is not None:
            return found
    raise AssertionError("never stopped")


@pytest.mark.parametrize(("max_passes", "slots"), [(9, 8), (10, 8), (143, 8), (145, 8), (9000, 8), (9000, 0), (17, 16)])
def test_orders_partition_the_draws_that_the_passes_pay_for(max_passes: int, slots: int) -> None:
    asked = spec(max_passes=max_passes, slots=slots)
    orders = []
    while (order := next_order(asked, "job", len(orders))) is not None:
        orders.append(order)
    indexes = [draw for order in orders for draw in range(order.start, order.stop)]
    assert indexes == list(range(asked.max_draws))
    assert sum(order.passes for order in orders) <= max_passes


@settings(derandomize=True, max_examples=50)
@given(st.permutations(range(6)))
def test_the_evidence_is_the_same_in_whatever_order_tallies_are_folded(arrival: list[int]) -> None:
    asked = spec()
    tallies = [Tally(16 * i, 16 * i + 16, tuple(range(9)), tuple((i + k) % 17 for k in range(9))) for i in range(6)]
    forward, shuffled = no_evidence(asked), no_evidence(asked)
    for index in range(6):
        forward, shuffled = fold(forward, tallies[index]), fold(shuffled, tallies[arrival[index]])
    assert forward == shuffled


def test_a_tally_of_some_cells_counts_in_those_alone() -> None:
    cells = fold(no_evidence(spec()), Tally(0, 16, (3, 8), (5, 16)))
    assert cells == ((0, 0), (0, 0), (0, 0), (16, 5), (0, 0), (0, 0), (0, 0), (0, 0), (16, 16))


def test_the_assessed_frontier_is_the_public_one() -> None:
    asked, cells = spec(), ((100, 97),) * 9
    expected = suffix_frontier(cells, kernel=kernel_of(asked), sigma=asked.sigma, tau=asked.tau, alpha=asked.alpha)
    assert list(assess(asked, cells).frontier) == expected


def test_an_input_never_flagged_stops_long_before_the_passes_are_spent() -> None:
    found = sample(spec(), 0.0)
    assert found.stopped == "not_certifiable"
    assert found.passes <= 500
    assert found.frontier == (None,) * 9


def test_an_input_always_flagged_is_certified_within_the_tolerance_of_spending_all() -> None:
    asked = spec(tolerance=0.05)
    found, spent = sample(asked, 1.0), sample(spec(tolerance=0.0), 1.0)
    assert found.stopped == "tolerance"
    assert found.passes < spent.passes
    for radius, best in zip(found.frontier, spent.frontier, strict=True):
        assert radius is not None
        assert best is not None
        assert best - radius <= 0.05 * (spent.frontier[0] or 0)


def test_a_fixed_sample_stops_only_when_the_passes_are_spent_and_uses_clopper_pearson() -> None:
    asked = spec(stop="fixed", max_passes=900)
    found = sample(asked, 1.0)
    assert (found.stopped, found.passes) == ("passes_spent", 900)
    kernel = kernel_of(asked)
    expected = suffix_frontier(
        [(100, 100)] * 9, kernel=kernel, sigma=0.25, tau=0.3, alpha=0.01, bound="clopper_pearson"
    )
    assert list(found.frontier) == expected


@pytest.mark.parametrize("rate", [0.2, 0.35, 0.5, 0.8, 0.95])
def test_every_rate_stops_within_its_passes(rate: float) -> None:
    found = sample(spec(max_passes=2700, tolerance=0.05), rate, seed=3)
    assert found.passes <= 2700
    assert found.stopped is not None
