import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from holdfast.certificates import (
    AbsorbingKernel,
    UniformKernel,
    cell_weights,
    neyman_pearson_value,
    suffix_radii,
    suffix_radius,
    suffix_value,
)
from tests.certificates import oracle, world

CELLS = st.lists(st.floats(0.0, 1.0 - 1e-9), min_size=1, max_size=9)
RATES = st.floats(0.01, 0.95)


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("absorbing", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_attack_beats_the_value_not_even_with_tokens_outside_the_alphabet(seed, absorbing, slots, size):
    rng = np.random.default_rng(seed)
    masked = float(rng.choice([0.2, 0.6, 0.9, 1.0]))
    here = world.random_world(rng, size=size, slots=slots, masked=masked, absorbing=absorbing)
    kernel = AbsorbingKernel(masked) if absorbing else UniformKernel(masked * (size - 1) / size, size)
    exact = np.clip([here.cell(k) for k in range(slots + 1)], 0.0, 1.0 - 1e-16)
    for d in range(slots + 1):
        for epsilon in (0.0, 0.4, 1.3):
            value = suffix_value(exact, kernel=kernel, tokens=d, epsilon=epsilon, sigma=1.0)
            assert value <= here.worst(d, epsilon) + 1e-13


def test_some_attack_comes_close_to_the_value():
    verdicts = np.zeros((4, 4, len(world.BINS) - 1))
    verdicts[0, 0, :5] = verdicts[3, :, :5] = 1.0
    here = world.World(verdicts, 2, 0.6, True)
    value = suffix_value(
        [here.cell(k) for k in range(3)], kernel=AbsorbingKernel(0.6), tokens=1, epsilon=1.0, sigma=1.0
    )
    assert value == pytest.approx(here.worst(1, 1.0), rel=1e-9)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(cells=CELLS, beta=RATES, epsilon=st.floats(0.0, 4.0), data=st.data())
def test_knowing_the_masks_never_proves_less_than_one_number(cells, beta, epsilon, data):
    kernel, slots = AbsorbingKernel(beta), len(cells) - 1
    tokens = data.draw(st.integers(0, slots))
    p = min(1.0, float(cell_weights(kernel, slots) @ cells))
    stratified = suffix_value(cells, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=1.0)
    single = neyman_pearson_value(p, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=1.0)
    assert stratified >= single - 1e-11


@settings(derandomize=True, max_examples=100, deadline=None)
@given(cells=CELLS, beta=RATES, epsilon=st.floats(0.0, 8.0), data=st.data())
def test_the_value_is_just_below_its_formula_in_fifty_digits(cells, beta, epsilon, data):
    tokens, mp = data.draw(st.integers(0, len(cells) - 1)), oracle.mp
    exact, slots = mp.mpf(0), len(cells) - 1
    for k in range(tokens, slots + 1):
        weight = mp.mpf(beta) ** k * (1 - mp.mpf(beta) if k < slots else 1)
        if cells[k] > 1e-25:  # a smaller one has no quantile in fifty digits, and no weight beside the margin
            quantile = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(cells[k]) - 1)
            exact += weight * mp.ncdf(quantile - mp.mpf(epsilon))
    value = suffix_value(cells, kernel=AbsorbingKernel(beta), tokens=tokens, epsilon=epsilon, sigma=1.0)
    assert exact * (1 - mp.mpf("1e-11")) <= value <= exact + mp.mpf("1e-24")


@settings(derandomize=True, max_examples=150, deadline=None)
@given(cells=CELLS, beta=RATES, tau=st.floats(1e-9, 0.9), sigma=st.floats(0.05, 4.0))
def test_every_radius_is_where_the_value_passes_the_threshold(cells, beta, tau, sigma):
    given_noise = {"kernel": AbsorbingKernel(beta), "sigma": sigma}
    radii = suffix_radii(cells, tau=tau, **given_noise)
    for tokens, radius in enumerate(radii):
        assert suffix_radius(cells, tokens=tokens, tau=tau, **given_noise) == radius
        if radius is None:
            assert suffix_value(cells, tokens=tokens, epsilon=0.0, **given_noise) <= tau * (1 + 1e-9)
        else:
            assert suffix_value(cells, tokens=tokens, epsilon=radius, **given_noise) > tau
            beyond = radius * (1 + 1e-8) + 1e-11
            assert suffix_value(cells, tokens=tokens, epsilon=beyond, **given_noise) <= tau


@settings(derandomize=True, max_examples=150, deadline=None)
@given(cells=CELLS, beta=RATES, epsilon=st.floats(0.0, 5.0), data=st.data())
def test_the_value_falls_with_either_budget_and_rises_with_every_cell(cells, beta, epsilon, data):
    def value(cells, tokens, epsilon):
        return suffix_value(cells, kernel=AbsorbingKernel(beta), tokens=tokens, epsilon=epsilon, sigma=1.0)

    tokens = data.draw(st.integers(0, len(cells) - 1))
    here = value(cells, tokens, epsilon)
    assert here >= value(cells, tokens, epsilon * 1.01 + 0.001)
    assert tokens == 0 or here <= value(cells, tokens - 1, epsilon)
    assert here <= value([min(0.999999999, q + 0.01) for q in cells], tokens, epsilon) + 1e-12


def test_one_cell_is_the_image_certificate():
    for kernel in (AbsorbingKernel(0.2), UniformKernel(1.0, 10)):
        radius = suffix_radius([0.97], kernel=kernel, tokens=0, sigma=0.5, tau=0.5)
        assert radius == pytest.approx(0.5 * norm.ppf(0.97), rel=1e-9)


def test_without_a_shift_the_weights_alone_decide():
    value = suffix_value([0.5, 0.9, 0.8], kernel=AbsorbingKernel(0.5), tokens=1, epsilon=0.0, sigma=3.0)
    assert value == pytest.approx(0.25 * 0.9 + 0.25 * 0.8, rel=1e-11)


def test_a_certain_cell_holds_at_every_radius_when_it_outweighs_the_threshold():
    kernel = AbsorbingKernel(0.5)
    assert suffix_radii([0.5, 1.0], kernel=kernel, sigma=1.0, tau=0.4) == [math.inf, math.inf]
    assert suffix_radii([0.5, 1.0], kernel=kernel, sigma=1.0, tau=0.6)[1] is None
    assert 0.0 < suffix_radii([0.5, 1.0], kernel=kernel, sigma=1.0, tau=0.6)[0] < 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": []}, r"lower=\[\] must hold one bound per cell"),
        ({"lower": [0.5, 1.5]}, r"lower\[1\]=1.5 must lie in \[0, 1\]"),
        ({"lower": [math.nan, 0.5]}, r"lower\[0\]=nan must be a finite real number"),
        ({"tokens": 3}, "tokens=3 must be at most the 2 slots that have cells; lower tokens"),
        ({"tokens": -1}, "tokens=-1 must be at least 0"),
        ({"epsilon": -0.5}, "epsilon=-0.5 must be at least 0"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0; raise sigma"),
        ({"kernel": UniformKernel(0.95, 10)}, r"beta=0.95 must be at most \(V-1\)/V=0.9 .*; lower beta"),
    ],
)
def test_values_outside_their_range_are_refused(change, message):
    question = {
        "lower": [0.9, 0.9, 0.9],
        "kernel": AbsorbingKernel(0.5),
        "tokens": 1,
        "epsilon": 0.1,
        "sigma": 1.0,
    } | change
    with pytest.raises(ValueError, match=message):
        suffix_value(question.pop("lower"), **question)
