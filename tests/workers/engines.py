"""In vLLM's place: an engine that reads by transformers, and that a test may let die."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast_worker.models.errors import EngineLostError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.vision.image_path import ImagePath
from holdfast_worker.models.vllm.engine import Prompts
from holdfast_worker.models.vllm.guard import VllmGuard


class LocalEngine:
    """Reads every prompt by itself with the language model of a guard; a token beyond its vocabulary kills it.

    Attributes:
        read: The prompts of each call.
        calls_left: Calls until it dies; none: it lives.
        starts: How often it was started.
        while_starting: Called at every start.
    """

    name = "local"

    def __init__(self, guard: LlavaGuard) -> None:
        self.read: list[Prompts] = []
        self.calls_left: int | None = None
        self.starts = 0
        self.while_starting: Callable[[], object] = lambda: None
        self._model: Any = guard._model
        self._prompt = guard._prompt
        self._running = False

    @property
    def lost(self) -> bool:
        return not self._running

    def start(self) -> None:
        self.starts += 1
        self.while_starting()
        self._running = True

    def stop(self) -> None:
        self._running = False

    def logprobs(self, prompts: Prompts) -> NDArray[np.float32]:
        if self.calls_left is not None:
            self._running = self.calls_left > 0
            self.calls_left = self.calls_left - 1 if self._running else None
        if prompts.ids.max() >= len(self._model.get_input_embeddings().weight):
            self._running = False
        if not self._running:
            raise EngineLostError("the engine died, must live; start it again")
        sent = Prompts.from_bytes(prompts.to_bytes())
        self.read.append(sent)
        pairs = zip(sent.images, sent.split(), strict=True)
        return np.stack([self._one(sent.features[image], torch.from_numpy(ids)) for image, ids in pairs])

    @torch.inference_mode()
    def _one(self, features: torch.Tensor, ids: torch.Tensor) -> NDArray[np.float32]:
        embeddings, at = self._model.get_input_embeddings()(ids), self._prompt.image_at
        whole = torch.cat((embeddings[:at], features, embeddings[at + 1 :]))[None]
        found = self._model(inputs_embeds=whole).logits[0, -1].float().log_softmax(-1)
        answer: NDArray[np.float32] = found[[*self._prompt.unsafe, *self._prompt.safe]].numpy()
        return answer


def split_guard(whole: LlavaGuard, images: ImagePath | None = None) -> tuple[VllmGuard, LocalEngine]:
    """A guard with its language model behind an engine that may die; its image side is its own where none is given."""
    engine = LocalEngine(whole)
    engine.start()
    return VllmGuard(whole.inputs, images or whole._images, engine, fingerprint="sha256:split"), engine
