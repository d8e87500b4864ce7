from typing import Any

import numpy as np
import pytest

from holdfast.certificates.noise.kernels import (
    AbsorbingKernel,
    SuffixDraws,
    UniformKernel,
    suffix_draws,
)
from holdfast.contract.guard.spec import Cell
from holdfast_worker.noise import cell_masks, replace_tokens


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
