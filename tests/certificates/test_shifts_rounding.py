"""Margins of shifts and of what is read off them, each by inputs that need it: exactly, in rationals or Arb balls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import mpmath as mp
import numpy as np
import pytest
from scipy.special import ndtri

from holdfast.certificates import AbsorbingKernel, UniformKernel, neyman_pearson_value
from holdfast.certificates.features.averages import mean_of_draws_lower
from holdfast.certificates.features.prototypes import cap_reach, prototype_condition_reach
from holdfast.certificates.features.similarity import FeatureBound, feature_radius_of
from holdfast.certificates.noise.kernels import TokenKernel, mask_probability
from holdfast.certificates.noise.ratios import RatioGroups, ratio_groups
from holdfast.certificates.shifts.covers import cover_shifts
from holdfast.certificates.shifts.mixtures import Mixture, event_mixture, mean_mixture
from holdfast.certificates.shifts.neyman_pearson import worst_classifier
from holdfast.certificates.shifts.scores import rank_shares
from holdfast.certificates.shifts.shift import Least, Shift
from tests.certificates import balls
from tests.certificates.shifted import law

STATED = flint.arb(2e-6)


@dataclass(frozen=True)
class Line:
    """A shift of a known value, which reaches as far as the level that it is asked for."""

    value: float = 0.0

    def at(self, t: float) -> float:
        return self.value

    def reach(self, level: float) -> float | None:
        return level


def exact_value(weights: Sequence[float], quantiles: Sequence[float], t: float) -> flint.arb:
    return sum(
        (flint.arb(w) * balls.phi(flint.arb(q) - t) for w, q in zip(weights, quantiles, strict=True)), flint.arb(0)
    )


def exact_quantile(probability: float) -> mp.mpf:
    return mp.sqrt(2) * mp.erfinv(2 * mp.mpf(probability) - 1)


def test_a_mixture_starts_from_quantiles_below_the_exact_ones() -> None:
    rng = np.random.default_rng(11)
    with mp.workdps(60):
        for lower in [*rng.random(60).tolist(), *(1 - 10 ** -rng.uniform(3, 12, size=20)).tolist()]:
            exact = exact_quantile(lower)
            for mixture in (mean_mixture(lower), event_mixture(0.5, lower), law([1.0], [lower]).shift):
                (found,) = mixture.quantiles.tolist()
                assert exact - mp.mpf("1e-13") <= found <= exact


@pytest.mark.parametrize("parts", [1, 3, 110])
@pytest.mark.parametrize("t", [0.0, 0.7, 12.0, 30.0])
def test_a_mixture_is_below_its_exact_sum_and_close_to_it(parts: int, t: float) -> None:
    rng = np.random.default_rng(parts)
    for _ in range(40):
        weights, quantiles = rng.dirichlet(np.ones(parts)) * (1 - 2**-50), rng.normal(size=parts)
        exact, value = exact_value(weights.tolist(), quantiles.tolist(), t), Mixture(weights, quantiles).at(t)
        assert exact * (1 - flint.arb(1e-11)) <= value <= exact


def test_a_sum_whose_every_addition_rounds_up_stays_below_the_exact_one() -> None:
    # Of so many parts some are added to each running sum, however many a machine keeps: each adds half a unit too much.
    parts, lanes = 2**15, 64
    weights = np.full(parts, 2.0**-6 * 2.0**-53 * (1 + 2.0**-20))
    weights[:lanes] = 2.0**-7
    nearest, exact = float(weights @ np.ones(parts)), sum(map(Fraction, weights.tolist()), Fraction(0))
    assert Fraction(nearest) > exact * (1 + Fraction(1, 2**48))
    assert Fraction(Mixture(weights, np.full(parts, np.inf)).at(0.0)) <= exact
    assert Fraction(Mixture(weights, np.full(parts, np.inf)).at(math.inf)) <= exact


@pytest.mark.parametrize("t", [0.0, 0.3, 2.0, 9.0])
def test_a_kept_survival_is_below_the_exact_one(t: float) -> None:
    # Near 1 the quantile's own margin moves nothing.
    rng = np.random.default_rng(10)
    with mp.workdps(60):
        for kept in [*rng.random(60).tolist(), *(1 - 10 ** -rng.uniform(3, 12, size=40)).tolist()]:
            exact = mp.ncdf(exact_quantile(kept) - mp.mpf(t))
            (found,) = law([1.0], [kept]).survival_at(t)
            assert exact * (1 - mp.mpf("1e-11")) <= found <= exact


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1e-3, 0.1 / 7])
def test_the_ranks_never_share_more_than_the_whole_risk(alpha: float) -> None:
    for ranks in range(1, 130):
        shared = sum(map(Fraction, rank_shares(alpha, ranks).tolist()), Fraction(0))
        assert Fraction(alpha) * (1 - Fraction(1, 10**12)) <= shared <= Fraction(alpha)


@pytest.mark.parametrize("apart", [False, True])
def test_the_mass_of_a_cover_is_below_the_exact_product_of_its_chances(apart: bool) -> None:
    rng = np.random.default_rng(7)
    for size in rng.integers(2, 40, size=60):
        kernels = [UniformKernel(0.4 + 0.01 * k * apart, int(size) + k * apart) for k in range(4)]
        chances = np.array([mask_probability(kernel) for kernel in kernels])
        exact = [Fraction(k.beta) * k.alphabet_size / (k.alphabet_size - 1) for k in kernels]
        masks, hits = np.ones((50, 4), dtype=np.bool_), np.ones(50, dtype=np.bool_)
        found = cover_shifts(masks, hits, mask_probability=chances, alpha=0.1, max_tokens=4)
        assert Fraction(mass(found[0])) == 1
        assert 0 <= 1 - Fraction(mass(found[4])) / math.prod(exact) <= Fraction(1, 10**14)


def mass(shift: Shift) -> float:
    assert isinstance(shift, Least)
    (part,) = shift.parts
    assert isinstance(part, Mixture)
    return float(part.weights[0])


@pytest.mark.parametrize("draws", [33, 63])
def test_a_score_just_below_a_level_of_the_grid_is_not_counted_there(draws: int) -> None:
    # Of 2080 levels those just below the middle are coarser floats than their scores, and lose nothing further.
    levels = 2**17 // draws
    for level in range(levels // 2 - 15, levels // 2 + 40):
        score = math.nextafter(level / levels, 0.0)
        lower = mean_of_draws_lower(law([score], [1.0]), draws=draws, t=0.0, alpha=0.05)
        assert Fraction(lower) <= 2 * Fraction(score) - 1


def test_an_inner_product_is_below_that_of_its_score_and_a_floors_level_above_its_own() -> None:
    rng = np.random.default_rng(8)
    for value in [0.5 - 2.0**-60, 0.1, 0.3, *rng.random(200).tolist()]:
        assert Fraction(FeatureBound.at(Line(value), 0.0).inner_product) <= 2 * Fraction(value) - 1
        level = feature_radius_of(Line(), value, 1.0)
        assert level is not None
        assert 2 * Fraction(level) - 1 >= Fraction(value)


@pytest.mark.parametrize("near", [0.02, 0.3, 1.0])
def test_the_level_of_an_angle_is_above_the_exact_one(near: float) -> None:
    rng, found = np.random.default_rng(9), 0
    for _ in range(150):
        vectors = rng.normal(size=(4, 6))
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        u = vectors[0] + near * rng.normal(size=6)
        cosines = (vectors @ (u / np.linalg.norm(u))).tolist()
        distances = np.linalg.norm(vectors[0] - vectors, axis=1).tolist()
        own = flint.arb(cosines[0]) - STATED
        angles, halves = [], []
        for cosine, apart in zip(cosines[1:], distances[1:], strict=True):
            rival = flint.arb(cosine) + STATED
            halves.append((rival.acos() - own.acos()) / 2)
            sine = (own - rival) / (flint.arb(apart) + STATED)
            angles.append(max(sine.asin(), halves[-1], key=float))
        for level, angle in (
            (prototype_condition_reach(Line(), cosines, 0), min(halves, key=float)),
            (cap_reach(Line(), cosines, distances, 0), min(angles, key=float)),
        ):
            if level is not None:
                found += 1
                exact = (1 + angle.cos()) / 2
                assert exact <= level <= exact + 1e-13
    assert found > 50


@pytest.mark.parametrize("kernel", [AbsorbingKernel(0.9), UniformKernel(0.3, 5)])
def test_a_worst_classifiers_masses_are_rounded_to_the_side_that_harms_us(kernel: TokenKernel) -> None:
    groups, rng, unit = ratio_groups(kernel, 2), np.random.default_rng(12), Fraction(1, 2**52)
    for p in [*rng.uniform(0.2, 0.5, size=100).tolist(), *rng.uniform(0.5, 1.0, size=100).tolist()]:
        worst, left = worst_classifier(p, groups), Fraction(p)
        included = left - sum(c for c, a in zip(groups.clean, groups.adversarial, strict=True) if not a)
        assert included * (1 - unit) <= Fraction(worst.included) <= included
        assert 1 - Fraction(p) <= Fraction(worst.excluded) <= (1 - Fraction(p)) * (1 + unit)
        knapsack = Fraction(0)
        for clean, adversarial in zip(groups.clean, groups.adversarial, strict=True):
            taken = min(left, clean)
            knapsack += adversarial * taken / clean if taken else 0
            left -= taken
        assert knapsack * (1 - unit) <= Fraction(worst.knapsack) <= knapsack


@pytest.mark.parametrize("t", [0.5, 25.0, 30.0, 34.0])
def test_a_value_far_in_the_tail_is_below_the_exact_one(t: float) -> None:
    # There the last digit of the argument moves the value by hundreds of its own.
    rng = np.random.default_rng(13)
    with mp.workdps(60):
        for p, further in zip(rng.uniform(0.75, 0.99, size=30).tolist(), rng.random(30).tolist(), strict=True):
            shift = t + further
            value = neyman_pearson_value(p, kernel=AbsorbingKernel(0.5), tokens=0, epsilon=shift, sigma=1.0)
            exact = mp.ncdf(exact_quantile(p) - mp.mpf(shift))
            assert exact * (1 - mp.mpf("1e-10")) <= value <= exact


@pytest.mark.parametrize(("held", "kept"), [(0.2625, 0.2375), (0.7625, 0.475)])
def test_a_worst_classifiers_sums_of_many_groups_are_taken_against_us(held: float, kept: float) -> None:
    # All of ratio 1, so that Phi(y - s) is left of Phi(y). Times a `kept` whose leading digits are 1.9 each small mass
    # rounds its running sum up, by half a unit, however many sums a machine keeps; times those of 1.05 it is lost.
    masses = (Fraction(1, 2**7),) * 64 + (Fraction(35, 2**65),) * 2**15
    groups, whole = RatioGroups(clean=masses, adversarial=masses, log_ratio=(0.0,) * len(masses)), sum(masses)
    p = float(1 - whole + Fraction(held) * whole)
    t = float(ndtri(held) - ndtri(kept))
    with mp.workdps(60):
        share = (Fraction(p) - 1 + whole) / whole
        y = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(share.numerator) / share.denominator - 1)
        exact = mp.ncdf(y - mp.mpf(t)) * whole.numerator / whole.denominator
        assert exact * (1 - mp.mpf("1e-9")) <= worst_classifier(p, groups).at(t) <= exact
