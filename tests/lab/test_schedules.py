"""How fast the trainings of the lab learn, step by step, and what a step of them draws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from holdfast_lab.booster.loop import _rate as booster_rate
from holdfast_lab.booster.recipes import DenoiserRecipe, MapperRecipe
from holdfast_lab.encoder import training as encoder_training
from holdfast_lab.prompt import Prompt, build_prompt
from holdfast_lab.scenes import UNSAFE, Hazard, Intent
from holdfast_lab.tokenizer import build_tokenizer
from holdfast_lab.training import MAX_SIGMA, MAX_SLOTS, AttributeHeads, Batch, Recipe, draw_batch, train, warmed_up
from holdfast_worker.denoisers.mapper import MapperShape


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def prompt(tokenizer: PreTrainedTokenizerFast) -> Prompt:
    return build_prompt(tokenizer)


@given(steps=st.integers(1, 2000))
def test_a_rate_rises_once_falls_once_and_is_never_above_one_or_below_zero(steps: int) -> None:
    course = [warmed_up(step, steps) for step in range(steps)]
    assert 0 < min(course) <= max(course) <= 1
    top = course.index(max(course))
    assert course[: top + 1] == sorted(course[: top + 1])
    assert course[top:] == sorted(course[top:], reverse=True)


@pytest.mark.parametrize("steps", [20, 650, 1600])
def test_a_rate_warms_up_over_a_twentieth_of_the_steps_and_ends_near_nothing(steps: int) -> None:
    warm = steps // 20
    assert warmed_up(0, steps) == pytest.approx(1 / warm)
    assert warm - 2 <= max(range(steps), key=lambda step: warmed_up(step, steps)) <= warm
    assert warmed_up(steps // 2, steps) == pytest.approx(0.5, abs=0.01)
    assert warmed_up(steps - 1, steps) < (3 / steps) ** 2 * 1.1
    assert warmed_up(steps, steps) == pytest.approx(0, abs=1e-12)


def test_a_training_reports_every_step_once_and_in_order(tokenizer: PreTrainedTokenizerFast) -> None:
    told: list[int] = []
    train(tokenizer, Recipe(steps=3, batch=2), lambda step, _: told.append(step))
    assert told == [0, 1, 2]
    told.clear()
    encoder_training.train(encoder_training.Recipe(steps=3, batch=2), lambda step, _: told.append(step))
    assert told == [0, 1, 2]


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 1.0])
def test_a_denoisers_rate_stands_still_and_a_mappers_follows_a_cosine(progress: float) -> None:
    denoiser = DenoiserRecipe(sigma=0.25, learning_rate=3e-4)
    mapper = MapperRecipe(sigma=0.25, learning_rate=3e-4, shape=MapperShape(width=4))
    assert booster_rate(denoiser, progress) == 3e-4
    assert booster_rate(mapper, progress) == pytest.approx(3e-4 * np.cos(np.pi * progress / 2) ** 2)
    assert booster_rate(denoiser.model_copy(update={"schedule": "cosine"}), progress) == booster_rate(mapper, progress)


@pytest.fixture(scope="module")
def batch(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> Batch:
    return draw_batch(np.random.default_rng(3), tokenizer, prompt, size=200, sigma=MAX_SIGMA)


def test_a_training_example_is_unsafe_by_its_two_attributes_alone(batch: Batch) -> None:
    pairs = zip(batch.hazard.tolist(), batch.intent.tolist(), strict=True)
    expected = [(tuple(Hazard)[hazard], tuple(Intent)[intent]) in UNSAFE for hazard, intent in pairs]
    assert batch.unsafe.tolist() == expected


def test_a_training_prompt_begins_and_ends_as_a_served_one(batch: Batch, prompt: Prompt) -> None:
    for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
        assert tuple(ids[: len(prompt.before)]) == prompt.before
        assert tuple(ids[length - len(prompt.after) : length]) == prompt.after
        assert not any(ids[length:])


def test_what_stands_between_is_ordinary_or_masked(batch: Batch, prompt: Prompt) -> None:
    allowed = {*prompt.alphabet, prompt.mask}
    for ids, length in zip(batch.ids.tolist(), batch.lengths.tolist(), strict=True):
        assert set(ids[len(prompt.before) : length - len(prompt.after)]) <= allowed


def test_some_prompts_are_full_of_slots_and_some_are_masked(batch: Batch, prompt: Prompt) -> None:
    rows = [ids[len(prompt.before) : n - len(prompt.after)] for ids, n in zip(batch.ids, batch.lengths, strict=True)]
    masked = sum(bool((row[-MAX_SLOTS:] == prompt.mask).all()) for row in rows)
    clean = sum(bool((row != prompt.mask).all()) for row in rows)
    # A tenth of the prompts are all mask in their slots, and four fifths have none: five deviations to either side.
    assert 1 <= masked <= 45
    assert 130 <= clean <= 190


def test_training_images_carry_noise_of_up_to_the_given_deviation(
    tokenizer: PreTrainedTokenizerFast, prompt: Prompt
) -> None:
    plain, noisy = (
        draw_batch(np.random.default_rng(3), tokenizer, prompt, size=8, sigma=sigma).images for sigma in (0.0, 0.5)
    )
    spread = (noisy - plain).std(dim=(1, 2, 3))
    assert 0 <= float(plain.min()) <= float(plain.max()) <= 1
    assert 0 < float(spread.min()) < float(spread.max()) < 0.5 * 1.05


def test_attribute_heads_that_know_nothing_lose_one_bit(batch: Batch) -> None:
    heads = AttributeHeads()
    for parameter in heads.parameters():
        torch.nn.init.zeros_(parameter)
    lost = heads.loss(torch.randn(200, 17, 96), torch.randn(200, 96), batch)
    assert float(lost.detach()) == pytest.approx(np.log(2))


def test_readouts_see_the_direction_of_their_prototypes_and_not_their_length() -> None:
    torch.manual_seed(0)
    readouts = encoder_training.Readouts()
    drawn = encoder_training.draw_batch(np.random.default_rng(0), size=4, sigma=0.0)
    features = torch.nn.functional.normalize(torch.randn(8, 64), dim=-1)
    before, _ = readouts.loss(features, drawn)
    with torch.no_grad():
        readouts.prototypes.mul_(7.0)
    after, _ = readouts.loss(features, drawn)
    torch.testing.assert_close(before, after)
