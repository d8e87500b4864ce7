"""Erase-and-check: whatever is appended, one truncation is the clean text as it would be prepared alone."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.erasure import (
    Checked,
    ErasureRule,
    checked,
    erase_and_check,
    truncation_margins,
    truncations,
)
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.registry import load
from tests.workers.builders import Checkpoint, png, table_folder
from tests.workers.conftest import SPECIALS, TEMPLATE

SEED = "5e" * 32
RULE = ErasureRule(characters=20, passes=8, flags=3, sigma=0.5)
EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = json.loads((EXAMPLES / "examples.json").read_text())[0]["text"]
REQUEST = "We plan to make sparks right here"


@pytest.fixture(scope="module")
def shipped() -> LlavaGuard:
    folder = model_folder("reference-guard")
    return load_guard(folder, load_config(GuardConfig, folder, {"device": "cpu"}))


@pytest.fixture
def spelled(base_folder: Path, tmp_path: Path) -> Callable[..., LlavaGuard]:
    """Loads the tiny guard with a tokenizer of another vocabulary, or another normaliser."""

    def build(words: list[str], normalizer: Any = None) -> LlavaGuard:
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=SPECIALS, show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        backend.train_from_iterator([*words, "Safe", "Unsafe"] * 50, trainer)
        if normalizer is not None:
            backend.normalizer = normalizer
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<|im_end|>")  # type: ignore[no-untyped-call]
        tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS[1:5]})
        tokenizer.chat_template = TEMPLATE
        folder = shutil.copytree(base_folder, tmp_path / "spelled")
        tokenizer.save_pretrained(folder)
        return load_guard(folder, load_config(GuardConfig, folder, {}))

    return build


def prefix_of(guard: LlavaGuard, text: str) -> list[int]:
    """The ids of a text that is prepared alone."""
    picture = np.array(Image.open(io.BytesIO(png())))
    return guard.inputs.prepare(text, "", picture, slots=0).prefix.tolist()


def plain(guard: LlavaGuard, inputs: tuple[PreparedInput, ...], draws: int) -> NDArray[np.float32]:
    """One full pass of each draw and truncation, nothing shared."""
    no_slots = np.empty((draws, 1, 1, 0), dtype=np.int64)
    passes = [guard.plain_margins(Draws(each, SEED, 0.5, 0, draws, no_slots)) for each in inputs]
    return np.concatenate(passes, axis=1)[:, :, 0]


@pytest.mark.parametrize(
    "text",
    [REQUEST, REQUEST + " 🙂🙂 e\u0301\u0301", "sparks   \t\n  ", "ab", "👩‍👩‍👧", "a\u0301" * 9],
    ids=["plain", "emoji", "white space", "short", "joined emoji", "combining"],
)
def test_branches_give_the_margins_of_separate_passes_on_real_weights(shipped: LlavaGuard, text: str) -> None:
    inputs = truncations(shipped, text, png(), most=20)
    found = truncation_margins(shipped, inputs, sigma=0.5, seed=SEED, stop=3)
    assert found.shape == (3, min(20, len(text)) + 1)
    np.testing.assert_allclose(found, plain(shipped, inputs, 3), rtol=0, atol=shipped.info.tie_band)


@pytest.mark.parametrize("settings", [{}, {"layout": "policy_first"}, {"decision": "generate"}])
def test_each_way_of_asking_gives_the_margins_of_separate_passes(
    checkpoint: Checkpoint, settings: dict[str, Any]
) -> None:
    folder = checkpoint(tiles="base", **settings)
    guard = load_guard(folder, load_config(GuardConfig, folder, {}))
    inputs = truncations(guard, "how are you?", png(), most=5)
    found = truncation_margins(guard, inputs, sigma=0.5, seed=SEED, stop=4)
    np.testing.assert_allclose(found, plain(guard, inputs, 4), rtol=0, atol=1e-5)


def test_a_batch_that_memory_cuts_gives_the_same_margins(shipped: LlavaGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = truncations(shipped, REQUEST, png(), most=6)
    whole = truncation_margins(shipped, inputs, sigma=0.5, seed=SEED, stop=7)
    monkeypatch.setattr(shipped.batching, "limit", 300)
    cut = truncation_margins(shipped, inputs, sigma=0.5, seed=SEED, stop=7)
    np.testing.assert_allclose(cut, whole, rtol=0, atol=shipped.info.tie_band)


def test_a_tokenizer_that_merges_across_the_boundary_hides_the_text_from_tokens_and_not_from_characters(
    spelled: Callable[..., LlavaGuard],
) -> None:
    guard = spelled(["bomb", "bombs"])
    attacked, clean = guard.inputs.prompt.encode("bombs"), guard.inputs.prompt.encode("bomb")
    assert len(attacked) == len(clean) == 1
    assert all(list(attacked[:kept]) != list(clean) for kept in range(len(attacked) + 1))
    inputs = truncations(guard, "bombs", png(), most=1)
    assert inputs[1].prefix.tolist() == prefix_of(guard, "bomb")
    found = truncation_margins(guard, inputs, sigma=0.5, seed=SEED, stop=4)
    alone = truncation_margins(guard, truncations(guard, "bomb", png(), most=0), sigma=0.5, seed=SEED, stop=4)
    np.testing.assert_allclose(found[:, 1:], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("clean", ["how are you?", "🙂", "e", "é", "👩", " x ", "a\u0301"])
@pytest.mark.parametrize("appended", ["!", "\u0301", "\u200d👧", "\ufe0f", "   ", "\n", "s you?", "🙂" * 9])
def test_whatever_is_appended_one_truncation_is_the_clean_text_prepared_alone(
    guard: LlavaGuard, clean: str, appended: str
) -> None:
    inputs = truncations(guard, clean + appended, png(), most=20)
    assert inputs[len(appended)].prefix.tolist() == prefix_of(guard, clean)


@pytest.mark.parametrize("normalizer", [normalizers.NFC(), normalizers.Strip(), normalizers.NFKD()])
def test_it_is_the_raw_text_that_is_cut_whatever_the_tokenizer_makes_of_it(
    spelled: Callable[..., LlavaGuard], normalizer: Any
) -> None:
    guard = spelled(["how are you?"], normalizer)
    for clean, appended in (("Cafe", "\u0301 x"), ("how are", "   "), ("how  ", " are"), ("İ", "I")):
        inputs = truncations(guard, clean + appended, png(), most=20)
        assert inputs[len(appended)].prefix.tolist() == prefix_of(guard, clean)


def test_white_space_that_a_tokenizer_trims_is_counted_and_computed_once(spelled: Callable[..., LlavaGuard]) -> None:
    guard = spelled(["how are you?"], normalizers.Strip())
    inputs = truncations(guard, "how are" + " " * 6, png(), most=6)
    assert len(inputs) == 7
    assert len({tuple(each.prefix.tolist()) for each in inputs}) == 1
    margins = truncation_margins(guard, inputs, sigma=0.5, seed=SEED, stop=3)
    assert (margins == margins[:, :1]).all()


def test_more_characters_than_there_are_erase_the_text_whole_and_the_guard_reads_none(guard: LlavaGuard) -> None:
    inputs = truncations(guard, "abc", png(), most=20)
    assert [len(each.prefix) for each in inputs[:-1]] == [len(prefix_of(guard, "abc"[:kept])) for kept in (3, 2, 1)]
    assert inputs[-1].prefix.tolist() == prefix_of(guard, "")
    assert len(truncations(guard, "", png(), most=20)) == 1


def test_the_picture_is_prepared_once_for_all_truncations(guard: LlavaGuard) -> None:
    inputs = truncations(guard, "how are you?", png(), most=9)
    assert all(each.clean is inputs[0].clean for each in inputs)


def test_texts_of_different_pictures_do_not_branch(guard: LlavaGuard) -> None:
    one, other = truncations(guard, "how", png(), most=0), truncations(guard, "how", png(8, 8), most=0)
    with pytest.raises(ValueError, match="texts branch behind one picture"):
        guard.branched_margins([*one, *other], seed=SEED, sigma=0.5, start=0, stop=1)


def test_an_appended_text_that_turns_the_verdict_is_erased_again(shipped: LlavaGuard) -> None:
    """The attack: of the guard's own words those that turn its verdict, alone and under noise."""
    picture = (EXAMPLES / "unsafe.png").read_bytes()
    appended = [f" no, {deed}" for deed in ("empty a bucket", "splash a bottle", "spill a drink", "wash the floor")]
    turned = [tail for tail in appended if said_without_noise(shipped, EXAMPLE + tail, picture) < 0]
    assert turned
    assert said_without_noise(shipped, EXAMPLE, picture) > 0
    for tail in turned:
        attacked = erase_and_check(shipped, EXAMPLE + tail, picture, RULE)
        assert attacked.counts[len(tail)] >= RULE.flags
        assert attacked.flagged


def said_without_noise(guard: LlavaGuard, text: str, picture: bytes) -> float:
    (prepared,) = truncations(guard, text, picture, most=0)
    no_slots = np.empty((1, 1, 1, 0), dtype=np.int64)
    return float(guard.margins([Draws(prepared, SEED, 0.0, 0, 1, no_slots)])[0][0, 0, 0])


def test_a_safe_text_that_no_truncation_makes_unsafe_is_not_flagged(shipped: LlavaGuard) -> None:
    found = erase_and_check(shipped, EXAMPLE, (EXAMPLES / "safe.png").read_bytes(), RULE)
    assert found.unsafe.shape == (8, 21)
    assert not found.flagged


def test_every_verdict_has_noise_of_its_own(guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    read = guard.branched_margins

    def noted(*given: Any, seed: str, **named: Any) -> Any:
        seeds.append(seed)
        return read(*given, seed=seed, **named)

    monkeypatch.setattr(guard, "branched_margins", noted)
    for _ in range(3):
        erase_and_check(guard, "how are you?", png(), RULE)
    assert len(set(seeds)) == 3
    assert all(len(bytes.fromhex(seed)) == 32 for seed in seeds)


def test_a_measurement_is_the_same_twice_by_the_same_seed(guard: LlavaGuard) -> None:
    inputs = truncations(guard, "how are you?", png(), most=3)
    one, two, other = (checked(guard, inputs, RULE, seed=seed).unsafe for seed in (SEED, SEED, "aa" * 32))
    assert (one == two).all()
    assert one.shape == other.shape == (8, 4)


def test_a_margin_near_a_tie_counts_as_unsafe() -> None:
    margins = np.array([[-2e-6, 2e-6, -3e-6, 1.0, -1.0, 0.0]], dtype=np.float32)
    rule = ErasureRule(characters=5, passes=1, flags=1, sigma=0.5)
    assert Checked.of(rule, margins, tie_band=2.5e-6).unsafe.tolist() == [[True, True, False, True, False, True]]


def test_one_truncation_with_so_many_unsafe_passes_flags_and_many_with_one_less_do_not() -> None:
    rule = ErasureRule(characters=2, passes=4, flags=3, sigma=0.5)
    votes = np.array([[True, True, True], [True, True, True], [False, False, False], [False, False, False]])
    assert not Checked(rule, votes).flagged
    votes[2, 1] = True
    assert Checked(rule, votes).counts.tolist() == [2, 3, 2]
    assert Checked(rule, votes).flagged


def test_the_guards_own_rule_flags_where_more_than_tau_of_the_passes_are_unsafe(shipped: LlavaGuard) -> None:
    defaults = shipped.info.defaults
    rule = ErasureRule.of(defaults)
    assert (rule.characters, rule.sigma) == (defaults.max_characters, defaults.sigma)
    assert (rule.flags - 1) / rule.passes <= defaults.tau < rule.flags / rule.passes
    assert ErasureRule.of(defaults, characters=3, passes=16) == ErasureRule(3, 16, 5, defaults.sigma)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"characters": -1}, "characters=-1 must be at least 0; raise characters"),
        ({"flags": 0}, "flags=0 must be 1 to passes=8; lower flags or raise passes"),
        ({"flags": 9}, "flags=9 must be 1 to passes=8"),
        ({"sigma": 0.0}, "sigma=0.0 must be above 0; raise sigma"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ErasureRule(**{"characters": 20, "passes": 8, "flags": 3, "sigma": 0.5} | change)


@pytest.mark.parametrize("text", ["x" * 201, "how \ud800"])
def test_an_input_that_is_refused_has_no_verdict(guard: LlavaGuard, text: str) -> None:
    with pytest.raises(InputRefusedError):
        erase_and_check(guard, text, png(), RULE)


def test_a_text_that_only_a_truncation_of_it_cannot_be_read_is_refused_too(spelled: Callable[..., LlavaGuard]) -> None:
    guard = spelled(["how are you?"], normalizers.Replace("zz", "how "))
    guard.inputs.prepare("zz", "", np.zeros((4, 4, 3), np.uint8), slots=0)
    long = normalizers.Sequence([normalizers.Replace("zzz", "a"), normalizers.Replace("z", "y" * 600)])
    ordinary = guard.inputs.prompt.ordinary
    ordinary.normalizer = long
    guard.inputs.prepare("zzz", "", np.zeros((4, 4, 3), np.uint8), slots=0)
    with pytest.raises(InputRefusedError, match=r"the prompt has \d+ tokens, must be at most 600"):
        erase_and_check(guard, "zzz", png(), RULE)


def test_a_tabular_guard_has_no_text_to_erase_from(tmp_path: Path) -> None:
    guard = load(table_folder(tmp_path), {})
    with pytest.raises(InputRefusedError, match="model table has no text to erase from, must have one; name another"):
        erase_and_check(guard, "how are you?", png(), RULE)  # type: ignore[arg-type]
