from collections.abc import Callable

import flint
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates import any_time_lower, clopper_pearson_lower
from tests.certificates import balls

COUNTS = [(1, 1), (1, 20), (10, 20), (20, 20), (3, 500), (250, 500), (9999, 10**4), (1, 10**6), (10**6 // 3, 10**6)]
RISKS = [0.5, 0.05, 1e-12]


@pytest.mark.parametrize("alpha", RISKS)
@pytest.mark.parametrize(("successes", "draws"), COUNTS)
def test_the_any_time_bound_stays_below_an_exact_one_just_below_the_grid(
    successes: int, draws: int, alpha: float
) -> None:
    near = any_time_lower(successes, draws, alpha)
    for risk in balls.hard_risks(near, lambda p: balls.any_time_risk(successes, draws, p), 8):
        lower = any_time_lower(successes, draws, risk)
        assert balls.any_time_risk(successes, draws, flint.arb(lower)) <= risk


@pytest.mark.parametrize("alpha", RISKS)
@pytest.mark.parametrize(("successes", "draws"), COUNTS)
def test_the_clopper_pearson_bound_stays_below_an_exact_one_just_below_the_grid(
    successes: int, draws: int, alpha: float
) -> None:
    near = clopper_pearson_lower(successes, draws, alpha)
    for risk in balls.hard_risks(near, lambda p: balls.tail(successes, draws, p), 8):
        lower = clopper_pearson_lower(successes, draws, risk)
        assert balls.tail(successes, draws, flint.arb(lower)) <= risk


@settings(derandomize=True, max_examples=150, deadline=None)
@given(data=st.data(), size=st.floats(0.0, 6.0), alpha=st.floats(1e-12, 0.5))
def test_no_bound_is_above_the_exact_one(data: st.DataObject, size: float, alpha: float) -> None:
    draws = int(10**size)
    successes = data.draw(st.one_of(st.integers(1, draws), st.sampled_from([1, max(1, draws - 1), draws])))
    fixed, always = clopper_pearson_lower(successes, draws, alpha), any_time_lower(successes, draws, alpha)
    assert balls.tail(successes, draws, flint.arb(fixed)) <= alpha
    assert balls.any_time_risk(successes, draws, flint.arb(always)) <= alpha


@pytest.mark.parametrize(("successes", "draws"), [(35247459, 52478052), (65428448, 153606416)])
def test_the_margin_of_the_beta_function_grows_with_the_draws(successes: int, draws: int) -> None:
    # Here its relative error is above the margin that serves a million draws.
    near = clopper_pearson_lower(successes, draws, 1e-40)
    for risk in balls.hard_risks(near, lambda p: balls.tail(successes, draws, p), 6):
        lower = clopper_pearson_lower(successes, draws, risk)
        assert balls.tail(successes, draws, flint.arb(lower)) <= risk


@pytest.mark.parametrize(("successes", "draws", "alpha"), [(157285, 157321, 1.0834900085827398e-283), (3, 4, 1e-201)])
def test_a_risk_at_which_the_beta_function_is_wrong_gets_no_bound(successes: int, draws: int, alpha: float) -> None:
    assert clopper_pearson_lower(successes, draws, alpha) == 0.0


@pytest.mark.parametrize("alpha", [1e-12, 1e-60, 1e-199])
def test_small_risks_still_get_a_bound_below_the_exact_one(alpha: float) -> None:
    for successes, draws in [(1, 1), (5, 9), (500, 500), (157285, 157321)]:
        lower = clopper_pearson_lower(successes, draws, alpha)
        assert lower > 0.0
        assert balls.tail(successes, draws, flint.arb(lower)) <= flint.arb(alpha)


def test_the_smallest_risk_of_all_proves_nothing_and_breaks_nothing() -> None:
    assert any_time_lower(1, 1, 5e-324) == clopper_pearson_lower(1, 1, 5e-324) == 0.0
    assert 0.0 < any_time_lower(5, 9, 5e-324) < 1e-60


@pytest.mark.parametrize("bound", [any_time_lower, clopper_pearson_lower])
def test_a_bound_is_never_one_however_many_draws_succeed(bound: Callable[[int, int, float], float]) -> None:
    assert bound(10**15, 10**15, 1 - 2**-53) < 1.0
    assert bound(10**15, 10**15, 0.5) == pytest.approx(1.0, abs=1e-9)
