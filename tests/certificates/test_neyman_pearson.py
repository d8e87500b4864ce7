import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from holdfast.certificates import (
    AbsorbingKernel,
    UniformKernel,
    neyman_pearson_radius,
    neyman_pearson_value,
)
from holdfast.certificates.noise.kernels import TokenKernel
from tests.certificates import oracle, worlds

Rows = list[tuple[dict[str, Any], TokenKernel]]

GOLDEN = Path(__file__).parent / "golden"


def kernel_of(beta: float, size: int | None) -> TokenKernel:
    return AbsorbingKernel(beta) if size is None else UniformKernel(beta, size)


@pytest.fixture(params=["uniform", "absorbing"])
def rows(request: pytest.FixtureRequest) -> Rows:
    """The rows of a golden table, see its README, and their kernels."""
    table = json.loads((GOLDEN / f"{request.param}.json").read_text("utf-8"))
    return [(row, kernel_of(row["beta"], row["V"])) for row in table]


def test_golden_radii_are_met_from_below(rows: Rows) -> None:
    for row, kernel in rows:
        radius = neyman_pearson_radius(row["pA"], kernel=kernel, tokens=row["d"], sigma=row["sigma"], tau=row["tau"])
        exact = Decimal(row["r_star"])
        assert (radius is None) == (exact == 0), row
        assert radius is None or exact * (1 - Decimal("1e-9")) <= Decimal(radius) <= exact, row


def test_golden_knapsacks_are_met(rows: Rows) -> None:
    for row, kernel in rows:
        value = neyman_pearson_value(row["pA"], kernel=kernel, tokens=row["d"], epsilon=0, sigma=row["sigma"])
        assert value == pytest.approx(float(row["knapsack_value"]), rel=1e-14, abs=1e-15), row


def random_questions(seed: int, count: int) -> Iterator[tuple[int | None, float, int, float, float]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size = [None, 2, 3, 42, 151000][rng.integers(5)]
        beta = float([0.05, 0.25, 0.5, 0.9, 1.0, rng.random()][rng.integers(6)])
        p = float([rng.random(), 1 - 10 ** rng.uniform(-12, -1), 10 ** rng.uniform(-9, -1)][rng.integers(3)])
        tau = float([0.5, 4.6e-5, 1e-12][rng.integers(3)])
        yield size, beta, int(rng.integers(13)), p, tau


@pytest.mark.slow
def test_values_are_met_from_below_at_random_questions() -> None:
    for size, beta, tokens, p, _ in random_questions(1, 16):
        pairs = oracle.token_pairs(beta, size, tokens)
        for shift in (1e-6, 0.3, 2.0):
            value = neyman_pearson_value(p, kernel=kernel_of(beta, size), tokens=tokens, epsilon=shift, sigma=1.0)
            exact = oracle.neyman_pearson(p, pairs, shift)
            assert exact * (1 - oracle.mp.mpf("1e-9")) - 1e-15 <= value <= exact, (size, beta, tokens, p, shift)


@pytest.mark.slow
def test_radii_are_met_from_below_at_random_questions() -> None:
    certified = 0
    for size, beta, tokens, p, tau in random_questions(2, 36):
        radius = neyman_pearson_radius(p, kernel=kernel_of(beta, size), tokens=tokens, sigma=1.0, tau=tau)
        pairs = oracle.token_pairs(beta, size, tokens)
        if radius is None:
            assert oracle.knapsack(p, pairs) <= tau * (1 + 1e-14)
            continue
        certified += 1
        beyond = oracle.mp.mpf(radius) * (1 + oracle.mp.mpf("1e-9"))
        assert oracle.neyman_pearson(p, pairs, radius) > tau >= oracle.neyman_pearson(p, pairs, beyond)
    assert certified >= 12


@pytest.mark.parametrize("kernel", [UniformKernel(0.25, 100), AbsorbingKernel(0.5), UniformKernel(1.0, 3)])
@pytest.mark.parametrize("p", [1e-6, 0.3, 0.9, 1 - 1e-9])
def test_without_tokens_the_image_certificate_is_left(kernel: TokenKernel, p: float) -> None:
    value = neyman_pearson_value(p, kernel=kernel, tokens=0, epsilon=0.6, sigma=0.5)
    radius = neyman_pearson_radius(p, kernel=kernel, tokens=0, sigma=0.5, tau=1e-7)
    assert value == pytest.approx(norm.cdf(norm.ppf(p) - 1.2), rel=1e-12)
    assert radius == pytest.approx(0.5 * (norm.ppf(p) - norm.ppf(1e-7)), rel=1e-9)


@pytest.mark.parametrize("p", [0.2, 0.87, 0.9, 0.999])
@pytest.mark.parametrize("shift", [0.0, 0.4, 1.7])
def test_the_absorbing_kernel_has_its_closed_form(p: float, shift: float) -> None:
    value = neyman_pearson_value(p, kernel=AbsorbingKernel(0.5), tokens=3, epsilon=shift, sigma=1.0)
    share = max(0.0, (p - (1 - 0.5**3)) / 0.5**3)
    exact = 0.5**3 * norm.cdf(norm.ppf(share) - shift)
    assert value == pytest.approx(exact, rel=1e-11, abs=1e-300)


@pytest.mark.parametrize("kernel", [UniformKernel(0.3, 5), UniformKernel(1.0, 5), AbsorbingKernel(0.4)])
def test_a_vanishing_shift_meets_the_knapsack(kernel: TokenKernel) -> None:
    limit = neyman_pearson_value(0.99, kernel=kernel, tokens=2, epsilon=0.0, sigma=1.0)
    for epsilon in (1e-300, 1e-15, 1e-9):
        near = neyman_pearson_value(0.99, kernel=kernel, tokens=2, epsilon=epsilon, sigma=1.0)
        assert limit * (1 - 1e-6) <= near <= limit


@pytest.mark.parametrize("beta", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("absorbing", [False, True])
@pytest.mark.parametrize("size", [3, 4])
def test_no_attack_in_a_small_world_beats_the_value(size: int, beta: float, absorbing: bool) -> None:
    masked = beta if absorbing else beta * size / (size - 1)  # above 1 too: the law of a token stays a law
    rng = np.random.default_rng(size)
    here = worlds.random_worlds(rng, count=40, sizes=(size,) * 2, chances=(masked,) * 2, absorbing=absorbing)
    kernel = kernel_of(beta, None if absorbing else size)
    for tokens in (0, 1, 2):
        for epsilon in (0.0, 0.5, 1.5):
            asks: dict[str, Any] = {"kernel": kernel, "tokens": tokens, "epsilon": epsilon, "sigma": 1.0}
            values = np.array([neyman_pearson_value(p, **asks) for p in here.covered(())])
            assert (values <= here.extreme_l0(tokens, epsilon, outside=False) + 1e-12).all()


def test_certainty_is_certified_at_every_radius() -> None:
    kernel = UniformKernel(0.5, 4)
    assert neyman_pearson_value(1.0, kernel=kernel, tokens=3, epsilon=9.0, sigma=1.0) == 1.0
    assert neyman_pearson_radius(1.0, kernel=kernel, tokens=3, sigma=1.0, tau=0.5) == math.inf
    assert neyman_pearson_radius(1.0, kernel=AbsorbingKernel(0.5), tokens=3, sigma=1.0, tau=0.5) is None


@pytest.mark.parametrize("p", [0.0, 1e-320, 1e-12])
def test_a_clean_probability_below_the_threshold_is_not_certified(p: float) -> None:
    kernel = UniformKernel(0.5, 4)
    assert neyman_pearson_radius(p, kernel=kernel, tokens=0, sigma=1.0, tau=1e-3) is None
    assert neyman_pearson_value(p, kernel=kernel, tokens=0, epsilon=1.0, sigma=1.0) <= p


@pytest.mark.parametrize("p", [5e-324, 1e-20, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("tokens", [0, 3, 16])
def test_the_ends_of_the_float_range_stay_within_the_bounds(p: float, tokens: int) -> None:
    kernel = UniformKernel(0.5, 151000)
    for epsilon, sigma in [(5e-324, 1.0), (1e308, 1e-300), (40.0, 1.0), (1e-300, 1e5)]:
        value = neyman_pearson_value(p, kernel=kernel, tokens=tokens, epsilon=epsilon, sigma=sigma)
        assert 0.0 <= value <= p
    for tau in (5e-324, 1e-300, 1 - 2**-53):
        radius = neyman_pearson_radius(p, kernel=kernel, tokens=tokens, sigma=1.0, tau=tau)
        assert radius is None or 0.0 < radius < 100.0


def test_full_corruption_never_beats_the_image_certificate() -> None:
    image = neyman_pearson_radius(0.9, kernel=UniformKernel(1.0, 30000), tokens=0, sigma=1.0, tau=4.6e-5)
    hybrid = neyman_pearson_radius(0.9, kernel=UniformKernel(1.0, 30000), tokens=8, sigma=1.0, tau=4.6e-5)
    assert 0.0 < (hybrid or 0.0) < (image or 0.0) < 5.2


QUESTIONS: dict[str, Any] = {
    "p": st.floats(1e-6, 1 - 1e-9),
    "beta": st.floats(0.01, 0.9),
    "size": st.sampled_from([None, 2, 3, 1000]),
    "tokens": st.integers(0, 7),
    "epsilon": st.floats(0.0, 5.0),
}


@settings(derandomize=True, max_examples=150, deadline=None)
@given(**QUESTIONS)
def test_the_value_falls_with_either_budget_and_rises_with_p(
    p: float, beta: float, size: int | None, tokens: int, epsilon: float
) -> None:
    def value(p: float, tokens: int, epsilon: float) -> float:
        return neyman_pearson_value(p, kernel=kernel_of(beta, size), tokens=tokens, epsilon=epsilon, sigma=1.0)

    here, rounding = value(p, tokens, epsilon), 1e-12
    assert 0.0 <= here <= p
    assert value(p, tokens + 1, epsilon) <= here + rounding
    assert value(p, tokens, epsilon + 0.01) <= here + rounding
    assert value(p * 0.99, tokens, epsilon) <= here + rounding


@settings(derandomize=True, max_examples=100, deadline=None)
@given(**{name: QUESTIONS[name] for name in ("p", "beta", "size", "tokens")}, tau=st.floats(1e-9, 0.9))
def test_the_radius_is_where_the_value_passes_the_threshold(
    p: float, beta: float, size: int | None, tokens: int, tau: float
) -> None:
    kernel = kernel_of(beta, size)
    radius = neyman_pearson_radius(p, kernel=kernel, tokens=tokens, sigma=2.0, tau=tau)
    if radius is None:
        assert neyman_pearson_value(p, kernel=kernel, tokens=tokens, epsilon=0.0, sigma=2.0) <= tau
    else:
        reach: dict[str, Any] = {"kernel": kernel, "tokens": tokens, "sigma": 2.0}
        assert neyman_pearson_value(p, epsilon=radius, **reach) > tau
        assert neyman_pearson_value(p, epsilon=radius * (1 + 1e-8), **reach) <= tau
        wider = neyman_pearson_radius(p, kernel=kernel, tokens=tokens + 1, sigma=2.0, tau=tau)
        assert wider is None or wider <= radius * (1 + 1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"p_lower": -0.1},
        {"p_lower": 1.1},
        {"p_lower": math.nan},
        {"p_lower": True},
        {"tokens": -1},
        {"tokens": 1.5},
        {"tokens": True},
        {"sigma": 0.0},
        {"sigma": -1.0},
        {"sigma": math.inf},
        {"tau": 0.0},
        {"tau": 1.0},
        {"tau": math.nan},
        {"epsilon": -0.1},
        {"epsilon": math.nan},
    ],
)
def test_values_outside_their_range_are_refused_by_name(change: dict[str, Any]) -> None:
    (name,) = change
    question: dict[str, Any] = {"p_lower": 0.9, "kernel": AbsorbingKernel(0.5), "tokens": 2, "sigma": 1.0} | change
    question |= {} if name == "epsilon" else {"tau": question.get("tau", 0.1)}
    neyman_pearson_value(0.9, kernel=AbsorbingKernel(0.5), tokens=1, epsilon=0.1, sigma=1.0)  # equal to True, and known
    certify: Callable[..., object] = neyman_pearson_value if name == "epsilon" else neyman_pearson_radius
    with pytest.raises(ValueError, match=f"{name}=.* must .*; "):
        certify(**question)


@pytest.mark.parametrize("tokens", [17, 25])
def test_a_value_near_the_smallest_floats_is_met_from_below(tokens: int) -> None:
    # The group that p_A cuts has a ratio of 2^-40 a token: its logarithm is -693 at 25.
    kernel, p, shift = UniformKernel(2.0**-40, 2), 1 - 1e-9, 6.0
    value = neyman_pearson_value(p, kernel=kernel, tokens=tokens, epsilon=shift, sigma=1.0)
    exact = oracle.neyman_pearson(p, oracle.token_pairs(2.0**-40, 2, tokens), shift)
    assert exact * (1 - oracle.mp.mpf("1e-9")) <= value <= exact


@pytest.mark.parametrize("p", [0.9375, 1.0])
def test_a_value_that_only_equals_the_threshold_is_not_certified(p: float) -> None:
    # What masks cover of p: 1/8 of everything, or half of that.
    left = p - 0.875
    kernel = AbsorbingKernel(0.5)
    assert neyman_pearson_value(p, kernel=kernel, tokens=3, epsilon=0.0, sigma=1.0) == left
    assert neyman_pearson_radius(p, kernel=kernel, tokens=3, sigma=1.0, tau=left) is None
    certified = neyman_pearson_radius(p, kernel=kernel, tokens=3, sigma=1.0, tau=left * 0.99)
    assert certified is not None
    assert (certified == math.inf) == (p == 1.0)
