"""Fields with an alphabet each: the ratio groups of a set of them, and how many sets may have to be tried."""

from typing import Any

import pytest

from holdfast.certificates import AbsorbingKernel, UniformKernel, answer
from holdfast.certificates.noise.ratios import product_groups, ratio_groups
from tests.certificates.asking import asked, counted

MIXED = (UniformKernel(0.3, 4), UniformKernel(0.7, 9), AbsorbingKernel(0.5), UniformKernel(1.0, 2))
ONE_NUMBER: dict[str, Any] = {
    "kernel": "uniform", "text": "l0", "tabular": True, "method": "neyman_pearson", "tails": 1, "epsilons": (0.1,),
}  # fmt: skip


def test_group_products_are_the_groups_of_more_tokens() -> None:
    kernel = UniformKernel(0.3, 7)
    assert product_groups([ratio_groups(kernel, 1)] * 3).clean == ratio_groups(kernel, 3).clean
    mixed = product_groups(ratio_groups(kernel, 1) for kernel in MIXED)
    assert sum(mixed.clean) == sum(mixed.adversarial) == 1
    assert list(mixed.log_ratio) == sorted(mixed.log_ratio)


@pytest.mark.parametrize(("kernel", "beta"), [("uniform", 0.3), ("absorbing", 0.6)])
def test_equal_fields_are_tokens(kernel: str, beta: float) -> None:
    fields = asked(**{**ONE_NUMBER, "kernel": kernel}, beta=beta, alphabets=(7, 7, 7))
    tokens = asked(kernel=kernel, beta=beta, alphabets=(7,), method="neyman_pearson", tails=1, epsilons=(0.1,))
    assert answer(fields, counted((900, 880))) == answer(tokens, counted((900, 880)))


def test_alphabets_too_small_for_their_rate_are_tried_set_by_set_up_to_a_limit_and_others_never() -> None:
    many = asked(**ONE_NUMBER, beta=0.99, alphabets=range(2, 18), max_tokens=8)
    with pytest.raises(ValueError, match=r"fields=. of kernels with 16 different rates make more than 1000 sets"):
        answer(many, counted((900, 880)))
    alike = asked(**ONE_NUMBER, beta=0.2, alphabets=range(5, 45), max_tokens=4)
    assert answer(alike, counted((9000, 9000))).worst_case[-1].at_least > 0.0
