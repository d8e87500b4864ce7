"""What a multimodal guard takes in, whatever runs its language model: text and image made ready for draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.certificates import suffix_draws
from holdfast.certificates.noise.kernels import SuffixDraws
from holdfast.contract.guard.spec import Cell, GuardSpec
from holdfast.contract.models import Cost, GuardInfo, Limits, NoiseSpace
from holdfast.queue.jobs import JobInput
from holdfast_worker.models.batching import Batching
from holdfast_worker.models.draws import PreparedInput
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError
from holdfast_worker.models.examples import TEXTS, picture_png
from holdfast_worker.models.guard.announced import default_spec, tails_worth, tie_band, with_cost, with_tails
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.prompt import Prompt
from holdfast_worker.models.vision.noise_space import decoded, require_image, to_noise_space
from holdfast_worker.models.vision.preprocessing import Pixels
from holdfast_worker.noise import cell_masks, kernel_of, replace_tokens

# Positions in one forward pass to begin with: on a CPU what stays in its caches, on a GPU what fills it.
_POSITIONS = {"cpu": 8192, "cuda": 131_072}


@dataclass(frozen=True, eq=False)
class GuardInput:
    """The input side of one guard.

    Attributes:
        config: The guard's settings.
        prompt: The fixed part of every prompt.
        pixels: The tiling of an image.
        context: Positions that the language model can read.
        device: Where prepared inputs lie.

    Raises:
        ModelConfigError: Not every text that the settings allow fits the context.
    """

    config: GuardConfig
    prompt: Prompt
    pixels: Pixels
    context: int
    device: torch.device

    def __post_init__(self) -> None:
        fixed = len(self.prompt.before) - 1 + self.pixels.image_tokens + self.closing
        room = self.context - fixed - self.config.max_slots
        if self.config.max_text_bytes > room:
            raise ModelConfigError(
                f"max_text_bytes={self.config.max_text_bytes} must be at most {room}, so that any text fits the context"
                f" of {self.context} tokens beside policy, image and {self.config.max_slots} slots; lower it"
            )

    @property
    def closing(self) -> int:
        """Positions behind the slots: the closing tokens, and the answer where one is written."""
        written = self.config.max_new_tokens if self.config.decision == "generate" else 0
        return len(self.prompt.after) + written

    def batching(self) -> Batching:
        """How many positions one forward pass holds, to begin with."""
        return Batching(self.config.batch_limit or _POSITIONS[self.device.type])

    def info(self, fingerprint: str, dtype: torch.dtype, cost: Cost | None = None) -> GuardInfo:
        """The guard of this fingerprint as the API describes it.

        Args:
            fingerprint: Its name.
            dtype: Number type of weights and activations.
            cost: What its draws cost, where that was measured.
        """
        config = self.config
        info = GuardInfo(
            name=config.name,
            fingerprint=fingerprint,
            space=NoiseSpace(channels=3, height=config.noise_height, width=config.noise_width),
            alphabets=(len(self.prompt.alphabet),),
            text_alone=config.text_alone,
            defaults=config.defaults,
            limits=Limits(
                max_slots=config.max_slots,
                max_text_bytes=config.max_text_bytes,
                token_kernels=("uniform",) if config.mask_token is None else ("uniform", "absorbing"),
            ),
            tie_band=tie_band(config.tie_band, dtype),
            false_flag=config.false_flag,
            notes=tuple(_notes(config, self.pixels)),
        )
        spec = default_spec(info, self.example(0))
        if "tails" not in config.defaults.model_fields_set:
            tail = len(spec.cells) * (spec.slots + self.closing)
            info = with_tails(info, tails_worth(self.prefill, tail))
            spec = spec.model_copy(update={"tails": info.defaults.tails})
        return with_cost(info, cost, spec)

    @property
    def prefill(self) -> int:
        """Positions before the text that are read once for every image draw; a policy before the image is not."""
        once = self.prompt.image_at if self.config.layout == "policy_first" else 0
        return len(self.prompt.before) - 1 + self.pixels.image_tokens - once

    def example(self, index: int) -> JobInput:
        """As ``GuardInputs.example``: a text that a safety policy lets pass or one that it does not, and a picture."""
        text = TEXTS[index][: self.config.max_text_bytes]
        return JobInput(text=text, image_png=picture_png(index, self.config.noise_height, self.config.noise_width))

    def noised(  # noqa: D102 - as the protocol says
        self, spec: GuardSpec, base: NDArray[np.int64], cells: Sequence[Cell], *, seed: str, start: int, stop: int
    ) -> NDArray[np.int64]:
        # The tails of a draw are as many slots, one behind the other (``holdfast.certificates.tail_masks``).
        shape = stop - start, spec.tails, len(base)
        kernel = kernel_of(spec.token_kernel, spec.beta, spec.alphabets[0])
        natural = suffix_draws(kernel, slots=spec.tails * len(base), seed=seed, start=start, stop=stop, strata=0)
        replacement = None if natural.replacement is None else natural.replacement.reshape(shape)
        noise = SuffixDraws(cell_masks(natural.masked[:, 0].reshape(shape), cells), replacement)
        return replace_tokens(noise, base, self.prompt.alphabet, self.prompt.mask)

    def prepare_job(self, spec: GuardSpec, given: JobInput) -> PreparedInput:
        """As ``GuardInputs.prepare_job``."""
        image = decoded(given.image_png) if given.image_png else None
        if image is None and spec.sigma > 0:
            raise InputRefusedError(f"sigma={spec.sigma} must be 0 where no image is given; give one")
        if spec.text == "l0":
            return self.prepare_all_tokens(given.text, image)
        if spec.scope == "shared":
            return self.prepare(given.text, given.suffix, image, slots=spec.slots)
        slots = [cell.slots for cell in spec.cells]
        if given.suffix and 0 in slots:
            size = len(given.suffix.encode())
            raise InputRefusedError(
                f"the suffix has {size} bytes, must be empty where per_budget asks for budget 0, whose guard has no"
                " slot; drop it, ask for a target, or use scope=shared"
            )
        return self.prepare(given.text, given.suffix, image, slots=max(slots))

    def prepare(self, text: str, suffix: str, image: NDArray[np.uint8] | None, *, slots: int) -> PreparedInput:
        """Tokenises an input and copies its image to the device; the slots follow the text.

        Args:
            text: The user's text.
            suffix: The untrusted tail, if known; its tokens fill the slots.
            image: 8-bit RGB, shape (H, W, 3), or None for a text alone.
            slots: Reserved token slots m after the text.

        Raises:
            InputRefusedError: Something is too long for this guard, or the image is not 8-bit RGB, or missing.
        """
        if not 0 <= slots <= self.config.max_slots:
            raise InputRefusedError(f"slots={slots} must be 0 to {self.config.max_slots}; choose fewer slots")
        self._check_sizes(text + suffix, image)
        tail = self.prompt.encode(suffix)
        if len(tail) > slots:
            raise InputRefusedError(
                f"suffix has {len(tail)} tokens, must be at most slots={slots}; shorten it or raise slots"
            )
        filler = np.full(slots - len(tail), self.prompt.filler)
        return self._prepared(self.prompt.encode(text), np.append(tail, filler), image)

    def prepare_all_tokens(self, text: str, image: NDArray[np.uint8] | None) -> PreparedInput:
        """As ``prepare``, with every token of the text a slot: the l0 threat's input.

        Raises:
            InputRefusedError: As ``prepare``, or the text has no token.
        """
        self._check_sizes(text, image)
        tokens = self.prompt.encode(text)
        if not len(tokens):
            raise InputRefusedError("the text has 0 tokens, must have at least 1 for the l0 threat; write some text")
        return self._prepared(tokens[:0], tokens, image)

    def prepare_truncations(self, text: str, image: NDArray[np.uint8], *, most: int) -> tuple[PreparedInput, ...]:
        """The text with 0, 1, 2 and more code points erased from its end, each as ``prepare`` makes it, without slots.

        Each is tokenised and measured from scratch: what a tokenizer makes of a text need not begin with what it makes
        of the text's beginning. The picture is theirs together. All may be erased; then the guard reads no text at all.

        Args:
            text: The user's text, as it came.
            image: 8-bit RGB, shape (H, W, 3).
            most: C, code points that are erased at most.

        Returns:
            min(most, code points of the text) + 1 inputs.

        Raises:
            InputRefusedError: As ``prepare``, of the text or of any truncation.
        """
        whole = self.prepare(text, "", image, slots=0)
        shorter = [text[: len(text) - erased] for erased in range(1, min(most, len(text)) + 1)]
        tokens = (self._prefix(self.prompt.encode(one), slots=0, pictured=True) for one in shorter)
        return whole, *(replace(whole, prefix=ids) for ids in tokens)

    def _prefix(self, text: NDArray[np.int64], *, slots: int, pictured: bool) -> Tensor:
        """The ids up to the slots, on the device, where the whole prompt fits the context."""
        ids = self._prefix_ids(text) if pictured else np.append(np.array(self.prompt.alone, np.int64), text)
        if (length := len(ids) + slots + self.closing) > self.context:
            raise InputRefusedError(
                f"the prompt has {length} tokens, must be at most {self.context}; shorten the text or lower slots"
            )
        return torch.as_tensor(ids, device=self.device)

    def _prepared(
        self, text: NDArray[np.int64], tail: NDArray[np.int64], image: NDArray[np.uint8] | None
    ) -> PreparedInput:
        ids = self._prefix(text, slots=len(tail), pictured=image is not None)
        if image is None:
            return PreparedInput(clean=torch.empty(0, device=self.device), prefix=ids, tail_base=tail)
        space = self.config.noise_height, self.config.noise_width
        return PreparedInput(
            clean=to_noise_space(torch.tensor(image), space).to(self.device),
            prefix=ids,
            tail_base=tail,
        )

    def _check_sizes(self, text: str, image: NDArray[np.uint8] | None) -> None:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            # Its message would quote the text.
            raise InputRefusedError("text holds a lone surrogate, must be valid Unicode; remove it") from None
        if size > self.config.max_text_bytes:
            raise InputRefusedError(
                f"text and suffix have {size} bytes, must be at most {self.config.max_text_bytes}; shorten them"
            )
        if image is not None:
            require_image(image)
        elif not self.config.text_alone:
            raise InputRefusedError("no image is given, must be for this guard; give one, or serve it with text_alone")

    def _prefix_ids(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        before, at = self.prompt.before, self.prompt.image_at
        image = [before[at]] * self.pixels.image_tokens
        return np.concatenate(([*before[:at], *image, *before[at + 1 :]], text))


def _notes(config: GuardConfig, pixels: Pixels) -> Iterator[str]:
    """In which respects the guard is not asked as its model is published to be."""
    if config.tiles == "base" and pixels.newline:
        yield "The guard sees each image as one tile, not in the tiling that its architecture publishes."
    if config.layout == "policy_first":
        yield "The guard reads its policy before the image, not after it as its model publishes (layout policy_first)."
    if config.decision == "generate":
        sought = {"word": "first word", "json_rating": "JSON rating"}[config.answer]
        yield (
            f"The guard's vote is the {sought} of an answer that it writes greedily, of {config.max_new_tokens} tokens"
            f" at most. An answer that gives neither verdict counts as {config.unparseable.title()} and is not asked"
            " again."
        )


def context_length(text: Any) -> int:
    """Positions that a language model of this configuration can read."""
    # Where no types of layers are named, a window is every layer's (Mistral).
    slides = "sliding_attention" in (getattr(text, "layer_types", None) or ("sliding_attention",))
    window = getattr(text, "sliding_window", None) if slides else None
    longest: int = text.max_position_embeddings
    return min(longest, window or longest)
