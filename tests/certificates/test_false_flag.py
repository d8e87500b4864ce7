"""The measured false-flag bound: sound, and nothing but what its counts give."""

import math

import numpy as np
import pytest
from scipy.stats import beta

from holdfast.certificates.guard.false_flag import false_flag_at_most, false_flag_faults

FLAG = {"flagged": 7, "scenes": 900, "alpha": 0.01, "measured_on": "held-out scenes"}


def stated(flagged: int, scenes: int, alpha: float) -> float:
    return math.ceil(false_flag_at_most(flagged, scenes, alpha) * 1e4) / 1e4


@pytest.mark.parametrize(("flagged", "scenes"), [(0, 1000), (7, 900), (500, 1000), (99, 100)])
def test_the_bound_is_the_quantile_of_clopper_and_pearson(flagged: int, scenes: int) -> None:
    exact = beta.ppf(0.99, flagged + 1, scenes - flagged)
    assert exact * (1 - 1e-12) <= false_flag_at_most(flagged, scenes, 0.01) <= exact + 1e-9


def test_scenes_that_are_all_flagged_bound_nothing() -> None:
    assert false_flag_at_most(5, 5, 0.01) == false_flag_at_most(0, 0, 0.01) == 1.0


def test_the_bound_fails_with_at_most_its_risk() -> None:
    # The exact risk over all counts, at rates just above the bound of each count, where it is largest.
    scenes, alpha = 60, 0.05
    counts = np.arange(scenes + 1)
    bounds = np.array([false_flag_at_most(int(count), scenes, alpha) for count in counts])
    weights = np.array([math.comb(scenes, int(count)) for count in counts], dtype=float)
    for rate in np.nextafter(bounds[:-1], 2):
        below = counts[bounds < rate]
        risk = (weights[below] * rate**below * (1 - rate) ** (scenes - below)).sum()
        assert 0.8 * alpha < risk <= alpha


@pytest.mark.parametrize(("flagged", "scenes"), [(0, 1000), (7, 900), (1000, 1000)])
def test_a_bound_rounded_up_to_four_digits_is_right(flagged: int, scenes: int) -> None:
    rate = min(1.0, stated(flagged, scenes, 0.01))
    assert not list(false_flag_faults({**FLAG, "flagged": flagged, "scenes": scenes, "rate_at_most": rate}))


@pytest.mark.parametrize(
    "change", [{"rate_at_most": 1e-6}, {"rate_at_most": 0.5}, {"flagged": 8}, {"scenes": 800}, {"alpha": 1e-4}]
)
def test_an_invented_bound_is_named(change: dict[str, float]) -> None:
    flag = {**FLAG, "rate_at_most": stated(7, 900, 0.01), **change}
    ((field, fault),) = false_flag_faults(flag)
    assert field == "false_flag"
    assert "rounded up to four digits" in fault


def test_more_flags_than_scenes_are_a_contradiction() -> None:
    ((_, fault),) = false_flag_faults({**FLAG, "flagged": 901, "rate_at_most": 1.0})
    assert fault == "flagged=901 must be at most scenes=900"
