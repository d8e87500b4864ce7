import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chi2

from holdfast.certificates import AbsorbingKernel, UniformKernel, field_draws, suffix_draws
from holdfast.certificates.noise.kernels import BLOCK, TokenKernel, _events, block_key, cell_weights, mask_probability

NEVER = 1e-9  # false-failure probability of a statistical test


@pytest.mark.parametrize("beta", [0.0, -0.1, 1.1, math.nan, math.inf, True, "0.5", None])
def test_a_rate_outside_its_range_is_refused(beta: Any) -> None:
    with pytest.raises(ValueError, match="beta="):
        AbsorbingKernel(beta)
    with pytest.raises(ValueError, match="beta="):
        UniformKernel(beta, 10)


@pytest.mark.parametrize("size", [1, 0, -5, 2.5, 10.0, True, None])
def test_an_alphabet_of_fewer_than_two_tokens_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match="alphabet_size="):
        UniformKernel(0.25, size)


def test_a_rate_without_latent_form_is_refused_with_its_limit() -> None:
    message = r"beta=0.99999 must be at most \(V-1\)/V=0.9999 for an alphabet of 10000; lower beta"
    with pytest.raises(ValueError, match=message):
        mask_probability(UniformKernel(0.99999, 10000))


@pytest.mark.parametrize("size", [2, 3, 7, 10000, 151000])
def test_the_largest_rate_with_a_latent_form_masks_always(size: int) -> None:
    assert mask_probability(UniformKernel((size - 1) / size, size)) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("beta", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("size", [2, 3, 30000])
def test_the_latent_form_keeps_a_token_as_often_as_the_kernel(beta: float, size: int) -> None:
    masked = mask_probability(UniformKernel(beta, size))
    assert 1 - masked + masked / size == pytest.approx(1 - beta, rel=1e-14)


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("slots", [0, 1, 8])
def test_cell_weights_are_the_law_of_leading_masks(beta: float, slots: int) -> None:
    exact = [beta**k * (1 - beta if k < slots else 1.0) for k in range(slots + 1)]
    assert cell_weights(AbsorbingKernel(beta), slots) == pytest.approx(exact, rel=1e-14)
    assert math.fsum(exact) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("beta", [0.1, 0.3, 0.7, 1.0 - 1e-15, 1e-15, 1.0])
@pytest.mark.parametrize("size", [None, 2, 3, 10, 151000])
@pytest.mark.parametrize("slots", [1, 7, 40])
def test_cell_weights_are_exact_but_for_one_step_down(beta: float, size: int | None, slots: int) -> None:
    kernel: AbsorbingKernel | UniformKernel = AbsorbingKernel(beta)
    masked = Fraction(beta)
    if size is not None:
        kernel = UniformKernel(min(beta, (size - 1) / size), size)
        masked = min(Fraction(1), Fraction(kernel.beta) * size / (size - 1))
    for k, weight in enumerate(cell_weights(kernel, slots).tolist()):
        exact = masked**k * (1 - masked if k < slots else 1)
        assert Fraction(weight) <= exact < Fraction(math.nextafter(weight, math.inf))


def test_the_last_slot_that_is_hardly_ever_kept_weighs_what_it_does() -> None:
    # 1 - beta V / (V-1) in floats would be 5 % off here, and above the exact weight.
    kernel = UniformKernel(0.75 - 7 * 2.0**-53, 4)
    exact = 1 - Fraction(kernel.beta) * 4 / 3
    assert cell_weights(kernel, 1)[0] == pytest.approx(float(exact), rel=1e-15)
    assert abs((1.0 - mask_probability(kernel)) / float(exact) - 1.0) > 0.03


@pytest.mark.parametrize("size", [3, 6, 7, 11, 49, 151000])
def test_the_largest_rate_has_no_negative_weight_though_its_float_is_too_high(size: int) -> None:
    weights = cell_weights(UniformKernel((size - 1) / size, size), 3)
    assert (weights >= 0.0).all()
    assert weights[-1] <= 1.0


def test_weights_of_a_kernel_without_latent_form_are_refused() -> None:
    with pytest.raises(ValueError, match=r"beta=0.9 must be at most \(V-1\)/V=0.5"):
        cell_weights(UniformKernel(0.9, 2), 3)


def test_weights_belong_to_whoever_asked() -> None:
    cell_weights(AbsorbingKernel(0.5), 2)[:] = 7.0
    assert cell_weights(AbsorbingKernel(0.5), 2).tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize("kernel", [AbsorbingKernel(0.3), UniformKernel(0.3, 50)])
@pytest.mark.parametrize("slots", [0, 1, 3])
def test_draws_are_the_same_however_the_range_is_cut(kernel: TokenKernel, slots: int) -> None:
    whole = suffix_draws(kernel, slots=slots, seed="s", start=0, stop=4 * BLOCK)
    for start, stop in [(0, 5), (5, 16), (15, 17), (16, 64), (31, 31), (40, 41)]:
        part = suffix_draws(kernel, slots=slots, seed="s", start=start, stop=stop)
        assert np.array_equal(part.masked, whole.masked[start:stop])
        if whole.replacement is None or part.replacement is None:
            assert part.replacement is whole.replacement
        else:
            assert np.array_equal(part.replacement, whole.replacement[start:stop])


def test_cell_k_masks_k_leading_slots_and_keeps_the_next() -> None:
    masked = suffix_draws(AbsorbingKernel(0.5), slots=4, seed="s", start=0, stop=200).masked
    assert masked.shape == (200, 5, 4)
    assert masked.dtype == np.bool_
    for k in range(5):
        assert masked[:, k, :k].all()
        assert not masked[:, k, k : k + 1].any()
        assert 0 < masked[:, k, k + 1 :].sum() < masked[:, k, k + 1 :].size or k >= 3


def test_later_slots_are_masked_at_the_mask_probability() -> None:
    kernel = UniformKernel(0.3, 4)
    tails = suffix_draws(kernel, slots=3, seed="s", start=0, stop=20000).masked[:, 0, 1:]
    law = binom(tails.size, mask_probability(kernel))
    assert law.ppf(NEVER / 2) <= tails.sum() <= law.isf(NEVER / 2)


def test_replacements_are_uniform_over_the_whole_alphabet() -> None:
    replacement = suffix_draws(UniformKernel(0.3, 7), slots=3, seed="s", start=0, stop=10000).replacement
    assert replacement is not None
    counts = np.bincount(replacement.ravel(), minlength=7)
    assert replacement.dtype == np.int64
    assert len(counts) == 7
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < chi2(6).isf(NEVER)


def test_seeds_channels_and_blocks_have_keys_of_their_own() -> None:
    keys = {block_key(seed, channel, b) for seed in ("a", "b", "ab") for channel in ("", "b", "c") for b in range(9)}
    assert len(keys) == 81
    assert all(2**110 < key < 2**128 for key in keys)


def test_keys_and_draws_stay_what_recorded_seeds_promise() -> None:
    assert block_key("seed", "image", 3) == 120201413312862995439066982461309491979
    draws = suffix_draws(UniformKernel(0.25, 1000), slots=4, seed="seed", start=14, stop=18)
    assert draws.replacement is not None
    assert draws.replacement.tolist() == [
        [164, 453, 579, 534],
        [146, 436, 735, 13],
        [360, 759, 12, 239],
        [498, 226, 416, 394],
    ]
    assert draws.masked[:, 0].astype(int).tolist() == [[0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("strata", [0, 1, 3, 4])
def test_fewer_strata_are_the_same_draws_with_a_natural_last_cell(strata: int) -> None:
    question: dict[str, Any] = {"slots": 4, "seed": "s", "start": 3, "stop": 300}
    every = suffix_draws(UniformKernel(0.5, 9), **question)
    found = suffix_draws(UniformKernel(0.5, 9), strata=strata, **question)
    assert found.masked.shape == (297, strata + 1, 4)
    assert found.replacement is not None
    assert every.replacement is not None
    assert np.array_equal(found.replacement, every.replacement)
    assert np.array_equal(found.masked[:, :strata], every.masked[:, :strata])
    assert found.masked[:, strata, :strata].all()
    assert np.array_equal(found.masked[:, strata, strata + 1 :], every.masked[:, strata, strata + 1 :])
    assert strata == 4 or 0 < found.masked[:, strata, strata].sum() < 297


def test_without_strata_the_masks_are_the_kernels_own() -> None:
    kernel = UniformKernel(0.3, 4)
    masked = suffix_draws(kernel, slots=5, seed="s", start=0, stop=10000, strata=0).masked
    law = binom(masked.size, mask_probability(kernel))
    assert masked.shape == (10000, 1, 5)
    assert law.ppf(NEVER / 2) <= masked.sum() <= law.isf(NEVER / 2)


def test_more_strata_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="strata=3 must be at most slots=2; lower strata"):
        suffix_draws(AbsorbingKernel(0.5), slots=2, seed="s", start=0, stop=1, strata=3)


FIELDS: tuple[TokenKernel, ...] = (UniformKernel(0.3, 4), AbsorbingKernel(0.6), UniformKernel(0.4, 2))


@pytest.mark.parametrize("cut", [(0, 5), (15, 17), (16, 64), (31, 31), (40, 41)])
def test_field_draws_are_the_same_however_the_range_is_cut(cut: tuple[int, int]) -> None:
    whole = field_draws(FIELDS, seed="s", start=0, stop=64)
    part = field_draws(FIELDS, seed="s", start=cut[0], stop=cut[1])
    assert np.array_equal(part.masked, whole.masked[slice(*cut)])
    assert np.array_equal(part.replacement, whole.replacement[slice(*cut)])


def test_every_field_is_masked_and_redrawn_by_its_own_kernel() -> None:
    draws = field_draws(FIELDS, seed="s", start=0, stop=10000)
    for field, kernel in enumerate(FIELDS):
        law = binom(10000, mask_probability(kernel))
        assert law.ppf(NEVER / 2) <= draws.masked[:, field].sum() <= law.isf(NEVER / 2)
    assert (draws.replacement[:, 1] == -1).all()
    for field, size in [(0, 4), (2, 2)]:
        counts = np.bincount(draws.replacement[:, field], minlength=size)
        assert len(counts) == size
        assert ((counts - 10000 / size) ** 2 / (10000 / size)).sum() < chi2(size - 1).isf(NEVER)


def test_an_input_without_fields_has_empty_draws() -> None:
    draws = field_draws([], seed="s", start=0, stop=20)
    assert draws.masked.shape == draws.replacement.shape == (20, 0)


def test_field_draws_stay_what_recorded_seeds_promise() -> None:
    draws = field_draws([UniformKernel(0.4, 1000), UniformKernel(0.4, 3)], seed="seed", start=15, stop=18)
    assert draws.masked.astype(int).tolist() == [[1, 1], [1, 1], [1, 1]]
    assert draws.replacement.tolist() == [[978, 1], [700, 0], [693, 0]]


@pytest.mark.parametrize("change", [{"slots": -1}, {"start": -1}, {"stop": 2}, {"start": 3.5}, {"slots": True}])
def test_a_range_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"=.* must be"):
        suffix_draws(AbsorbingKernel(0.5), **{"slots": 2, "seed": "s", "start": 3, "stop": 5, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": -1}, "start=-1 must be at least 0; raise start"),
        ({"stop": 2}, "stop=2 must be at least 3; raise stop"),
        ({"stop": 3.5}, "stop=3.5 must be an integer"),
    ],
)
def test_the_wrong_end_of_a_range_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        suffix_draws(AbsorbingKernel(0.5), **{"slots": 2, "seed": "s", "start": 3, "stop": 5, **change})
    with pytest.raises(ValueError, match=f"^{message}"):
        field_draws([AbsorbingKernel(0.5)], **{"seed": "s", "start": 3, "stop": 5, **change})


class Recorded(np.random.Generator):
    """Words that were written down, in their order."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(np.random.PCG64(0))
        self.words = words

    def integers(self, low: Any, high: Any = None, size: Any = None, *_: Any, **__: Any) -> Any:
        count = int(np.prod(size))
        taken, self.words = self.words[:count], self.words[count:]
        return np.array(taken, dtype=np.uint64).reshape(size)


def test_a_mask_is_decided_by_further_digits_where_the_first_64_are_those_of_its_chance() -> None:
    third = 2**64 // 3
    generator = Recorded([third - 1, third, third, third + 1, 0, 2**64 - 1])
    # 1/3 goes on: two of the first four are undecided, the next digits are below a third for one of them.
    assert _events(generator, Fraction(1, 3), (4,)).tolist() == [True, True, False, False]
    assert generator.words == []


def test_a_chance_with_few_digits_is_decided_by_its_first_and_one_by_none() -> None:
    assert _events(Recorded([2**62 - 1, 2**62]), Fraction(1, 4), (2,)).tolist() == [True, False]
    assert _events(Recorded([2**64 - 1, 0]), Fraction(1), (2,)).all()
    assert not _events(Recorded([0, 5]), Fraction(0), (2,)).any()
