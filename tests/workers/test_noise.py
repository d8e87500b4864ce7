import itertools
from typing import Any

import numpy as np
import pytest
import torch

from holdfast.certificates.noise.kernels import (
    BLOCK,
    AbsorbingKernel,
    SuffixDraws,
    UniformKernel,
    block_key,
    suffix_draws,
)
from holdfast.contract.guard.spec import Cell
from holdfast_worker.noise import cell_masks, gaussian, replace_tokens

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


def test_noise_is_the_same_however_the_range_is_cut() -> None:
    whole = gaussian("seed", 0, 3 * BLOCK, SHAPE, CPU)
    for start, stop in itertools.combinations([0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK], 2):
        assert torch.equal(gaussian("seed", start, stop, SHAPE, CPU), whole[start:stop])


def test_noise_is_standard_normal() -> None:
    noise = gaussian("seed", 0, 4096, SHAPE, CPU).flatten()
    n = noise.numel()
    # Six standard errors each: a false failure has probability below 1e-8.
    assert abs(noise.mean()) < 6 / n**0.5
    assert abs(noise.square().mean() - 1) < 6 * (2 / n) ** 0.5
    assert abs((noise > 2).float().mean() - 0.0227501) < 6 * (0.0227501 / n) ** 0.5


def test_draws_are_uncorrelated_within_and_between_blocks() -> None:
    noise = gaussian("seed", 0, 2 * BLOCK, (4096,), CPU)
    correlation = noise @ noise.T / 4096
    off = correlation - torch.diag(torch.diag(correlation))
    assert off.abs().max() < 6.5 / 4096**0.5


def test_each_seed_has_its_own_noise() -> None:
    assert not torch.equal(gaussian("a", 0, 1, SHAPE, CPU), gaussian("b", 0, 1, SHAPE, CPU))


def test_channels_of_one_seed_are_uncorrelated() -> None:
    noise = torch.cat(
        [
            gaussian("a", 0, 1, (4096,), CPU, channel=channel)
            for channel in ("image", "image/selection", "image/embedding")
        ]
    )
    off = torch.tril(noise @ noise.T / 4096, -1)
    assert 0 < off.abs().max() < 6.5 / 4096**0.5


def test_keys_that_agree_in_their_low_half_give_different_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    low = block_key("seed", "image", 0) & 0xFFFFFFFF
    drawn = []
    for high in (0, 1):
        monkeypatch.setattr("holdfast_worker.noise.block_key", lambda *_, high=high: low + (high << 32))
        drawn.append(gaussian("seed", 0, 1, SHAPE, CPU))
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (4, 2), (-1, 2)])
def test_an_empty_or_negative_range_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="0 <= start < stop"):
        gaussian("seed", start, stop, SHAPE, CPU)


def test_masked_slots_take_their_replacement_and_the_others_keep_their_token() -> None:
    masked = np.array([[[True, False]], [[False, True]]])
    draws = SuffixDraws(masked=masked, replacement=np.array([[0, 1], [2, 2]]))
    tokens = replace_tokens(draws, np.array([7, 8]), np.array([10, 20, 30]), None)
    assert tokens.tolist() == [[[10, 8]], [[7, 30]]]


def test_the_absorbing_kernel_writes_the_mask_token() -> None:
    draws = suffix_draws(AbsorbingKernel(1.0), slots=3, seed="s", start=0, stop=2)
    tokens = replace_tokens(draws, np.arange(3), np.array([9]), 99)
    assert tokens[:, -1].tolist() == [[99] * 3] * 2
    assert tokens[:, 0, 0].tolist() == [0, 0]


def test_the_absorbing_kernel_without_a_mask_token_is_refused() -> None:
    draws = suffix_draws(AbsorbingKernel(0.5), slots=2, seed="s", start=0, stop=1)
    with pytest.raises(ValueError, match="mask_token, which is null"):
        replace_tokens(draws, np.arange(2), np.array([9]), None)


def test_a_fully_masked_cell_is_uniform_on_the_alphabet() -> None:
    alphabet = np.array([5, 6, 9])
    draws = suffix_draws(UniformKernel(0.5, 3), slots=2, seed="s", start=0, stop=6000)
    tokens = replace_tokens(draws, np.array([5, 5]), alphabet, None)[:, -1]
    counts = np.array([(tokens == token).sum() for token in alphabet])
    # 12,000 uniform tokens: six standard deviations of a binomial count.
    assert np.abs(counts - 4000).max() < 6 * (12_000 * 2 / 9) ** 0.5


def test_cells_are_masked_as_the_certificates_own_draws_are_and_natural_noise_is_untouched() -> None:
    asked: dict[str, Any] = {"slots": 5, "seed": "s", "start": 3, "stop": 40}
    stated = suffix_draws(UniformKernel(0.5, 7), **asked, strata=3).masked
    natural = suffix_draws(UniformKernel(0.5, 7), **asked, strata=0).masked[:, 0]
    cells = [Cell(5, 0, False), Cell(5, 1, False), Cell(5, 2, False), Cell(5, 3, True), Cell(5, 0, True)]
    found = cell_masks(natural, cells)
    np.testing.assert_array_equal(found[:, :4], stated)
    np.testing.assert_array_equal(found[:, 4], natural)
