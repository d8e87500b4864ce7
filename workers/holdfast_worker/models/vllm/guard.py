"""The guard on vLLM: noise, tiles and vision tower in torch, the language model in vLLM's engine.

The cells of a draw are submitted together, so that the engine computes the prefix they share once and finds it in its
prefix cache for the others; tails that coincide are submitted once. The engine is another program: it may die while the
worker lives, which `EngineLostError` says and `restore` mends.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast.contract.models import GuardInfo
from holdfast_worker.models.draws import Draws, noisy_images, take
from holdfast_worker.models.errors import ModelOutputError
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.input import GuardInput
from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.vision.image_path import ImagePath
from holdfast_worker.models.vllm.engine import Engine, Prompts

__all__ = ["VllmGuard"]

# Image positions in one pass of the vision tower and one call of the engine, to begin with.
_POSITIONS = {"cpu": 8192, "cuda": 131_072}


class VllmGuard:
    """A loaded guard; one thread at a time may call it.

    Attributes:
        config: The guard's settings.
        fingerprint: Name of exactly this base classifier.
        inputs: What prepares text and image.
        device: Where noise and vision tower run.
        batch_limit: Image positions of all draws in one call of the engine at most; halved when the device runs out of
            memory.
        out_of_memory_total: How often that happened.
        clock: Seconds spent in each stage; the engine's stand under ``tails``, the prefix included.
    """

    def __init__(self, inputs: GuardInput, images: ImagePath, engine: Engine, *, fingerprint: str) -> None:
        self.config: GuardConfig = inputs.config
        self.fingerprint = fingerprint
        self.inputs = inputs
        self.device = inputs.device
        self.batch_limit = inputs.config.batch_limit or _POSITIONS[inputs.device.type]
        self.out_of_memory_total = 0
        self.clock = StageClock(inputs.device)
        self._prompt = inputs.prompt
        self._images = images
        self._engine = engine

    @property
    def alphabet(self) -> NDArray[np.int64]:
        """Token ids that a masked slot is drawn from, ascending, shape (V,)."""
        return self._prompt.alphabet

    @property
    def mask_id(self) -> int | None:
        """Token id that the absorbing kernel writes, if the guard has one."""
        return self._prompt.mask

    @property
    def info(self) -> GuardInfo:
        """The guard as the API describes it."""
        return self.inputs.info(self.fingerprint)

    @property
    def lost(self) -> bool:
        """Whether the engine has died, so that nothing can be answered before ``restore``."""
        return self._engine.lost

    def restore(self) -> None:
        """Starts the engine again.

        Raises:
            ModelConfigError: It no longer takes the checkpoint.
            EngineLostError: It died again at once.
        """
        self._engine.start()

    def close(self) -> None:
        """Ends the engine."""
        self._engine.stop()

    def votes(self, batch: Sequence[Draws]) -> list[NDArray[np.bool_]]:
        """Runs the draws of any jobs and says which passes found Unsafe.

        Args:
            batch: Ranges of draws, in any mixture of jobs and shapes.

        Returns:
            For each range a boolean array (draws, cells); True is Unsafe, a tie is Safe.

        Raises:
            EngineLostError: The engine died; none of the draws is answered.
            ModelOutputError: The model returned a number that is not finite.
            torch.OutOfMemoryError: A single draw does not fit the device.
        """
        return [margins > 0 for margins in self.margins(batch)]

    @torch.inference_mode()
    def margins(self, batch: Sequence[Draws]) -> list[NDArray[np.float32]]:
        """The log-odds of Unsafe against Safe that ``votes`` compares with 0; arguments and errors as there.

        Returns:
            For each range a float32 array (draws, cells).
        """
        pending, found = list(batch), [np.empty(0, dtype=np.float32)]
        while pending:
            part, rest = take(pending, max(1, self.batch_limit // self.inputs.pixels.image_tokens))
            margins = self._read_or_shrink(part)
            if margins is not None:
                pending = rest
                found.append(margins)
        self.clock.settle()
        values = np.concatenate(found)
        if bad := values.size - int(np.isfinite(values).sum()):
            raise ModelOutputError(
                f"{bad} of {values.size} margins are not finite, all must be; check the weights or use dtype=float32"
            )
        parts = np.split(values, np.cumsum([draws.passes for draws in batch]))
        return [part.reshape(draws.tails.shape[:2]) for draws, part in zip(batch, parts, strict=False)]

    def _read_or_shrink(self, part: list[Draws]) -> NDArray[np.float32] | None:
        try:
            return self._read(part)
        except torch.OutOfMemoryError:
            draws = sum(len(range_.tails) for range_ in part)
            if draws == 1:
                raise
            self.batch_limit = draws // 2 * self.inputs.pixels.image_tokens
            self.out_of_memory_total += 1
        return None

    def _read(self, part: list[Draws]) -> NDArray[np.float32]:
        """The margins of these ranges' passes, one behind the other."""
        self.clock.begin()
        images = torch.cat([noisy_images(draws) for draws in part])
        self.clock.mark("noise")
        features = self._images.features(images, self.clock).cpu()
        prompts, answered_by = self._prompts(part, features)
        found = self._engine.logprobs(prompts).astype(np.float64)
        self.clock.mark("tails")
        unsafe, safe = np.split(found, [len(self._prompt.unsafe)], axis=1)
        with np.errstate(invalid="ignore"):  # what is not finite is refused once all is known
            margins = np.logaddexp.reduce(unsafe, axis=1) - np.logaddexp.reduce(safe, axis=1)
        found32: NDArray[np.float32] = margins.astype(np.float32)[answered_by]
        return found32

    def _prompts(self, part: list[Draws], features: torch.Tensor) -> tuple[Prompts, list[int]]:
        """Every different prompt of these ranges, a draw's cells together, and which of them answers each pass."""
        at, after = self._prompt.image_at, np.array(self._prompt.after, dtype=np.int64)
        number: dict[tuple[int, bytes], int] = {}
        ids: list[NDArray[np.int64]] = []
        images: list[int] = []
        answered_by: list[int] = []
        first = 0
        for draws in part:
            prefix = draws.prepared.prefix.cpu().numpy()
            prefix = np.concatenate((prefix[: at + 1], prefix[at + features.shape[1] :]))
            for draw, cell in np.ndindex(draws.tails.shape[:2]):
                image, tail = first + (draw if draws.sigma else 0), draws.tails[draw, cell]
                key = image, tail.tobytes()
                if key not in number:
                    number[key] = len(ids)
                    ids.append(np.concatenate((prefix, tail, after)))
                    images.append(image)
                answered_by.append(number[key])
            first += draws.images
        lengths = np.array([len(one) for one in ids], dtype=np.int64)
        return Prompts(features, np.array(images, dtype=np.int64), np.concatenate(ids), lengths), answered_by
