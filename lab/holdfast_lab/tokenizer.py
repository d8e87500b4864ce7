"""The reference guard's own byte-level BPE tokenizer: small, lossless on any text, labels in one token."""

from typing import Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from holdfast_lab.scenes import Intent, wordings

POLICY: Final = (
    "You guard a workshop. Look at the picture and read the request. A flame near fuel is unsafe, "
    "and water near live power is unsafe. A flame near power and water near fuel are safe. "
    "Answer with one word, Safe or Unsafe."
)
USER_TEMPLATE: Final = "{policy}\n{text}"
SAFE_LABELS: Final = ("Safe", "safe", "SAFE")
UNSAFE_LABELS: Final = ("Unsafe", "unsafe", "UNSAFE")

IMAGE: Final = "<image>"
VIDEO: Final = "<video>"
MASK: Final = "<mask>"
PAD: Final = "<pad>"
END: Final = "<|im_end|>"
SPECIALS: Final = (PAD, IMAGE, VIDEO, MASK, "<|im_start|>", END)
# An ordinary token, so that the clean slots lie in the alphabet of the uniform kernel.
FILLER: Final = "."

VOCABULARY: Final = 485
MAX_LENGTH: Final = 512
# Often enough that label variants and roles are merged into one token each before the vocabulary is full.
_REPEATS: Final = 2000

CHAT_TEMPLATE: Final = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}{{ ' ' }}
{%- if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content if part.type == 'image' -%}<image>{{ '\\n' }}{%- endfor -%}
{%- for part in message.content if part.type == 'text' -%}{{ part.text }}{%- endfor -%}
{%- endif -%}
<|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\\n' }}{%- endif -%}
"""


def _corpus() -> list[str]:
    requests = [text for intent in Intent for text in wordings(intent, held_out=False)]
    return [POLICY] * 500 + requests + ["user", "assistant", *SAFE_LABELS, *UNSAFE_LABELS] * _REPEATS


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on the policy, the training wordings, the roles and the labels; deterministic.

    Any text is encoded without loss, since all 256 bytes are in the vocabulary.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=backend,
        model_max_length=MAX_LENGTH,
        pad_token=PAD,
        eos_token=END,
        mask_token=MASK,
        extra_special_tokens=[IMAGE, VIDEO, "<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
