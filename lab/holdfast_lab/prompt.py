"""How an input becomes token ids: `before | text | slots | after`, the very ids that the guard sees."""

from dataclasses import dataclass
from typing import Any, Final, cast

from transformers import PreTrainedTokenizerFast

from holdfast_lab.tokenizer import (
    FILLER,
    IMAGE,
    MASK,
    POLICY,
    SAFE_LABELS,
    UNSAFE_LABELS,
    USER_TEMPLATE,
    VIDEO,
)

# One 4×4 grid of patches and the newline embedding that closes it.
IMAGE_TOKENS: Final = 17
# Stands for the user's text while the template is rendered; a template never contains it.
_SENTINEL: Final = "\x00text\x00"


@dataclass(frozen=True)
class Prompt:
    """The fixed ids around the user's text, and the ids that noise and the verdict need.

    Attributes:
        before: ids up to the text, with the `IMAGE_TOKENS` image ids in place.
        after: ids from the end of the slots to the last position, whose logits hold the verdict.
        alphabet: every ordinary (non-special) token id: what a masked slot may become.
        filler: the id in a clean slot.
        mask: the id of a slot hidden by the absorbing kernel.
        image, video: the placeholder ids; no prompt of this guard contains a video.
        unsafe, safe: the ids of the label variants.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    alphabet: tuple[int, ...]
    filler: int
    mask: int
    image: int
    video: int
    unsafe: tuple[int, ...]
    safe: tuple[int, ...]

    def assemble(self, text: list[int], slots: list[int]) -> list[int]:
        """All ids of one input, in order."""
        return [*self.before, *text, *slots, *self.after]


def encode_text(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The ids of untrusted text: what looks like a special token in it is encoded as plain characters."""
    return cast(list[int], tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))


def _ids(tokenizer: PreTrainedTokenizerFast, tokens: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(cast(list[int], tokenizer.convert_tokens_to_ids(list(tokens))))


def build_prompt(tokenizer: PreTrainedTokenizerFast) -> Prompt:
    """Render the chat template with one user turn, cut it at the text and encode both pieces."""
    text = USER_TEMPLATE.format(policy=POLICY, text=_SENTINEL)
    turn: dict[str, Any] = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    rendered = cast(str, tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True))
    head, tail = rendered.split(_SENTINEL)
    image, video, mask, filler = _ids(tokenizer, (IMAGE, VIDEO, MASK, FILLER))
    before = tokenizer.encode(head, add_special_tokens=False)
    special = set(tokenizer.all_special_ids)
    return Prompt(
        before=tuple(i for token in before for i in ([image] * IMAGE_TOKENS if token == image else [token])),
        after=tuple(tokenizer.encode(tail, add_special_tokens=False)),
        alphabet=tuple(i for i in range(len(tokenizer)) if i not in special),
        filler=filler,
        mask=mask,
        image=image,
        video=video,
        unsafe=_ids(tokenizer, UNSAFE_LABELS),
        safe=_ids(tokenizer, SAFE_LABELS),
    )
