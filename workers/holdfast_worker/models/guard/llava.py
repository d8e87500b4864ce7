"""The guard on transformers: a LLaVA model that answers Safe or Unsafe to a policy, a picture and a text.

One image draw serves every tail in every cell (maths.md §10): noise, preprocessing, the vision tower and the language
model's prefix run once per draw, and only the short tails differ. By default the verdict is one forward pass: the
summed probability of the Unsafe variants against that of the Safe ones at the last position. Otherwise the answer is
written and read (`generation`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from holdfast.contract.models import Cost, GuardInfo
from holdfast_worker.models.draws import (
    Draws,
    PreparedInput,
    finite,
    images_of_draws,
    margins_by_range,
    noisy_images,
    size,
    take,
)
from holdfast_worker.models.guard.branches import Branches, branches
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.generation import Writer
from holdfast_worker.models.guard.input import GuardInput, context_length
from holdfast_worker.models.guard.prefix import read_on
from holdfast_worker.models.guard.prompt import Prompt
from holdfast_worker.models.guard.tails import shared_with_last, tail_layout
from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.vision.image_path import ImagePath, Llava
from holdfast_worker.models.vision.preprocessing import Pixels


class LlavaGuard:
    """A loaded guard on transformers; see ``Guard``.

    Attributes:
        config: The guard's settings.
        fingerprint: Name of exactly this base classifier.
        device: Where it runs.
        batching: How many language-model positions (prefix and tails of all draws) one forward pass holds.
        clock: Seconds spent in each stage.
        cost: What a draw costs here, once it was measured.
        inputs: What prepares text and image.
        engine: None: everything runs in this process.
    """

    engine = None
    cost: Cost | None = None

    def __init__(
        self,
        model: Llava,
        *,
        prompt: Prompt,
        pixels: Pixels,
        config: GuardConfig,
        fingerprint: str,
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint
        self.device = model.device
        self.clock = StageClock(self.device)
        self.inputs = GuardInput(config, prompt, pixels, context_length(model.config.text_config), self.device)
        self.batching = self.inputs.batching()
        self._model = model
        self._prompt = prompt
        self._images = ImagePath.of(model.model, model.config, pixels, model.dtype)
        self._verdict = model.lm_head.weight[[*prompt.unsafe, *prompt.safe]].float()
        self._writer = Writer(model, config, prompt) if config.decision == "generate" else None
        self._opening: DynamicCache | None = None

    @property
    def architecture(self) -> Any:
        """The checkpoint's own configuration: the shapes of its vision tower and its language model."""
        return self._model.config

    @property
    def dtype(self) -> torch.dtype:
        """Number type of weights and activations."""
        found: torch.dtype = self._model.dtype
        return found

    @property
    def info(self) -> GuardInfo:
        """The guard as the API describes it."""
        return self.inputs.info(self.fingerprint, self.dtype, self.cost)

    @torch.inference_mode()
    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        """As ``Guard.margins``."""
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, draws in enumerate(batch):
            prepared = draws.prepared
            groups[prepared.pictured, len(prepared.prefix), *draws.tails.shape[1:]].append(index)
        order = [index for members in groups.values() for index in members]
        found = [m.flatten() for members in groups.values() for m in self._run([batch[i] for i in members])]
        values = torch.cat(found).cpu().numpy() if found else np.empty(0, dtype=np.float32)
        self.clock.settle()
        parts = margins_by_range([batch[index] for index in order], values, exact="float32")
        return [parts[at] for at in np.argsort(order)]

    @torch.inference_mode()
    def plain_margins(self, draws: Draws) -> NDArray[np.float32]:
        """As ``margins`` of one range, every pass by itself: nothing is packed, or shared between draws or tails.

        What sharing is held against; it takes as many runs of the vision tower as there are passes.
        """
        shape = draws.tails.shape[:3]
        found = [self._plain(draws.part(index, index + 1), *at) for index, *at in np.ndindex(shape)]
        return torch.stack(found).cpu().numpy().reshape(shape)

    def _plain(self, draw: Draws, tail: int, cell: int) -> Tensor:
        ids = [*draw.prepared.prefix.tolist(), *draw.tails[0, tail, cell], *self._prompt.after]
        embeddings = self._model.get_input_embeddings()(torch.tensor([ids], device=self.device))
        if draw.prepared.pictured:
            features, at = self._images.features(noisy_images(draw), StageClock(self.device)), self._prompt.image_at
            embeddings[:, at : at + features.shape[1]] = features
        if self._writer is not None:
            cache = DynamicCache()
            read_on(self._model.model.language_model, cache, inputs_embeds=embeddings[:, :-1])
            return self._writer.margins(cache, np.array([[[ids[-1:]]]]))[0, 0, 0]
        hidden = self._model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        return self._margins(hidden[0, -1])

    @torch.inference_mode()
    def branched_margins(
        self, inputs: Sequence[PreparedInput], *, seed: str, sigma: float, start: int, stop: int
    ) -> NDArray[np.float32]:
        """The margins of inputs that differ in their text alone, behind one reading of each draw's image.

        What their prompts begin with together is read once, where they part they branch (`branches`).

        Args:
            inputs: Inputs of one picture, without slots.
            seed: What the noise follows from.
            sigma: Standard deviation of the image noise, above 0.
            start: First draw index.
            stop: One past the last draw index.

        Returns:
            Shape (draws, inputs); above 0 is Unsafe.

        Raises:
            ValueError: The guard writes its answers, or the inputs do not share a picture.
        """
        first = inputs[0]
        if self._writer is not None or not first.pictured or any(each.clean is not first.clean for each in inputs):
            raise ValueError("texts branch behind one picture and one closing position; run each by itself")
        tree = branches([np.append(each.prefix.cpu().numpy(), self._prompt.after) for each in inputs])
        stem = replace(first, prefix=torch.as_tensor(tree.stem, device=self.device))
        read = partial(self._forward, read=partial(self._read_branches, tree=tree))
        draws = Draws(stem, seed, sigma, start, stop, np.empty((stop - start, 1, 1, 0), dtype=np.int64))
        units = len(tree.stem) + len(tree.tokens)
        found = torch.cat(list(self.batching.parts([draws], read, size=size, cut=take, units=units))).cpu().numpy()
        self.clock.settle()
        return finite(found, exact="float32")

    def _read_branches(self, batch: list[Draws], cache: DynamicCache, *, tree: Branches) -> Tensor:
        hidden = read_on(
            self._model.model.language_model,
            cache,
            input_ids=torch.as_tensor(tree.tokens, device=self.device).expand(size(batch), -1),
            attention_mask=tree.mask(self.device),
            position_ids=torch.as_tensor(len(tree.stem) + tree.depths, device=self.device)[None],
        ).last_hidden_state
        return self._margins(hidden[:, torch.as_tensor(tree.ends, device=self.device)])

    def _margins(self, hidden: Tensor) -> Tensor:
        """Log-odds of Unsafe against Safe behind the language model's last states, shape (..., hidden)."""
        logits = hidden.float() @ self._verdict.T
        unsafe, safe = logits.split([len(self._prompt.unsafe), len(self._prompt.safe)], dim=-1)
        margins: Tensor = unsafe.logsumexp(-1) - safe.logsumexp(-1)
        return margins

    def positions(self, prepared: PreparedInput, *, tails: int) -> int:
        """Language-model positions of one draw of an input, as ``batching`` counts them.

        Args:
            prepared: The input.
            tails: Tails of the draw, of all cells together.
        """
        prefix, slots = len(prepared.prefix), len(prepared.tail_base)
        if self._writer is not None:  # every tail has a prefix of its own and room for its answer
            return tails * (prefix + slots + self.inputs.closing)
        return prefix + tails * (slots + len(self._prompt.after))

    def room(self, prepared: PreparedInput, *, tails: int) -> int:
        """As ``Guard.room``."""
        return self.batching.room(self.positions(prepared, tails=tails))

    def _run(self, batch: list[Draws]) -> Iterator[Tensor]:
        """Runs ranges of one shape; yields margins (draws, tails, cells)."""
        positions = self.positions(batch[0].prepared, tails=batch[0].draw_passes)
        read = partial(self._forward, read=self._read_tails)
        return self.batching.parts(batch, read, size=size, cut=take, units=positions)

    def _forward(self, batch: list[Draws], read: Callable[[list[Draws], DynamicCache], Tensor]) -> Tensor:
        self.clock.begin()
        features = None
        if batch[0].prepared.pictured:
            images = torch.cat([noisy_images(draws) for draws in batch])
            self.clock.mark("noise")
            features = self._images.features(images, self.clock)
        cache = self._read_prefix(batch, features)
        self.clock.mark("prefix")
        margins = read(batch, cache)
        self.clock.mark("tails")
        return margins

    def _read_prefix(self, batch: list[Draws], features: Tensor | None) -> DynamicCache:
        embed = self._model.get_input_embeddings()
        texts = [embed(draws.prepared.prefix).expand(draws.images, -1, -1) for draws in batch]
        embeddings = torch.cat(texts)
        cache = DynamicCache()
        if features is not None:
            at = self._prompt.image_at
            embeddings[:, at : at + features.shape[1]] = features
            cache = self._begin(len(embeddings))
        unread = embeddings[:, cache.get_seq_length() :]
        read_on(self._model.model.language_model, cache, inputs_embeds=unread)
        if any(not draws.sigma for draws in batch):  # one image without noise stands for all draws of its range
            cache.batch_select_indices(images_of_draws(batch).to(self.device))
        return cache

    def _begin(self, rows: int) -> DynamicCache:
        """A cache of this many rows, with what stands before the image read if that is the policy: once for all."""
        if self.config.layout == "published":
            return DynamicCache()
        if self._opening is None:
            self._opening = DynamicCache()
            opening = torch.tensor([self._prompt.before[: self._prompt.image_at]], device=self.device)
            read_on(self._model.model.language_model, self._opening, input_ids=opening)
        layers: Any = self._opening.layers
        size = rows, -1, -1, -1
        return DynamicCache([(layer.keys.expand(size), layer.values.expand(size)) for layer in layers])

    def _read_tails(self, batch: list[Draws], cache: DynamicCache) -> Tensor:
        slots = np.concatenate([draws.tails for draws in batch])
        after = np.broadcast_to(self._prompt.after, (*slots.shape[:3], len(self._prompt.after)))
        tails = np.concatenate((slots, after), axis=3)
        if self._writer is not None:
            return self._writer.margins(cache, tails)
        layout = tail_layout(cache.get_seq_length(), tails.shape[3], shared_with_last(slots), self.device)
        tokens = tails.reshape(len(tails), -1)[:, layout.kept]
        hidden = read_on(
            self._model.model.language_model,
            cache,
            input_ids=torch.as_tensor(tokens, device=self.device),
            attention_mask=layout.mask,
            position_ids=layout.positions,
        ).last_hidden_state
        return self._margins(hidden[:, layout.last])
