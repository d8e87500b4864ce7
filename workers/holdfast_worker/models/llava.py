"""The guard on transformers: a LLaVA-OneVision model that answers Safe or Unsafe to a policy, a picture and a text.

One image draw serves every token cell (maths.md §5): noise, preprocessing, the vision tower and the language model's
prefix run once per draw, and only the cells' short tails differ. The verdict is one forward pass: the summed
probability of the Unsafe variants against that of the Safe ones at the last position; nothing is generated.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, LlavaOnevisionForConditionalGeneration

from holdfast.certificates.kernels import BLOCK
from holdfast.contract.models import Limits, ModelInfo, NoiseSpace
from holdfast_worker.models.config import GuardConfig
from holdfast_worker.models.draws import Draws, PreparedInput, images_of_draws, noisy_images
from holdfast_worker.models.errors import GuardConfigError, GuardOutputError, InputRefusedError
from holdfast_worker.models.noise_space import require_image, resize_norm, to_noise_space
from holdfast_worker.models.preprocessing import Pixels, pack, to_tiles
from holdfast_worker.models.prompt import Prompt
from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.tails import shared_with_last, tail_layout

__all__ = ["LlavaGuard"]

# Language-model positions in one forward pass to begin with: on a CPU what stays in its caches, on a GPU what fills it.
_POSITIONS = {"cpu": 8192, "cuda": 131_072}


class LlavaGuard:
    """A loaded guard; one thread at a time may call it.

    Attributes:
        config: The guard's settings.
        fingerprint: Name of exactly this base classifier.
        batch_limit: Language-model positions (prefix and tails of all draws) in one forward pass at most; halved when
            the device runs out of memory.
        out_of_memory_total: How often that happened.
        clock: Seconds spent in each stage.
    """

    def __init__(
        self,
        model: LlavaOnevisionForConditionalGeneration,
        *,
        prompt: Prompt,
        pixels: Pixels,
        config: GuardConfig,
        fingerprint: str,
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.device = model.device
        self.batch_limit = _POSITIONS[self.device.type]
        self.out_of_memory_total = 0
        self.clock = StageClock(self.device)
        self._model = model
        self._prompt = prompt
        self._pixels = pixels
        text: Any = model.config.text_config
        window = text.sliding_window if "sliding_attention" in getattr(text, "layer_types", ()) else None
        self._context = min(text.max_position_embeddings, window or text.max_position_embeddings)
        self._require_context()
        self._verdict = model.lm_head.weight[[*prompt.unsafe, *prompt.safe]].float()

    @property
    def alphabet(self) -> NDArray[np.int64]:
        """Token ids that a masked slot is drawn from, ascending, shape (V,)."""
        return self._prompt.alphabet

    @property
    def mask_id(self) -> int | None:
        """Token id that the absorbing kernel writes, if the guard has one."""
        return self._prompt.mask

    @property
    def info(self) -> ModelInfo:
        """The guard as the API describes it."""
        config = self.config
        return ModelInfo(
            name=config.name,
            fingerprint=self.fingerprint,
            space=NoiseSpace(channels=3, height=config.noise_height, width=config.noise_width),
            alphabets=(len(self.alphabet),),
            defaults=config.defaults,
            limits=Limits(
                max_slots=config.max_slots,
                max_text_bytes=config.max_text_bytes,
                token_kernels=("uniform",) if config.mask_token is None else ("uniform", "absorbing"),
            ),
            false_flag=config.false_flag,
        )

    def prepare(self, text: str, suffix: str, image: NDArray[np.uint8], *, slots: int) -> PreparedInput:
        """Tokenises an input and copies its image to the device; the slots follow the text.

        Args:
            text: The user's text.
            suffix: The untrusted tail, if known; its tokens fill the slots.
            image: 8-bit RGB, shape (H, W, 3).
            slots: Reserved token slots m after the text.

        Raises:
            InputRefusedError: Something is too long for this guard, or the image is not 8-bit RGB.
        """
        if not 0 <= slots <= self.config.max_slots:
            raise InputRefusedError(f"slots={slots} must be 0 to {self.config.max_slots}; choose fewer slots")
        self._check_sizes(text + suffix, image)
        tail = self._prompt.encode(suffix)
        if len(tail) > slots:
            raise InputRefusedError(
                f"suffix has {len(tail)} tokens, must be at most slots={slots}; shorten it or raise slots"
            )
        filler = np.full(slots - len(tail), self._prompt.filler)
        return self._prepared(self._prompt.encode(text), np.append(tail, filler), image)

    def prepare_all_tokens(self, text: str, image: NDArray[np.uint8]) -> PreparedInput:
        """As ``prepare``, with every token of the text a slot: the l0 threat's input.

        Raises:
            InputRefusedError: As ``prepare``, or the text has no token.
        """
        self._check_sizes(text, image)
        tokens = self._prompt.encode(text)
        if not len(tokens):
            raise InputRefusedError("the text has 0 tokens, must have at least 1 for the l0 threat; write some text")
        return self._prepared(tokens[:0], tokens, image)

    def _prepared(self, text: NDArray[np.int64], tail: NDArray[np.int64], image: NDArray[np.uint8]) -> PreparedInput:
        prefix = self._prefix_ids(text)
        if (length := len(prefix) + len(tail) + len(self._prompt.after)) > self._context:
            raise InputRefusedError(
                f"the prompt has {length} tokens, must be at most {self._context}; shorten the text or lower slots"
            )
        space = self.config.noise_height, self.config.noise_width
        height, width = image.shape[:2]
        return PreparedInput(
            clean=to_noise_space(torch.tensor(image, device=self.device), space),
            prefix=torch.as_tensor(prefix, device=self.device),
            tail_base=tail,
            operator_norm=resize_norm((height, width), space),
        )

    def _require_context(self) -> None:
        fixed = len(self._prompt.before) - 1 + self._pixels.image_tokens + len(self._prompt.after)
        room = self._context - fixed - self.config.max_slots
        if self.config.max_text_bytes > room:
            raise GuardConfigError(
                f"max_text_bytes={self.config.max_text_bytes} must be at most {room}, so that any text fits the context"
                f" of {self._context} tokens beside policy, image and {self.config.max_slots} slots; lower it"
            )

    def _check_sizes(self, text: str, image: NDArray[np.uint8]) -> None:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            # Its message would quote the text.
            raise InputRefusedError("text holds a lone surrogate, must be valid Unicode; remove it") from None
        if size > self.config.max_text_bytes:
            raise InputRefusedError(
                f"text and suffix have {size} bytes, must be at most {self.config.max_text_bytes}; shorten them"
            )
        require_image(image)

    def _prefix_ids(self, text: NDArray[np.int64]) -> NDArray[np.int64]:
        before, at = self._prompt.before, self._prompt.image_at
        image = [before[at]] * self._pixels.image_tokens
        return np.concatenate(([*before[:at], *image, *before[at + 1 :]], text))

    def votes(self, batch: Sequence[Draws]) -> list[NDArray[np.bool_]]:
        """Runs the draws of any jobs and says which passes found Unsafe.

        Margins move by some 1e-6 with the shape of a batch (float32), so a vote that close to a tie may fall either
        way when it is redone in other company.

        Args:
            batch: Ranges of draws, in any mixture of jobs and shapes.

        Returns:
            For each range a boolean array (draws, cells); True is Unsafe, a tie is Safe.

        Raises:
            GuardOutputError: The model returned a number that is not finite.
            torch.OutOfMemoryError: A single draw does not fit the device.
        """
        return [margins > 0 for margins in self.margins(batch)]

    @torch.inference_mode()
    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        """The log-odds of Unsafe against Safe that ``votes`` compares with 0; arguments and errors as there.

        Returns:
            For each range a float32 array (draws, cells).
        """
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, draws in enumerate(batch):
            groups[len(draws.prepared.prefix), *draws.tails.shape[1:]].append(index)
        order = [index for members in groups.values() for index in members]
        found = [m.flatten() for members in groups.values() for m in self._run([batch[i] for i in members])]
        values = torch.cat(found).cpu().numpy() if found else np.empty(0, dtype=np.float32)
        self.clock.settle()
        if bad := values.size - int(np.isfinite(values).sum()):
            raise GuardOutputError(
                f"{bad} of {values.size} margins are not finite, all must be; check the weights or use dtype=float32"
            )
        ends = np.cumsum([draws.passes for draws in (batch[index] for index in order)])
        parts = dict(zip(order, np.split(values, ends), strict=False))
        return [parts[index].reshape(draws.tails.shape[:2]) for index, draws in enumerate(batch)]

    def _run(self, pending: list[Draws]) -> Iterator[Tensor]:
        """Runs ranges of one shape in as few forward passes as memory allows; yields margins (draws, cells)."""
        cells, slots = pending[0].tails.shape[1:]
        positions = len(pending[0].prepared.prefix) + cells * (slots + len(self._prompt.after))
        while pending:
            batch, rest = _take(pending, max(1, self.batch_limit // positions))
            margins = self._forward_or_shrink(batch, positions)
            if margins is not None:
                pending = rest
                yield margins

    def _forward_or_shrink(self, batch: list[Draws], positions: int) -> Tensor | None:
        try:
            return self._forward(batch)
        except torch.OutOfMemoryError:
            draws = sum(len(part.tails) for part in batch)
            if draws == 1:
                raise
            self.batch_limit = draws // 2 * positions
            self.out_of_memory_total += 1
        return None

    def _forward(self, batch: list[Draws]) -> Tensor:
        self.clock.begin()
        images = torch.cat([noisy_images(draws) for draws in batch])
        self.clock.mark("noise")
        tiles = to_tiles(images, self._pixels)
        self.clock.mark("preprocess")
        features = self._image_features(tiles)
        self.clock.mark("vision")
        cache = self._read_prefix(batch, features)
        self.clock.mark("prefix")
        margins = self._read_tails(batch, cache)
        self.clock.mark("tails")
        return margins

    def _image_features(self, tiles: Tensor) -> Tensor:
        inner = self._model.model
        layer = inner.config.vision_feature_layer
        layers = [layer] if isinstance(layer, int) else list(layer)
        # Naming the layers keeps only these; versions that know no names keep all, under the same indexes.
        hidden = inner.vision_tower(tiles.to(self._model.dtype), output_hidden_states=layers).hidden_states
        projected: Tensor = inner.multi_modal_projector(torch.cat([hidden[index] for index in layers], dim=-1))
        return pack(projected, inner.image_newline, self._pixels)

    def _read_prefix(self, batch: list[Draws], features: Tensor) -> DynamicCache:
        embed = self._model.get_input_embeddings()
        texts = [embed(draws.prepared.prefix).expand(draws.images, -1, -1) for draws in batch]
        embeddings = torch.cat(texts)
        at = self._prompt.image_at
        embeddings[:, at : at + features.shape[1]] = features
        cache = DynamicCache()
        self._model.model.language_model(inputs_embeds=embeddings, past_key_values=cache, use_cache=True)
        if any(not draws.sigma for draws in batch):  # one image without noise stands for all draws of its range
            cache.batch_select_indices(images_of_draws(batch).to(self.device))
        return cache

    def _read_tails(self, batch: list[Draws], cache: DynamicCache) -> Tensor:
        slots = np.concatenate([draws.tails for draws in batch])
        after = np.broadcast_to(self._prompt.after, (*slots.shape[:2], len(self._prompt.after)))
        tails = np.concatenate((slots, after), axis=2)
        layout = tail_layout(cache.get_seq_length(), tails.shape[2], shared_with_last(slots), self.device)
        tokens = tails.reshape(len(tails), -1)[:, layout.kept]
        hidden = self._model.model.language_model(
            input_ids=torch.as_tensor(tokens, device=self.device),
            attention_mask=layout.mask,
            position_ids=layout.positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = hidden[:, layout.last].float() @ self._verdict.T
        unsafe, safe = logits.split([len(self._prompt.unsafe), len(self._prompt.safe)], dim=-1)
        margins: Tensor = unsafe.logsumexp(-1) - safe.logsumexp(-1)
        return margins


def _take(pending: list[Draws], most: int) -> tuple[list[Draws], list[Draws]]:
    """Cuts off the first ``most`` draws, at a generator's block where that is possible."""
    room = most - most % BLOCK if most > BLOCK else most
    for index, draws in enumerate(pending):
        if room == 0:
            return pending[:index], pending[index:]
        count = len(draws.tails)
        if count > room:
            rest = [draws.part(room, count), *pending[index + 1 :]]
            return [*pending[:index], draws.part(0, room)], rest
        room -= count
    return pending, []
