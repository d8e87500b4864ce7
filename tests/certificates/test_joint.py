"""Joint scores: their arithmetic, what they reach, and laws of the frontier; test_joint_attacks has the theorem."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from holdfast.certificates import (
    AbsorbingKernel,
    TokenKernel,
    UniformKernel,
    any_time_lower,
    append_radius,
    clopper_pearson_lower,
    joint_frontier,
)
from holdfast.certificates.bounds.counts import Bound
from holdfast.certificates.bounds.means import standing_lower
from holdfast.certificates.noise.kernels import cell_weights
from holdfast.certificates.shifts.joint import LEVELS, budget_shares, draw_scores, joint_shifts, risk_part, score_shift
from holdfast.certificates.shifts.mixtures import mean_mixture

Votes = NDArray[np.bool_]

ASKED: dict[str, Any] = {"kernel": AbsorbingKernel(0.25), "sigma": 1.0, "tau": 4.6e-5, "alpha": 0.01}
PUBLISHED = [7.22, 6.47, 5.62, 4.65, 3.46, 1.75]

kernels: st.SearchStrategy[TokenKernel] = st.one_of(
    st.builds(AbsorbingKernel, st.floats(1e-3, 1.0)), st.builds(UniformKernel, st.floats(0.01, 0.9), st.just(30))
)
votes = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5)))


def drawn(seed: int, draws: int, tails: int, cells: int, rate: float = 0.8) -> Votes:
    return np.random.default_rng(seed).random((draws, tails, cells)) < rate


def exact_scores(hits: Votes, kernel: TokenKernel, budget: int) -> list[Fraction]:
    """T of every draw, in rationals, from the kernel's own weights."""
    masked, last = Fraction(kernel.beta), hits.shape[2] - 1
    if isinstance(kernel, UniformKernel):
        masked = masked * kernel.alphabet_size / (kernel.alphabet_size - 1)
    law = [masked ** (k - budget) * (1 - masked if k < last else 1) for k in range(budget, last + 1)]
    shares = hits[:, :, budget:].sum(axis=1)
    tails = hits.shape[1]
    return [sum((w * Fraction(int(f), tails) for w, f in zip(law, row, strict=True)), Fraction(0)) for row in shares]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(hits=votes, kernel=kernels, data=st.data())
def test_scores_are_just_below_their_exact_value(hits: Votes, kernel: TokenKernel, data: st.DataObject) -> None:
    budget = data.draw(st.integers(0, hits.shape[2] - 1))
    scores = draw_scores(hits[:, :, budget:], cell_weights(kernel, hits.shape[2] - 1)[budget:])
    for score, exact in zip(scores.tolist(), exact_scores(hits, kernel, budget), strict=True):
        assert 0.0 <= Fraction(score) <= exact <= Fraction(score) + Fraction(1, 10**14)
        assert (score == 1.0) == (exact == 1)


def test_scores_stay_below_their_exact_value_where_weights_are_subnormal() -> None:
    hits = np.ones((1, 1, 4), dtype=bool)
    hits[0, 0, 2] = False
    kernel = AbsorbingKernel(1e-160)
    for budget in range(3):
        (score,) = draw_scores(hits[:, :, budget:], cell_weights(kernel, 3)[budget:])
        assert Fraction(float(score)) <= exact_scores(hits, kernel, budget)[0]


def test_scores_stay_below_their_exact_value_where_nothing_is_left_of_the_weights_last_digits() -> None:
    kernel = AbsorbingKernel(0.4)
    for budget in range(806, 814):
        for missed in range(budget, 814):
            hits = np.ones((1, 1, 814), dtype=bool)
            hits[0, 0, missed] = False
            (score,) = draw_scores(hits[:, :, budget:], cell_weights(kernel, 813)[budget:])
            assert Fraction(float(score)) <= exact_scores(hits, kernel, budget)[0]


def test_a_score_whose_loss_came_out_two_digits_too_small_is_below_its_exact_value() -> None:
    kernel, misses = AbsorbingKernel(0.5181342184625699), np.array([3, 0, 3, 3, 3, 0, 0, 0, 0])
    hits = np.arange(3)[None, :, None] >= misses
    (score,) = draw_scores(hits[:, :, 2:], cell_weights(kernel, 8)[2:])
    assert Fraction(float(score)) <= exact_scores(hits, kernel, 2)[0]


def test_steps_between_levels_are_exact() -> None:
    steps = np.diff(LEVELS, prepend=0.0).tolist()
    assert np.cumsum(list(map(Fraction, steps))).tolist() == list(map(Fraction, LEVELS))


@pytest.mark.parametrize("alpha", [0.1, 0.05, 0.01, 0.3 / 7])
def test_parts_of_a_risk_are_together_at_most_the_whole(alpha: float) -> None:
    for parts in range(1, 30):
        assert parts * Fraction(risk_part(alpha, Fraction(1, parts))) <= Fraction(alpha)
    assert risk_part(alpha, Fraction(1)) == alpha


def test_a_score_is_exactly_one_where_all_tails_hit_and_reaches_a_level_that_it_equals() -> None:
    for beta in np.linspace(0.001, 1.0, 97).tolist():
        weights = cell_weights(AbsorbingKernel(beta), 8)
        for budget in range(9):
            assert draw_scores(np.ones((1, 3, 9 - budget), dtype=bool), weights[budget:]).tolist() == [1.0]
    for tails in (1, 2, 3, 4, 6, 8, 24):
        hits = np.tri(tails, dtype=bool)[:, :, None]
        scores = draw_scores(hits, [0.37])
        assert np.count_nonzero(scores[:, None] >= np.array(LEVELS), axis=0).tolist() == [
            tails + 1 - max(1, -(-tails * level // 24)) for level in range(1, 25)
        ]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(hits=votes, more=st.integers(0, 10**6), kernel=kernels, bound=st.sampled_from(["any_time", "clopper_pearson"]))
def test_more_hits_never_lower_a_score_or_a_radius(hits: Votes, more: int, kernel: TokenKernel, bound: Bound) -> None:
    higher = hits.copy()
    higher.flat[more % hits.size] = True
    weights = cell_weights(kernel, hits.shape[2] - 1)
    assert np.all(draw_scores(higher, weights) >= draw_scores(hits, weights))
    asks: dict[str, Any] = {"kernel": kernel, "sigma": 0.7, "tau": 0.05, "alpha": 0.2, "bound": bound}
    pairs = zip(joint_frontier(hits, **asks), joint_frontier(higher, **asks), strict=True)
    assert all((below or 0.0) <= (above or 0.0) * (1 + 1e-9) for below, above in pairs)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from([0.5, 0.9, 1.0]), alpha=st.floats(1e-6, 0.4))
def test_a_frontier_falls_with_slots_rises_with_the_risk_and_does_not_see_the_order(
    seed: int, rate: float, alpha: float
) -> None:
    hits = drawn(seed, 60, 2, 4, rate)
    asks: dict[str, Any] = {"kernel": AbsorbingKernel(0.9), "sigma": 0.5, "tau": 0.1}
    frontier = [radius or 0.0 for radius in joint_frontier(hits, alpha=alpha, **asks)]
    assert frontier == sorted(frontier, reverse=True)
    shuffled = hits[np.random.default_rng(seed).permutation(60)]
    assert [radius or 0.0 for radius in joint_frontier(shuffled[:, ::-1], alpha=alpha, **asks)] == frontier
    assert all(
        low <= high for low, high in zip(
            [radius or 0.0 for radius in joint_frontier(hits, alpha=alpha / 3, **asks)], frontier, strict=True
        )
    )  # fmt: skip


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
def test_one_tail_of_one_cell_is_the_binomial_bound_at_the_whole_risk(bound: Bound) -> None:
    hits = drawn(3, 200, 1, 1, 0.9)
    lower = {"any_time": any_time_lower, "clopper_pearson": clopper_pearson_lower}[bound](int(hits.sum()), 200, 0.01)
    (budget,) = joint_shifts(hits, AbsorbingKernel(0.25), 0.01, bound)
    assert (budget.own.lower, budget.own.law) == (lower, None)
    asks: dict[str, Any] = {"sigma": 0.5, "tau": 0.1, "alpha": 0.01, "bound": bound}
    assert joint_frontier(hits, kernel=AbsorbingKernel(0.25), **asks) == [append_radius(int(hits.sum()), 200, **asks)]
    assert joint_frontier(hits, kernel=AbsorbingKernel(0.25), **asks)[0] == mean_mixture(lower).reach(0.1) * 0.5  # type: ignore[operator]


def test_the_mean_has_three_quarters_of_a_budgets_risk_and_the_law_the_rest() -> None:
    hits = drawn(5, 300, 3, 3)
    (first, second, third) = joint_shifts(hits, AbsorbingKernel(0.5), 0.04, "any_time", shares=(0.5, 0.25, 0.25))
    for budget, (entry, risk) in enumerate(zip((first, second, third), (0.02, 0.01, 0.01), strict=True)):
        scores = draw_scores(hits[:, :, budget:], cell_weights(AbsorbingKernel(0.5), 2)[budget:])
        assert entry.own.lower == standing_lower(scores, risk * 3 / 4)
        assert entry.own.law is not None
        assert entry.own.law.values.tolist() == list(LEVELS)
        reached = [int(np.count_nonzero(scores >= level)) for level in LEVELS]
        each = [any_time_lower(count, 300, risk / 4 / len(LEVELS)) for count in reached]
        assert entry.own.law.survival.tolist() == pytest.approx(each, rel=1e-12)
        assert entry.own.mass == 0.5**budget
        assert entry.own.at(0.3) == pytest.approx(
            max(entry.own.mass * mean_mixture(entry.own.lower).at(0.3), entry.own.mass * entry.own.law.shift.at(0.3)),
            rel=1e-12,
        )


def test_a_fixed_number_of_draws_has_the_same_bound_on_its_mean_and_its_own_at_the_levels() -> None:
    scores = draw_scores(drawn(6, 300, 4, 3), cell_weights(AbsorbingKernel(0.5), 2))
    found = score_shift(scores, 0.02, "clopper_pearson")
    assert found.lower == standing_lower(scores, 0.015)
    assert found.law is not None
    assert found.law.survival[6] == clopper_pearson_lower(int((scores >= LEVELS[6]).sum()), 300, 0.005 / 24)


def test_without_an_image_shift_the_mean_has_the_whole_risk() -> None:
    scores = draw_scores(drawn(7, 300, 4, 3), cell_weights(AbsorbingKernel(0.5), 2))
    found = score_shift(scores, 0.02, "any_time", imageless=True)
    assert found.law is None
    assert found.lower == standing_lower(scores, 0.02)
    assert found.lower > score_shift(scores, 0.02, "any_time").lower
    for budget in joint_shifts(drawn(7, 300, 4, 3), AbsorbingKernel(0.5), 0.02, "any_time", imageless=True):
        assert budget.own.law is None


def test_a_budget_is_served_by_the_best_of_the_larger_ones_and_needs_no_share_of_its_own() -> None:
    hits = drawn(8, 400, 2, 4, 0.95)
    alone = joint_shifts(hits, AbsorbingKernel(0.8), 0.01, "any_time", shares=(0.0, 0.0, 1.0, 0.0))
    assert [entry.own.lower > 0.0 for entry in alone] == [False, False, True, False]
    reaches = [entry.serves.reach(0.3) for entry in alone]
    assert reaches[0] == reaches[1] == reaches[2] == alone[2].own.reach(0.3) is not None
    assert reaches[3] is None


def test_a_reach_is_a_distance_at_which_the_bound_itself_passes_the_level() -> None:
    for seed in range(20):
        for entry in joint_shifts(drawn(seed, 100, 3, 4, 0.9), UniformKernel(0.7, 50), 0.05, "any_time"):
            reach = entry.serves.reach(0.05)
            assert reach is not None
            assert entry.serves.at(reach) > 0.05 >= entry.serves.at(reach * (1 + 1e-8))


@pytest.mark.parametrize("kernel", [AbsorbingKernel(0.25), UniformKernel(0.25, 10**6)])
@pytest.mark.parametrize("tails", [1, 4])
def test_with_all_votes_unsafe_it_reaches_the_published_frontier(kernel: TokenKernel, tails: int) -> None:
    for draws, whole_from, least in ((1000, 3, 0.86), (10_000, 1, 0.97)):
        frontier = joint_frontier(np.ones((draws, tails, 9), dtype=bool), **ASKED | {"kernel": kernel})
        for tokens, published in enumerate(PUBLISHED):
            radius = frontier[tokens]
            assert radius is not None
            assert radius >= published * (1.0 if tokens >= whole_from else least)
        assert frontier[7] is not None


def test_twenty_unsafe_draws_reach_what_the_page_says() -> None:
    asks: dict[str, Any] = {"sigma": 0.5, "tau": 4.6e-5, "alpha": 0.01}
    assert append_radius(20, 20, bound="clopper_pearson", **asks) == pytest.approx(2.37, abs=5e-3)
    assert append_radius(20, 20, **asks) == pytest.approx(2.31, abs=5e-3)
    assert append_radius(0, 20, **asks) is None
    assert append_radius(1, 3, **asks | {"tau": 0.9}) is None


def test_shares_are_of_sum_one_and_the_clean_text_has_five() -> None:
    assert budget_shares(1) == [1]
    for budgets in range(2, 12):
        shares = budget_shares(budgets)
        assert sum(shares) == 1
        assert shares[0] == 5 * shares[1]


def test_without_draws_nothing_is_certified() -> None:
    assert joint_frontier(np.zeros((0, 2, 3), dtype=bool), **ASKED) == [None] * 3
    assert joint_frontier(np.zeros((0, 2, 3), dtype=bool), **ASKED, bound="clopper_pearson") == [None] * 3
    assert joint_frontier(np.zeros((50, 2, 3), dtype=bool), **ASKED) == [None] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"votes": np.ones((5, 2, 3))}, r"votes of float64 \(5, 2, 3\) must be bool \(draws, tails, cells\)"),
        ({"votes": np.ones((5, 3), dtype=bool)}, r"votes of bool \(5, 3\) must be bool \(draws, tails, cells\)"),
        ({"votes": np.ones((5, 0, 3), dtype=bool)}, r"votes of bool \(5, 0, 3\) must be .* at least one tail"),
        ({"alpha": 1.0}, r"alpha=1\.0 must lie strictly between 0 and 1"),
        ({"sigma": 0.0}, r"sigma=0\.0 must be above 0"),
        ({"tau": 0.0}, r"tau=0\.0 must lie strictly between 0 and 1"),
        ({"bound": "betting"}, "bound='betting' must be one of any_time, clopper_pearson"),
        ({"kernel": UniformKernel(1.0, 9)}, r"beta=1\.0 must be at most \(V-1\)/V"),
    ],
)
def test_votes_and_values_outside_their_range_are_refused(change: dict[str, Any], message: str) -> None:
    question = ASKED | {"votes": np.ones((5, 2, 3), dtype=bool)} | change
    with pytest.raises(ValueError, match=message):
        joint_frontier(question.pop("votes"), **question)


def test_scores_shares_and_weights_that_contradict_each_other_are_refused() -> None:
    hits = np.ones((5, 2, 3), dtype=bool)
    with pytest.raises(ValueError, match=r"shares of number 2 and sum 1\.0 must be 3 of sum at most 1"):
        joint_shifts(hits, AbsorbingKernel(0.5), 0.1, "any_time", shares=(0.5, 0.5))
    with pytest.raises(ValueError, match=r"shares of number 3 and sum 1\.5 must be 3"):
        joint_shifts(hits, AbsorbingKernel(0.5), 0.1, "any_time", shares=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match=r"weights of shape \(2,\) must be one per cell of hits \(5, 2, 3\)"):
        draw_scores(hits, [0.5, 0.5])
    with pytest.raises(ValueError, match="scores between 0 and 1 must not be called binary"):
        score_shift([0.5], 0.1, "any_time", binary=True)
    with pytest.raises(ValueError, match=r"unsafe=2\.5"):
        append_radius(2.5, 5, sigma=1.0, tau=0.1, alpha=0.1)  # type: ignore[arg-type]
