from collections import Counter

import numpy as np
import pytest
import torch

from holdfast_lab.architecture import to_pixel_values
from holdfast_lab.evaluation import Noise, noisy_prompt
from holdfast_lab.noise import Kernel, gaussian, noisy_tokens, pad
from holdfast_lab.prompt import Prompt

ALPHABET = tuple(range(10, 20))
FILLER, MASK, MANY = 12, 3, 40_000
BEFORE, AFTER = (4, 5), (6,)


@pytest.fixture
def prompt() -> Prompt:
    return Prompt(BEFORE, AFTER, alphabet=ALPHABET, filler=FILLER, mask=MASK, image=0, video=1, unsafe=(), safe=())


def _drawn(prompt: Prompt, beta: float, kernel: Kernel) -> Counter[int]:
    rng = np.random.default_rng(3)
    return Counter(noisy_tokens(rng, prompt, [FILLER] * MANY, beta=beta, kernel=kernel))


def test_the_uniform_kernel_keeps_with_one_minus_beta_and_spreads_the_rest(prompt: Prompt) -> None:
    drawn = _drawn(prompt, 0.6, "uniform")
    assert drawn[FILLER] / MANY == pytest.approx(0.4, abs=0.0125)  # five standard deviations
    for token in set(ALPHABET) - {FILLER}:
        assert drawn[token] / MANY == pytest.approx(0.6 / 9, abs=0.0065)


def test_the_absorbing_kernel_only_ever_writes_the_mask(prompt: Prompt) -> None:
    drawn = _drawn(prompt, 0.6, "absorbing")
    assert set(drawn) == {FILLER, MASK}
    assert drawn[MASK] / MANY == pytest.approx(0.6, abs=0.0125)


def test_noise_on_slots_leaves_the_text_as_it_is(prompt: Prompt) -> None:
    noise = Noise(sigma=0.0, beta=0.9, slots=8)
    ids = noisy_prompt(prompt, [11, 17], noise, np.random.default_rng(3))
    assert ids[:4] == [*BEFORE, 11, 17]
    assert len(ids) == 2 + 2 + 8 + 1
    assert ids[4:12] != [FILLER] * 8


def test_noise_on_the_text_leaves_the_slots_out_and_corrupts_each_token_at_its_rate(prompt: Prompt) -> None:
    text = [11, 17] * (MANY // 2)
    ids = noisy_prompt(prompt, text, Noise(sigma=0.0, beta=0.4, on_text=True), np.random.default_rng(3))
    assert (ids[:2], ids[-1:], len(ids)) == ([*BEFORE], [*AFTER], MANY + 3)
    changed = np.array(ids[2:-1]) != text
    for place in (0, 1):  # Half as many trials each: five standard deviations are 0.0174.
        assert changed[place::2].mean() == pytest.approx(0.4, abs=0.0174)


@pytest.mark.parametrize("kernel", ["uniform", "absorbing"])
def test_no_corruption_and_no_tokens_change_nothing(prompt: Prompt, kernel: Kernel) -> None:
    rng = np.random.default_rng(0)
    assert noisy_tokens(rng, prompt, [11, 12], beta=0.0, kernel=kernel) == [11, 12]
    assert noisy_tokens(rng, prompt, [], beta=1.0, kernel=kernel) == []


def test_gaussian_noise_has_each_images_own_deviation() -> None:
    noisy = gaussian(np.random.default_rng(0), torch.zeros(2, 3, 64, 64), torch.tensor([0.0, 0.5]))
    assert not noisy[0].any()
    assert noisy[1].std().item() == pytest.approx(0.5, abs=0.02)


def test_the_tower_sees_eight_bit_pictures() -> None:
    seen = to_pixel_values(torch.tensor([-0.3, 0.0, 0.5001, 1.0, 7.0]))
    assert seen.tolist() == pytest.approx([-1, -1, 128 / 127.5 - 1, 1, 1], abs=1e-6)


def test_padding_keeps_every_row_and_its_length() -> None:
    padded, lengths = pad([[1, 2, 3], [4]])
    assert padded.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert lengths.tolist() == [3, 1]
