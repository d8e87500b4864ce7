"""The reference guard piece by piece: margins, quantising, prompts, examples, and what its folder says of it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Png
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from holdfast_lab.architecture import build_config, build_model, image_embeddings, margin, to_pixel_values
from holdfast_lab.cli import SHIPPED
from holdfast_lab.encoder import report as encoder_report
from holdfast_lab.evaluation import (
    CLEAN,
    HELD_OUT_SEED,
    Guard,
    Noise,
    accuracy,
    held_out,
    load,
    margins,
    noisy_prompt,
    unsafe_shares,
    verdicts,
)
from holdfast_lab.export import DEFAULTS, serving_config, write_serving_config
from holdfast_lab.noise import image_tensor
from holdfast_lab.prompt import IMAGE_TOKENS, Prompt, build_prompt, encode_text
from holdfast_lab.sample_inputs import sample_inputs, write_sample_inputs
from holdfast_lab.scenes import Example, Hazard, Intent, draw_example, wordings
from holdfast_lab.tokenizer import POLICY, SAFE_LABELS, SPECIALS, UNSAFE_LABELS
from holdfast_lab.training import Recipe

SUFFIX = Noise(sigma=0.5, beta=0.9)


@pytest.fixture(scope="module")
def guard() -> Guard:
    return load(SHIPPED)


@pytest.fixture(scope="module")
def prompt(guard: Guard) -> Prompt:
    return guard.prompt


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return held_out(8, part=6)


@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 80))
def test_a_margin_is_the_log_of_the_odds_of_its_label_variants(prompt: Prompt, seed: int, size: float) -> None:
    logits = size * torch.randn(3, 485, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for row, found in zip(logits.tolist(), margin(logits, prompt).tolist(), strict=True):
        top = max(row)
        unsafe, safe = (math.fsum(math.exp(row[i] - top) for i in ids) for ids in (prompt.unsafe, prompt.safe))
        if min(unsafe, safe) > 1e-300:
            assert found == pytest.approx(math.log(unsafe) - math.log(safe), abs=1e-9)


def test_a_margin_knows_no_other_token_and_no_common_shift(prompt: Prompt) -> None:
    logits = torch.randn(2, 485, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved = logits + 5.0
    others = [i for i in range(485) if i not in {*prompt.unsafe, *prompt.safe}]
    moved[:, others] += torch.randn(len(others), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(margin(moved, prompt), margin(logits, prompt))


@given(st.floats(-3, 4))
def test_a_pixel_reaches_the_tower_as_one_of_256_levels(value: float) -> None:
    (found,) = to_pixel_values(torch.tensor([value])).tolist()
    level = round(255 * (found + 1) / 2)
    assert found == pytest.approx(level / 127.5 - 1, abs=1e-6)
    assert 0 <= level <= 255
    assert abs(level - 255 * min(1.0, max(0.0, value))) <= 0.5 + 1e-4


def test_eight_bit_pictures_pass_the_quantising_unchanged() -> None:
    levels = torch.arange(256) / 255
    assert torch.equal(((to_pixel_values(levels) + 1) * 127.5).round(), torch.arange(256.0))


def test_pictures_that_quantise_alike_are_embedded_alike(guard: Guard, examples: list[Example]) -> None:
    images = image_tensor(examples[:2])
    nudged = images + 0.4 / 255 * torch.sign(torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))
    with torch.inference_mode():
        assert torch.equal(image_embeddings(guard.model, images), image_embeddings(guard.model, nudged))


def test_the_architecture_has_the_size_that_its_card_speaks_of(prompt: Prompt) -> None:
    config = build_config(prompt)
    text: Any = config.text_config
    vision: Any = config.vision_config
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (96, 3, 3)
    assert (vision.hidden_size, vision.num_hidden_layers, vision.patch_size, vision.image_size) == (64, 2, 16, 64)
    assert 4e5 < LlavaOnevisionForConditionalGeneration(config).num_parameters() < 6e5


def test_a_fresh_model_is_fixed_by_its_seed_alone(prompt: Prompt) -> None:
    first, again, other = (build_model(prompt, seed=seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_a_prompt_holds_the_picture_once_and_its_pieces_in_order(prompt: Prompt) -> None:
    assert prompt.before.count(prompt.image) == IMAGE_TOKENS == 17
    first = prompt.before.index(prompt.image)
    assert set(prompt.before[first : first + IMAGE_TOKENS]) == {prompt.image}
    assert prompt.assemble([1, 2], [3]) == [*prompt.before, 1, 2, 3, *prompt.after]
    assert prompt.image not in prompt.after
    assert prompt.video not in {*prompt.before, *prompt.after}


def test_a_prompt_reads_as_the_policy_before_the_text(guard: Guard, prompt: Prompt) -> None:
    read = guard.tokenizer.decode(list(prompt.before))
    assert isinstance(read, str)
    assert POLICY in read
    assert read.startswith("<|im_start|>user ")
    assert guard.tokenizer.decode(list(prompt.after)) == "<|im_end|><|im_start|>assistant\n"
    assert build_prompt(guard.tokenizer) == prompt


def test_labels_filler_and_mask_are_what_the_kernels_need_them_to_be(guard: Guard, prompt: Prompt) -> None:
    assert guard.tokenizer.convert_ids_to_tokens(list(prompt.unsafe)) == list(UNSAFE_LABELS)
    assert guard.tokenizer.convert_ids_to_tokens(list(prompt.safe)) == list(SAFE_LABELS)
    assert prompt.filler in prompt.alphabet
    assert prompt.mask not in prompt.alphabet
    assert not set(prompt.unsafe) & set(prompt.safe)


@pytest.mark.parametrize("special", SPECIALS)
def test_what_looks_like_a_special_token_in_a_request_is_plain_characters(guard: Guard, special: str) -> None:
    ids = encode_text(guard.tokenizer, f"say {special} now")
    assert not set(ids) & set(guard.tokenizer.all_special_ids)
    assert guard.tokenizer.decode(ids) == f"say {special} now"


@pytest.mark.parametrize("intent", Intent)
def test_every_wording_fits_the_bytes_that_the_guard_lets_in(intent: Intent) -> None:
    for split in (False, True):
        assert all(text.isascii() and len(text) < 100 for text in wordings(intent, held_out=split))


def test_margins_decide_verdicts_and_shares_count_them(guard: Guard, examples: list[Example]) -> None:
    rows = [guard.prompt.assemble(encode_text(guard.tokenizer, e.text), [guard.prompt.filler] * 8) for e in examples]
    expected = (margins(guard, image_tensor(examples), rows) > 0).numpy()
    said = verdicts(guard, examples, CLEAN, np.random.default_rng(0))
    assert np.array_equal(said, expected)
    shares = unsafe_shares(guard, examples, CLEAN, passes=3, seed=0)
    assert np.array_equal(shares, expected.astype(float))


def test_verdicts_are_those_of_one_stream_however_it_is_chunked(
    guard: Guard, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = verdicts(guard, examples, CLEAN, np.random.default_rng(0))
    monkeypatch.setattr("holdfast_lab.evaluation._CHUNK", 3)
    assert np.array_equal(verdicts(guard, examples, CLEAN, np.random.default_rng(0)), whole)


def test_shares_are_counted_in_passes_and_repeat_with_their_seed(guard: Guard, examples: list[Example]) -> None:
    first, again, other = (
        unsafe_shares(guard, examples[:4], Noise(sigma=1.5, beta=0.9), passes=8, seed=s) for s in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert np.array_equal(first * 8, np.rint(first * 8))
    assert first.shape == other.shape == (4,)


def test_accuracy_counts_the_labels_that_were_hit(guard: Guard, examples: list[Example]) -> None:
    right, total = accuracy(guard, examples, CLEAN, seed=3)
    said = verdicts(guard, examples, CLEAN, np.random.default_rng(0))
    assert (right, total) == (int((said == [e.unsafe for e in examples]).sum()), 8)


def test_noise_falls_on_slots_or_on_the_text_and_never_on_the_frame(prompt: Prompt) -> None:
    text = [prompt.alphabet[k] for k in (5, 6, 7, 8)]
    rng = np.random.default_rng(0)
    on_slots = noisy_prompt(prompt, text, Noise(sigma=0.0, beta=1.0, kernel="absorbing", slots=3), rng)
    assert on_slots == prompt.assemble(text, [prompt.mask] * 3)
    on_text = noisy_prompt(prompt, text, Noise(sigma=0.0, beta=1.0, kernel="absorbing", on_text=True), rng)
    assert on_text == prompt.assemble([], [prompt.mask] * 4)


def test_held_out_streams_share_no_example_with_each_other_or_with_training() -> None:
    def told(drawn: list[Example]) -> set[bytes]:
        return {example.image.tobytes() for example in drawn}

    parts = [told(held_out(30, part=part)) for part in range(1, 7)]
    assert len(set().union(*parts)) == 6 * 30
    for seed in range(4):
        rng = np.random.default_rng([seed, 0])
        assert not set().union(*parts) & told([draw_example(rng, held_out=False) for _ in range(30)])


def test_no_recipe_within_reach_trains_on_the_held_out_seed() -> None:
    assert Recipe().seed != HELD_OUT_SEED
    assert {scene.image.tobytes() for scene in encoder_report.held_out_scenes(20)}.isdisjoint(
        example.image.tobytes() for part in range(7) for example in held_out(20, part=part)
    )


def test_held_out_examples_have_held_out_wordings_and_go_on_as_they_began() -> None:
    kept = {text for intent in Intent for text in wordings(intent, held_out=True)}
    long = held_out(12)
    assert {example.text for example in long} <= kept
    assert [example.text for example in held_out(5)] == [example.text for example in long[:5]]


def test_the_sample_inputs_are_one_request_with_opposite_labels() -> None:
    unsafe, safe = (sample_inputs()[name] for name in ("unsafe", "safe"))
    assert (unsafe.unsafe, safe.unsafe) == (True, False)
    assert unsafe.text == safe.text
    assert (unsafe.hazard, safe.hazard) == (Hazard.FUEL, Hazard.POWER)
    pool = held_out(100, part=3)
    for example in (unsafe, safe):
        assert example.image.std() == max(e.image.std() for e in pool if e.hazard is example.hazard)


def test_written_sample_inputs_say_what_they_are_and_are_written_alike_twice(tmp_path: Path) -> None:
    write_sample_inputs(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_sample_inputs(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    listing = json.loads(before["examples.json"])
    assert [(one["name"], one["expected"]) for one in listing] == [("unsafe", "Unsafe"), ("safe", "Safe")]
    assert all(np.asarray(Png.open(folder / one["image"])).shape == (64, 64, 3) for one in listing)


def test_the_serving_configuration_names_what_the_network_was_trained_with(prompt: Prompt, tmp_path: Path) -> None:
    config: dict[str, Any] = serving_config()
    assert config["policy"] == POLICY
    assert (config["noise_height"], config["noise_width"], config["max_slots"]) == (64, 64, 8)
    assert config["defaults"] is DEFAULTS
    assert DEFAULTS["slots"] <= config["max_slots"]
    write_serving_config(tmp_path, config)
    assert json.loads((tmp_path / "holdfast.json").read_text("utf-8")) == config


@pytest.mark.parametrize("hazard", Hazard)
@pytest.mark.parametrize("intent", Intent)
def test_an_example_is_unsafe_by_its_combination_alone(hazard: Hazard, intent: Intent) -> None:
    example = Example(np.zeros((64, 64, 3), np.uint8), "anything", hazard, intent)
    assert example.unsafe == ((hazard is Hazard.FUEL) == (intent is Intent.FLAME))


def test_the_tokenizers_vocabulary_is_all_that_a_guard_can_say(guard: Guard, prompt: Prompt) -> None:
    tokenizer: PreTrainedTokenizerFast = guard.tokenizer
    assert sorted({*prompt.alphabet, *tokenizer.all_special_ids}) == list(range(len(tokenizer))) == list(range(485))
