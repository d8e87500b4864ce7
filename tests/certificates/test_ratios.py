import math
from collections import defaultdict
from fractions import Fraction
from itertools import product

import pytest

from holdfast.certificates import AbsorbingKernel, UniformKernel
from holdfast.certificates.noise.kernels import TokenKernel
from holdfast.certificates.noise.ratios import RatioGroups, product_groups, ratio_groups

BETAS = [0.1, 0.5, 0.9, 1.0]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("size", "tokens"), [(2, 3), (3, 1), (3, 4), (4, 3), (5, 2)])
def test_ratio_groups_are_those_of_every_string(beta: float, size: int, tokens: int) -> None:
    rate = Fraction(beta)
    masses: defaultdict[Fraction | float, list[Fraction]] = defaultdict(lambda: [Fraction(0), Fraction(0)])
    for string in product(range(size), repeat=tokens):
        sides = []
        for origin in (0, 1):
            changed = sum(token != origin for token in string)
            sides.append((rate / (size - 1)) ** changed * (1 - rate) ** (tokens - changed))
        if any(sides):
            ratio = sides[1] / sides[0] if sides[0] else math.inf
            masses[ratio] = [total + side for total, side in zip(masses[ratio], sides, strict=True)]
    groups = ratio_groups(UniformKernel(beta, size), tokens)
    assert [[*pair] for pair in zip(groups.clean, groups.adversarial, strict=True)] == [
        masses[ratio] for ratio in sorted(masses)
    ]


def test_log_ratios_span_a_hundred_without_underflow() -> None:
    groups = ratio_groups(UniformKernel(0.25, 151000), 8)
    step = math.log(0.25 / 150999 / 0.75)
    assert groups.log_ratio == pytest.approx([k * -step for k in range(-8, 9)], rel=1e-14)
    assert groups.log_ratio[-1] > 100


@pytest.mark.parametrize("kernel", [AbsorbingKernel(0.3), UniformKernel(0.3, 9), UniformKernel(1.0, 9)])
@pytest.mark.parametrize("tokens", [0, 1, 5, 16])
def test_group_masses_sum_to_one_exactly(kernel: TokenKernel, tokens: int) -> None:
    groups = ratio_groups(kernel, tokens)
    assert sum(groups.clean) == sum(groups.adversarial) == 1
    assert list(groups.log_ratio) == sorted(groups.log_ratio)


def test_impossible_strings_have_infinite_ratios_at_full_corruption() -> None:
    groups = ratio_groups(UniformKernel(1.0, 5), 2)
    assert groups.log_ratio == (-math.inf, 0.0, math.inf)
    assert groups.clean == (Fraction(7, 16), Fraction(9, 16), Fraction(0))
    assert groups.adversarial == (Fraction(0), Fraction(9, 16), Fraction(7, 16))


@pytest.mark.parametrize("beta", [0.25, 0.3, 1.0])
@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_an_absorbing_kernel_leaves_what_is_masked_and_parts_the_rest(beta: float, tokens: int) -> None:
    overlap = Fraction(beta) ** tokens
    groups = ratio_groups(AbsorbingKernel(beta), tokens)
    parted = [] if overlap == 1 else [1 - overlap]
    assert groups.clean == (*parted, overlap, *(0 for _ in parted))
    assert groups.adversarial == (*(0 for _ in parted), overlap, *parted)
    assert groups.log_ratio == (*(-math.inf for _ in parted), 0.0, *(math.inf for _ in parted))


def test_an_alphabet_of_two_at_the_rate_of_one_half_tells_nothing() -> None:
    assert ratio_groups(UniformKernel(0.5, 2), 3) == RatioGroups((Fraction(1),), (Fraction(1),), (0.0,))


@pytest.mark.parametrize("tokens", [-1, 1.5, True])
def test_tokens_that_are_no_number_of_positions_are_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match=r"tokens=.* must"):
        ratio_groups(AbsorbingKernel(0.3), tokens)


@pytest.mark.parametrize("kernel", [UniformKernel(0.3, 5), UniformKernel(1.0, 5), AbsorbingKernel(0.4)])
def test_the_product_of_single_positions_is_the_kernel_of_all(kernel: AbsorbingKernel | UniformKernel) -> None:
    found, whole = product_groups([ratio_groups(kernel, 1)] * 3), ratio_groups(kernel, 3)
    assert (found.clean, found.adversarial) == (whole.clean, whole.adversarial)
    assert found.log_ratio == pytest.approx(whole.log_ratio, rel=1e-14)


def test_a_product_merges_equal_ratios_and_forgets_what_neither_side_makes() -> None:
    half = Fraction(1, 2)
    part = RatioGroups((half, half, Fraction(0)), (Fraction(1, 4), Fraction(3, 4), Fraction(0)), (-0.7, 0.4, 9.0))
    mirrored = RatioGroups((Fraction(1, 4), Fraction(3, 4)), (half, half), (0.7, -0.4))
    found = product_groups([part, mirrored])
    assert len(found.clean) == 3
    assert sum(found.clean) == sum(found.adversarial) == 1
    ratios = [a / c for c, a in zip(found.clean, found.adversarial, strict=True)]
    assert ratios == sorted(ratios) == [Fraction(1, 3), 1, 3]
    assert found.log_ratio == pytest.approx([-1.1, 0.0, 1.1], abs=1e-12)


def test_the_product_of_no_parts_is_certain() -> None:
    assert product_groups([]) == RatioGroups((Fraction(1),), (Fraction(1),), (0.0,))
