import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from holdfast.certificates import (
    AbsorbingKernel,
    UniformKernel,
    cell_lower_bounds,
    neyman_pearson_radius,
    neyman_pearson_value,
    safe_threshold,
    suffix_frontier,
    suffix_radii,
    suffix_radius,
    suffix_value,
    unsafe_at_most,
    worst_case,
)
from tests.certificates import worlds

NEVER = 1e-9


@settings(derandomize=True, max_examples=300, deadline=None)
@given(tau=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True))
def test_the_safe_threshold_is_just_above_its_exact_value(tau):
    exact = 1 - Fraction(tau)
    assert math.nextafter(safe_threshold(tau), 0.0) < exact <= Fraction(safe_threshold(tau)) <= 1
    assert unsafe_at_most(tau) == safe_threshold(tau)


def test_the_ends_of_the_range_stay_inside_it():
    assert (unsafe_at_most(0.0), unsafe_at_most(1.0)) == (1.0, 0.0)
    assert safe_threshold(5e-324) == 1.0
    certain = {"sigma": 1.0, "tau": 5e-324, "verdict": "safe"}
    assert suffix_radii([1.0 - 2**-53], kernel=AbsorbingKernel(0.5), **certain) == [None]
    assert neyman_pearson_radius(1.0, kernel=AbsorbingKernel(0.5), tokens=0, **certain) is None


@pytest.mark.parametrize("strata", [0, 1, 2, 3])
@pytest.mark.parametrize("absorbing", [False, True])
@pytest.mark.parametrize("chance", [0.3, 0.9])
def test_no_attack_on_the_leading_slots_beats_either_verdicts_value(chance, absorbing, strata):
    rng = np.random.default_rng(strata)
    here = worlds.random_worlds(rng, count=100, sizes=(3, 3, 3), chances=(chance,) * 3, absorbing=absorbing)
    kernel = AbsorbingKernel(chance) if absorbing else UniformKernel(chance * 2 / 3, 3)
    unsafe = np.clip(here.cells(strata), 0.0, 1.0 - 1e-16)
    safe = np.clip(1 - here.cells(strata), 0.0, 1.0 - 1e-16)
    for tokens in range(strata + 1):
        for epsilon in (0.0, 0.5, 1.5):
            question = {"kernel": kernel, "tokens": tokens, "epsilon": epsilon, "sigma": 1.0}
            least = np.array([suffix_value(cells, **question) for cells in unsafe])
            most = np.array([suffix_value(cells, verdict="safe", **question) for cells in safe])
            assert (least <= here.extreme(range(tokens), epsilon) + 1e-13).all()
            assert (most >= here.extreme(range(tokens), epsilon, largest=True) - 1e-13).all()


@pytest.mark.parametrize("absorbing", [False, True])
def test_no_attack_beats_the_neyman_pearson_bound_of_the_safe_verdict(absorbing):
    here = worlds.random_worlds(
        np.random.default_rng(9), count=100, sizes=(3, 3), chances=(0.6, 0.6), absorbing=absorbing
    )
    kernel = AbsorbingKernel(0.6) if absorbing else UniformKernel(0.4, 3)
    for tokens, epsilon in [(0, 0.5), (1, 0.0), (1, 0.5), (2, 0.5), (2, 1.5)]:
        question = {"kernel": kernel, "tokens": tokens, "epsilon": epsilon, "sigma": 1.0, "verdict": "safe"}
        safe = np.clip(1 - here.covered(()), 0.0, 1.0)
        most = np.array([neyman_pearson_value(p, **question) for p in safe])
        assert (most >= here.extreme_l0(tokens, epsilon, largest=True, outside=False) - 1e-12).all()


CELLS = st.lists(st.floats(0.0, 1.0 - 1e-9), min_size=1, max_size=6)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(cells=CELLS, beta=st.floats(0.3, 1.0), tau=st.floats(1e-6, 0.99), sigma=st.floats(0.1, 3.0))
def test_a_safe_radius_keeps_the_unsafe_probability_below_the_threshold(cells, beta, tau, sigma):
    noise = {"kernel": AbsorbingKernel(beta), "sigma": sigma, "verdict": "safe"}
    for tokens, radius in enumerate(suffix_radii(cells, tau=tau, **noise)):
        assert suffix_radius(cells, tokens=tokens, tau=tau, **noise) == radius
        if radius is not None:
            assert suffix_value(cells, tokens=tokens, epsilon=radius, **noise) < tau
            assert suffix_value(cells, tokens=tokens, epsilon=radius * (1 + 1e-7) + 1e-7, **noise) >= tau
    rows = worst_case(cells, epsilons=[0.3], **noise)
    assert [row.value for row in rows] == [
        suffix_value(cells, tokens=d, epsilon=0.3, **noise) for d in range(len(cells))
    ]


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_safe_counts_are_the_draws_that_are_not_unsafe(bound):
    cells, safe = [(200, 3), (180, 0), (50, 1)], [(200, 197), (180, 180), (50, 49)]
    assert cell_lower_bounds(cells, 0.1, bound, "safe") == cell_lower_bounds(safe, 0.1, bound)
    question = {"kernel": AbsorbingKernel(0.9), "sigma": 1.0, "alpha": 0.1, "bound": bound}
    frontier = suffix_frontier(cells, tau=0.4, verdict="safe", **question)
    assert frontier == suffix_frontier(safe, tau=0.6, **question)
    assert frontier[1] > 0


def test_a_safe_frontier_exceeds_the_true_one_with_at_most_its_risk():
    # 300 frontiers fail at most as often as Binomial(300, 0.3): the limit is passed with probability below 1e-9.
    rng, kernel, failures = np.random.default_rng(7), AbsorbingKernel(0.9), 0
    unsafe = np.array([0.02, 0.1, 0.05, 0.2])
    noise = {"kernel": kernel, "sigma": 1.0, "tau": 0.5, "verdict": "safe"}
    truth = [radius or -1.0 for radius in suffix_radii(list(1 - unsafe), **noise)]
    for counts in rng.binomial(15, unsafe, size=(300, 4)):
        found = suffix_frontier([(15, int(k)) for k in counts], alpha=0.3, **noise)
        failures += any((radius or -1.0) > true for radius, true in zip(found, truth, strict=True))
    assert failures <= binom.isf(NEVER, 300, 0.3)


def test_no_evidence_certifies_both_verdicts():
    question = {"kernel": AbsorbingKernel(0.9), "sigma": 1.0, "tau": 0.4, "alpha": 0.5}
    for unsafe in range(41):
        both = [suffix_frontier([(40, unsafe)] * 3, verdict=verdict, **question)[0] for verdict in ("unsafe", "safe")]
        assert None in both


def test_values_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"tau=1.0 must lie strictly between 0 and 1; lower tau"):
        safe_threshold(1.0)
    with pytest.raises(ValueError, match=r"safe_at_least=1.5 must lie in \[0, 1\]"):
        unsafe_at_most(1.5)
    with pytest.raises(ValueError, match="verdict='maybe' must be one of unsafe, safe; name one of them"):
        suffix_radii([0.5], kernel=AbsorbingKernel(0.5), sigma=1.0, tau=0.1, verdict="maybe")
