"""The guard on vLLM: noise, tiles and vision tower in torch, the language model in vLLM's engine.

All tails of a draw are submitted together, so that the engine computes the prefix they share once and finds it in its
prefix cache for the others; prompts that coincide are submitted once. The engine is another program: it may die while
the worker lives, which `EngineLostError` says and `restore` mends.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast.contract.models import Cost, GuardInfo
from holdfast_worker.models.draws import Draws, PreparedInput, margins_by_range, noisy_images, size, take
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.input import GuardInput
from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.vision.image_path import ImagePath
from holdfast_worker.models.vllm.engine import Engine, Prompts


class VllmGuard:
    """A loaded guard on vLLM; see ``Guard``.

    Attributes:
        config: The guard's settings.
        fingerprint: Name of exactly this base classifier.
        inputs: What prepares text and image.
        device: Where noise and vision tower run.
        batching: How many image positions of all draws one pass of the vision tower and one call of the engine hold.
        engine: What runs the language model.
        cost: What a draw costs here, once it was measured.
        clock: Seconds spent in each stage; the engine's stand under ``tails``, the prefix included.
    """

    cost: Cost | None = None

    def __init__(self, inputs: GuardInput, images: ImagePath, engine: Engine, *, fingerprint: str) -> None:
        self.config: GuardConfig = inputs.config
        self.fingerprint = fingerprint
        self.inputs = inputs
        self.device = inputs.device
        self.batching = inputs.batching()
        self.clock = StageClock(inputs.device)
        self._prompt = inputs.prompt
        self._images = images
        self.engine = engine

    @property
    def info(self) -> GuardInfo:
        """The guard as the API describes it."""
        return self.inputs.info(self.fingerprint, self.dtype, self.cost)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of weights and activations."""
        return self._images.dtype

    @torch.inference_mode()
    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        """As ``Guard.margins``."""
        units = self.inputs.pixels.image_tokens
        found = list(self.batching.parts(list(batch), self._read, size=size, cut=take, units=units))
        self.clock.settle()
        return margins_by_range(batch, np.concatenate([np.empty(0, np.float32), *found]), exact="float32")

    def room(self, prepared: PreparedInput, *, tails: int) -> int:
        """Draws that one call of the engine takes, however many their tails are."""
        return self.batching.room(self.inputs.pixels.image_tokens)

    def _read(self, part: list[Draws]) -> NDArray[np.float32]:
        """The margins of these ranges' passes, one behind the other."""
        self.clock.begin()
        images = torch.cat([noisy_images(draws) for draws in part])
        self.clock.mark("noise")
        features = self._images.features(images, self.clock).cpu()
        prompts, answered_by = self._prompts(part, features)
        found = self.engine.logprobs(prompts).astype(np.float64)
        self.clock.mark("tails")
        unsafe, safe = np.split(found, [len(self._prompt.unsafe)], axis=1)
        with np.errstate(invalid="ignore"):  # what is not finite is refused once all is known
            margins = np.logaddexp.reduce(unsafe, axis=1) - np.logaddexp.reduce(safe, axis=1)
        found32: NDArray[np.float32] = margins.astype(np.float32)[answered_by]
        return found32

    def _prompts(self, part: list[Draws], features: torch.Tensor) -> tuple[Prompts, list[int]]:
        """Every different prompt of these ranges, all of a draw's together, and which of them answers each pass."""
        at, after = self._prompt.image_at, np.array(self._prompt.after, dtype=np.int64)
        number: dict[tuple[int, bytes], int] = {}
        ids: list[NDArray[np.int64]] = []
        images: list[int] = []
        answered_by: list[int] = []
        first = 0
        for draws in part:
            prefix = draws.prepared.prefix.cpu().numpy()
            prefix = np.concatenate((prefix[: at + 1], prefix[at + features.shape[1] :]))
            for draw, *at_tail in np.ndindex(draws.tails.shape[:3]):
                image, tail = first + (draw if draws.sigma else 0), draws.tails[draw, *at_tail]
                key = image, tail.tobytes()
                if key not in number:
                    number[key] = len(ids)
                    ids.append(np.concatenate((prefix, tail, after)))
                    images.append(image)
                answered_by.append(number[key])
            first += draws.images
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        return Prompts(features, np.array(images, dtype=np.int64), np.concatenate(ids), lengths), answered_by
