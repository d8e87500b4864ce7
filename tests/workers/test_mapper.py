import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from holdfast_worker.denoisers.mapper import MapperShape, ResidualMapper

WIDTH, TOKENS = 8, 5


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(3, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained() -> ResidualMapper:
    """A mapper all of whose weights, the zeros too, have moved as far as training may move them."""
    torch.manual_seed(1)
    mapper = ResidualMapper(MapperShape(width=WIDTH)).eval()
    for parameter in mapper.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return mapper


def one_block(mapper: ResidualMapper) -> tuple[ResidualMapper, Any]:
    """A mapper of the first block alone, and that block."""
    mapper.blocks = mapper.blocks[:1]
    return mapper, mapper.blocks[0]


def test_at_sigma_zero_the_correction_is_exactly_zero(trained: ResidualMapper, tokens: Tensor) -> None:
    assert torch.equal(trained(tokens, 0.0), torch.zeros_like(tokens))


def test_the_correction_vanishes_as_sigma_does(trained: ResidualMapper, tokens: Tensor) -> None:
    sizes = [float(trained(tokens, 10.0**-power).detach().abs().max()) for power in range(5, 40, 5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-4 * sizes[0]


def test_training_on_the_identity_at_sigma_zero_gives_finite_gradients(trained: ResidualMapper, tokens: Tensor) -> None:
    trained(tokens, 0.0).square().sum().backward()
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in trained.parameters())


def test_a_fresh_mapper_hardly_touches_the_tokens(tokens: Tensor) -> None:
    correction = ResidualMapper(MapperShape(width=WIDTH))(tokens, 0.25)
    assert 0 < float(correction.detach().norm(dim=-1).max()) < 3 * 5e-4


def test_an_update_is_the_papers_formula(trained: ResidualMapper, tokens: Tensor) -> None:
    mapper, block = one_block(trained)
    sigma = 0.3
    normed = torch.nn.functional.layer_norm(tokens, (WIDTH,), block.norm.weight, block.norm.bias)
    h = block.attention(normed, normed, normed)[0] + block.mlp(normed) + 0.5 * convolved(block.convolution, normed)
    v = h / h.norm(dim=-1, keepdim=True)
    gain, bias = block.film(torch.tensor([sigma])).chunk(2)
    alpha = torch.log1p(block.amplitude(torch.tensor([sigma, math.log(sigma)])).exp())
    power = torch.log1p(block.exponent(torch.tensor([sigma])).exp())
    expected = ((1 + gain) * (v * alpha * sigma**power) + bias) * block.scale
    torch.testing.assert_close(mapper(tokens, sigma), expected)


def convolved(layer: Any, tokens: Tensor) -> Tensor:
    """The depthwise convolution over tokens, written out."""
    result: Tensor = torch.zeros_like(tokens) + layer.bias
    for position in range(TOKENS):
        for tap, neighbour in enumerate((position - 1, position, position + 1)):
            if 0 <= neighbour < TOKENS:
                result[:, position] += layer.weight[:, 0, tap] * tokens[:, neighbour]
    return result


def test_the_correction_is_the_sum_of_the_blocks_updates(trained: ResidualMapper, tokens: Tensor) -> None:
    sigma, refined = torch.full((3,), 0.2), tokens
    for block in trained.blocks:
        refined = refined + block(refined, sigma)
    torch.testing.assert_close(tokens + trained(tokens, 0.2), refined)


def test_only_the_first_of_three_blocks_has_attention() -> None:
    blocks = ResidualMapper(MapperShape(width=WIDTH)).blocks
    assert [block.attention is not None for block in blocks] == [True, False, False]


def test_each_image_has_its_own_sigma(trained: ResidualMapper, tokens: Tensor) -> None:
    sigmas = torch.tensor([0.0, 0.1, 0.7])
    alone = torch.cat([trained(one[None], float(sigma)) for one, sigma in zip(tokens, sigmas, strict=True)])
    torch.testing.assert_close(trained(tokens, sigmas), alone)


def test_one_token_is_enough(trained: ResidualMapper) -> None:
    assert trained(torch.randn(2, 1, WIDTH), 0.2).isfinite().all()


def test_tokens_of_half_precision_are_corrected_in_the_mappers_own(trained: ResidualMapper, tokens: Tensor) -> None:
    assert trained(tokens.bfloat16(), 0.2).dtype == torch.float32


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [({"heads": 3}, "heads=3 must divide width=8"), ({"kernel": 4}, "kernel=4 must be odd")],
)
def test_numbers_that_do_not_fit_each_other_are_refused(numbers: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        MapperShape(width=WIDTH, **numbers)
