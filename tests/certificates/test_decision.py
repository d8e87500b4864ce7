from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, norm

from holdfast.certificates import AbsorbingKernel, UniformKernel, answer, any_time_lower, decide
from tests.certificates.asking import asked, counted

QUERY: dict[str, Any] = {
    "kernel": UniformKernel(0.25, 30000),
    "tokens": 3,
    "epsilon": 0.5,
    "sigma": 0.5,
    "tau": 4.6e-5,
    "alpha": 0.01,
}
NEVER = 1e-9


def pooled(draws: int, unsafe: int, tokens: int = 3) -> list[tuple[int, int]]:
    return [(0, 0)] * tokens + [(draws, unsafe)]


def passes_until(verdict: bool, outcomes: NDArray[np.bool_], question: dict[str, Any]) -> int:
    """Draws of one pooled cell until `decide` gives this verdict."""
    for n, unsafe in enumerate(np.cumsum(outcomes), start=1):
        if decide(pooled(n, int(unsafe), question["tokens"]), **question) is verdict:
            return n
    return len(outcomes) + 1


def test_a_guard_right_99_times_in_100_is_certified_within_ten_passes() -> None:
    rng = np.random.default_rng(1)
    passes = [passes_until(True, rng.random(60) < 0.99, QUERY) for _ in range(400)]
    assert np.median(passes) <= 10
    assert max(passes) <= 60


def test_a_guard_that_lets_it_through_is_certified_safe() -> None:
    question = QUERY | {"kernel": AbsorbingKernel(0.9), "tokens": 2, "epsilon": 0.1, "tau": 0.4}
    passes = [passes_until(False, np.random.default_rng(seed).random(60) < 0.01, question) for seed in range(100)]
    assert np.median(passes) <= 40


def test_no_draws_abstain() -> None:
    assert decide(pooled(0, 0), **QUERY) is None
    assert decide(pooled(1, 1), **QUERY) is None


def test_the_risk_is_halved_then_shared_by_the_cells_that_count() -> None:
    cells = [(9, 9), (30, 29), (20, 15)]
    question: dict[str, Any] = {
        "kernel": AbsorbingKernel(0.8),
        "tokens": 1,
        "epsilon": 0.4,
        "sigma": 1.0,
        "alpha": 0.08,
    }
    lower = [any_time_lower(unsafe, draws, 0.02) for draws, unsafe in cells[1:]]
    value = float(np.array([0.16, 0.64]) @ norm.cdf(norm.ppf(lower) - 0.4))
    assert decide(cells, tau=value * (1 - 1e-9), **question) is True
    assert decide(cells, tau=value, **question) is None


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    draws=st.integers(0, 80),
    misses=st.integers(0, 2),
    lean=st.booleans(),
    tokens=st.integers(0, 3),
    tau=st.floats(0.01, 0.9),
    epsilon=st.floats(0.0, 1.5),
)
def test_of_one_pooled_cell_it_is_the_answer_to_its_target(
    draws: int, misses: int, lean: bool, tokens: int, tau: float, epsilon: float
) -> None:
    unsafe = max(0, draws - misses) if lean else min(draws, misses)
    question = asked(beta=0.9, tau=tau, target=(tokens, epsilon), tails=1, alpha=0.2, epsilons=())
    found = answer(question, counted((draws, unsafe))).target
    asks: dict[str, Any] = {"kernel": AbsorbingKernel(0.9), "sigma": 1.0, "tau": tau, "alpha": 0.2}
    decided = decide(pooled(draws, unsafe, tokens), tokens=tokens, epsilon=epsilon, **asks)
    assert decided is {"unsafe": True, "safe": False, None: None}[found]


@pytest.mark.parametrize("q", [0.3, 0.5, 0.7])
def test_a_verdict_that_does_not_hold_comes_at_most_as_often_as_its_risk(q: float) -> None:
    # 200 paths are wrong at most as often as Binomial(200, 0.3): the limit is passed with probability below 1e-9.
    question: dict[str, Any] = {"kernel": AbsorbingKernel(0.9), "tokens": 1, "epsilon": 0.2, "sigma": 1.0, "alpha": 0.3}
    worst, best = 0.9 * norm.cdf(norm.ppf(q) - 0.2), 1 - 0.9 * norm.cdf(norm.ppf(1 - q) - 0.2)
    rng, wrong = np.random.default_rng(3), 0

    @cache
    def fails(draws: int, unsafe: int) -> bool:
        low, high = (decide(pooled(draws, unsafe, 1), tau=tau, **question) for tau in (worst, best))
        return low is True or high is False

    for _ in range(200):
        wrong += any(fails(n, int(k)) for n, k in enumerate(np.cumsum(rng.random(40) < q), start=1))
    assert wrong <= binom.isf(NEVER, 200, 0.3)


def test_a_verdict_survives_more_of_its_own_draws() -> None:
    question = QUERY | {"kernel": AbsorbingKernel(0.9), "tau": 0.4}
    for draws in range(1, 40):
        answers = [decide(pooled(draws, unsafe), **question) for unsafe in range(draws + 1)]
        order = [{False: -1, None: 0, True: 1}[answer] for answer in answers]
        assert order == sorted(order)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 4}, "tokens=4 must be below the 4 cells; sample a cell with so many masked"),
        ({"tokens": -1}, "tokens=-1 must be at least 0"),
        ({"alpha": 1.0}, "alpha=1.0 must lie strictly between 0 and 1"),
        ({"tau": 0.0}, "tau=0.0 must lie strictly between 0 and 1"),
        ({"epsilon": -0.1}, "epsilon=-0.1 must be at least 0"),
        ({"kernel": UniformKernel(1.0, 9)}, r"beta=1.0 must be at most \(V-1\)/V"),
    ],
)
def test_values_outside_their_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide(pooled(5, 5), **(QUERY | change))
