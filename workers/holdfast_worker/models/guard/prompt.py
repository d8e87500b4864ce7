"""The prompt around an untrusted text, and the only ways text becomes token ids.

    before (chat template, image, policy) | text | m slots | after (end of turn, assistant header, answer prefix)

In the layout ``policy_first`` the policy stands before the image. ``before`` and ``after`` come from the checkpoint's
own chat template and may hold special tokens. Text and suffix are tokenised by the tokenizer's own vocabulary without
any added token, so that ``<|im_end|>`` or ``<image>`` typed by a user is mere characters; the same vocabulary is the
replacement alphabet.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from holdfast_worker.models.errors import InputRefusedError, ModelConfigError
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.policies import policy_text

# Stands for the text while the template is rendered; no template or policy holds it.
_TEXT_MARK = "[[the text goes here]]"


@dataclass(frozen=True, eq=False)
class Prompt:
    """The fixed part of every prompt of one guard, in token ids.

    Attributes:
        before: Ids up to the text, the image as one placeholder.
        image_at: Where in ``before`` that placeholder is.
        alone: Ids up to the text where no image is given; none where the guard needs one.
        after: Ids after the slots; the verdict is read at the last of them.
        alphabet: Ids that a masked slot is drawn from, ascending, shape (V,).
        filler: Id of an unused slot, in the alphabet.
        mask: Id the absorbing kernel writes, if the guard has one.
        unsafe: Ids whose summed probability is the verdict Unsafe; none where the answer is written and read.
        safe: Ids whose summed probability is the verdict Safe; likewise.
        ordinary: The tokenizer without its added tokens.
        ends: Ids that end an answer by the tokenizer's own word.
    """

    before: tuple[int, ...]
    image_at: int
    after: tuple[int, ...]
    alphabet: NDArray[np.int64]
    filler: int
    mask: int | None
    unsafe: tuple[int, ...]
    safe: tuple[int, ...]
    ordinary: Tokenizer
    ends: frozenset[int] = frozenset()
    alone: tuple[int, ...] = ()

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids of untrusted text, all of them in the alphabet.

        Raises:
            InputRefusedError: The tokenizer spells this text with a token outside the alphabet.
        """
        ids = np.array(self.ordinary.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        if outside := int(np.isin(ids, self.alphabet, invert=True).sum()):
            raise InputRefusedError(
                f"{outside} of {len(ids)} tokens of the text are outside the alphabet, all must be in it;"
                " remove characters that the tokenizer does not know"
            )
        return ids


def load_prompt(folder: Path, config: GuardConfig, *, image_token: int, embeddings: int) -> Prompt:
    """Reads the tokenizer and chat template of a checkpoint and fixes the prompt.

    Args:
        folder: Checkpoint folder.
        config: Policy, template and verdict tokens.
        image_token: Id of the model's image placeholder.
        embeddings: Rows of the model's token embedding; tokens beyond it are not in the alphabet.

    Raises:
        ModelConfigError: The template drops the text or the image, or a configured token is not one token.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelConfigError(f"tokenizer is a {type(tokenizer).__name__}, must be a fast one; add a tokenizer.json")
    ordinary = _without_added_tokens(tokenizer)
    before, after = _rendered(tokenizer, folder, config, tokenizer.convert_ids_to_tokens(image_token))
    before_ids = _begun(tokenizer, before)
    after_ids = _continued(tokenizer, after + config.answer_prefix)
    if before_ids.count(image_token) != 1 or image_token in after_ids:
        raise ModelConfigError(
            f"the prompt holds {[*before_ids, *after_ids].count(image_token)} image placeholders, must hold one before"
            " the text; correct the chat template, the policy or user_template"
        )
    added = set(tokenizer.added_tokens_decoder) | set(tokenizer.all_special_ids)
    alphabet = sorted(i for i in set(ordinary.get_vocab().values()) - added if i < embeddings)
    filler = _one_token(tokenizer, ordinary, config.filler_token)
    if filler not in alphabet:
        raise ModelConfigError(f"filler_token={config.filler_token!r} is special, must be ordinary; name another")
    verdicts = (config.unsafe_tokens, config.safe_tokens) if config.decision == "token_mass" else ((), ())
    unsafe, safe = (
        tuple(
            _following(tokenizer, after + config.answer_prefix, token)
            if config.answer_prefix
            else _one_token(tokenizer, ordinary, token)
            for token in variants
        )
        for variants in verdicts
    )
    return Prompt(
        before=tuple(before_ids),
        image_at=before_ids.index(image_token),
        after=tuple(after_ids),
        alphabet=np.array(alphabet, dtype=np.int64),
        filler=filler,
        mask=None if config.mask_token is None else _one_token(tokenizer, ordinary, config.mask_token),
        unsafe=unsafe,
        safe=safe,
        ordinary=ordinary,
        ends=frozenset() if tokenizer.eos_token_id is None else frozenset({int(tokenizer.eos_token_id)}),
        alone=_alone(tokenizer, folder, config, after, image_token) if config.text_alone else (),
    )


def _alone(
    tokenizer: PreTrainedTokenizerFast, folder: Path, config: GuardConfig, after: str, image_token: int
) -> tuple[int, ...]:
    """Ids up to the text of the prompt without an image, which otherwise ends as the one with it does."""
    before, end = _rendered(tokenizer, folder, config, None)
    ids = _begun(tokenizer, before)
    if image_token in ids or end != after:
        raise ModelConfigError(
            "text_alone needs a prompt that without an image has no placeholder and ends as with one, which this chat"
            " template does not write; correct the template, or drop text_alone"
        )
    return tuple(ids)


def _begun(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of a text that a prompt begins with."""
    return [*_opening(tokenizer, text), *tokenizer.encode(text, add_special_tokens=False)]


def _opening(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The special tokens that the tokenizer opens every prompt with, unless the template has written them."""
    if tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token):
        return []
    probe = tokenizer("x", return_special_tokens_mask=True)
    marks = probe["special_tokens_mask"]
    return list(probe["input_ids"][: marks.index(0)])


def _continued(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Ids of a text that stands behind another: some tokenizers mark where a text begins, which this one does not."""
    line, whole, alone = (
        [int(i) for i in tokenizer.encode(part, add_special_tokens=False)] for part in ("\n", "\n" + text, text)
    )
    return whole[len(line) :] if whole[: len(line)] == line else alone


def _without_added_tokens(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    stored = json.loads(tokenizer.backend_tokenizer.to_str())
    stored |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(stored))


def _one_token(tokenizer: PreTrainedTokenizerFast, ordinary: Tokenizer, token: str) -> int:
    added = tokenizer.get_added_vocab()
    if token in added:
        return added[token]
    pieces = ordinary.encode(token, add_special_tokens=False)
    if len(pieces.ids) != 1:
        raise ModelConfigError(
            f"token {token!r} splits into {pieces.tokens}, must be exactly one token; name a variant that is"
        )
    return int(pieces.ids[0])


def _following(tokenizer: PreTrainedTokenizerFast, text: str, token: str) -> int:
    """The id of a token that stands directly behind a text."""
    before, whole = _continued(tokenizer, text), _continued(tokenizer, text + token)
    if whole[:-1] != before:
        raise ModelConfigError(
            f"token {token!r} must be one token behind the answer_prefix and leave that as it is, and the tokenizer"
            " splits them otherwise; name another variant or end the prefix elsewhere"
        )
    return whole[-1]


def _rendered(
    tokenizer: PreTrainedTokenizerFast, folder: Path, config: GuardConfig, image: str | list[str] | None
) -> Sequence[str]:
    policy, content = policy_text(config.policy), [{"type": "image"}] if image is not None else []
    if (
        config.layout == "policy_first" and image is not None
    ):  # templates put an image first wherever it is listed, but not one in the text
        policy, content = f"{policy}\n{image}", []
    text = config.user_template.replace("{text}", _TEXT_MARK).replace("{policy}", policy)
    turn: Any = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
    rendered = tokenizer.apply_chat_template(
        [turn], chat_template=_processor_template(folder), tokenize=False, add_generation_prompt=True
    )
    parts = str(rendered).split(_TEXT_MARK)
    if len(parts) != 2:
        raise ModelConfigError(
            f"the chat template writes the user's text {len(parts) - 1} times, must write it once; correct the template"
        )
    return parts


def _processor_template(folder: Path) -> str | None:
    # Published LLaVA-OneVision folders keep the multimodal template beside a text-only one of the tokenizer's.
    path = folder / "chat_template.json"
    if not path.is_file():
        return None
    return str(json.loads(path.read_text("utf-8"))["chat_template"])
