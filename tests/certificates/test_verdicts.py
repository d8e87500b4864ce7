"""Safe is Unsafe for 1 - f: thresholds and bounds are turned round without losing a bit."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.certificates import AbsorbingKernel, answer, suffix_frontier
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.guard.sides import safe_threshold, unsafe_at_most
from tests.certificates.asking import alike, asked


@settings(derandomize=True, max_examples=300, deadline=None)
@given(tau=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
def test_the_safe_threshold_is_just_above_its_exact_value(tau: float) -> None:
    exact = 1 - Fraction(tau)
    assert math.nextafter(safe_threshold(tau), 0.0) < exact <= Fraction(safe_threshold(tau)) <= 1
    assert unsafe_at_most(tau) == safe_threshold(tau)


@pytest.mark.parametrize("method", ["joint", "neyman_pearson"])
def test_the_ends_of_the_range_stay_inside_it(method: str) -> None:
    assert (unsafe_at_most(0.0), unsafe_at_most(1.0)) == (1.0, 0.0)
    assert safe_threshold(5e-324) == 1.0
    certain = asked(text="none", tau=5e-324, method=method, epsilons=())
    assert answer(certain, alike(certain, 10**5, 0)).verdict == "abstained"


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_safe_counts_are_the_draws_that_are_not_unsafe(bound: Bound) -> None:
    cells, safe = [(200, 3), (180, 0), (50, 1)], [(200, 197), (180, 180), (50, 49)]
    kernel = AbsorbingKernel(0.9)
    frontier = suffix_frontier(cells, kernel=kernel, sigma=1.0, alpha=0.1, bound=bound, tau=0.4, verdict="safe")
    assert frontier == suffix_frontier(safe, kernel=kernel, sigma=1.0, alpha=0.1, bound=bound, tau=0.6)
    assert frontier[1] is not None


def test_no_evidence_certifies_both_verdicts() -> None:
    for unsafe in range(41):
        found = [
            suffix_frontier(
                [(40, unsafe)] * 3, kernel=AbsorbingKernel(0.9), sigma=1.0, tau=0.4, alpha=0.5, verdict=verdict
            )[0]
            for verdict in ("unsafe", "safe")
        ]
        assert None in found


def test_values_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tau=1.0 must lie strictly between 0 and 1; lower tau"):
        safe_threshold(1.0)
    with pytest.raises(ValueError, match=r"safe_at_least=1.5 must lie in \[0, 1\]"):
        unsafe_at_most(1.5)
    with pytest.raises(ValueError, match="verdict='maybe' must be one of unsafe, safe; name one of them"):
        suffix_frontier(
            [(5, 5)],
            kernel=AbsorbingKernel(0.5),
            sigma=1.0,
            tau=0.1,
            alpha=0.1,
            verdict="maybe",  # type: ignore[arg-type]
        )
