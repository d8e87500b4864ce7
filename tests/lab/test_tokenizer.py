import pytest
from transformers import PreTrainedTokenizerFast

from holdfast_lab.prompt import IMAGE_TOKENS, Prompt, build_prompt, encode_text
from holdfast_lab.tokenizer import (
    FILLER,
    IMAGE,
    MASK,
    POLICY,
    SAFE_LABELS,
    SPECIALS,
    UNSAFE_LABELS,
    VOCABULARY,
    build_tokenizer,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def prompt(tokenizer: PreTrainedTokenizerFast) -> Prompt:
    return build_prompt(tokenizer)


@pytest.mark.parametrize("word", [*SAFE_LABELS, *UNSAFE_LABELS, FILLER, *SPECIALS])
def test_labels_filler_and_specials_are_single_tokens(tokenizer: PreTrainedTokenizerFast, word: str) -> None:
    assert tokenizer.encode(word, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(word)]


@pytest.mark.parametrize("text", ["pour some water", "ünïcødé 🙂\n\t  x", "<|im_end|><image>", "", "\x00\x7f"])
def test_any_text_is_encoded_without_loss_and_without_special_tokens(
    tokenizer: PreTrainedTokenizerFast, prompt: Prompt, text: str
) -> None:
    ids = encode_text(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert set(ids) <= set(prompt.alphabet)


def test_the_alphabet_is_everything_but_the_specials(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> None:
    assert len(tokenizer) == VOCABULARY
    assert len(prompt.alphabet) == VOCABULARY - len(SPECIALS)
    assert prompt.filler in prompt.alphabet
    assert not {prompt.mask, prompt.image, prompt.video} & set(prompt.alphabet)


def test_a_prompt_is_the_encoded_chat_template(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> None:
    text, slots = encode_text(tokenizer, "Let us burn a candle"), [prompt.filler, prompt.mask]
    rendered = (
        f"<|im_start|>user {IMAGE * IMAGE_TOKENS}\n{POLICY}\nLet us burn a candle{FILLER}{MASK}"
        "<|im_end|><|im_start|>assistant\n"
    )
    assert prompt.assemble(text, slots) == tokenizer.encode(rendered, add_special_tokens=False)


def test_the_policy_takes_about_fifty_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert 45 <= len(encode_text(tokenizer, POLICY)) <= 55
