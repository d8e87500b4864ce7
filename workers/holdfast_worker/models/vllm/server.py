"""An engine that somebody else runs: ``vllm serve`` with prompt embeddings, asked over HTTP.

The OpenAI routes take an image's features only inside a chat, whose template would turn the tail's tokens into text and
back. So whole prompts are sent as embeddings. Against an engine beside the worker that costs the language model's
embedding table in the worker's memory, the prefix once per cell on the wire, and the check of the server's weights: its
operator answers for their being the folder's.
"""

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast_worker.models.errors import EngineLostError, ModelConfigError, ModelOutputError
from holdfast_worker.models.vllm.engine import Prompts

_BODY_BYTES = 64 << 20  # embeddings in one request
_ANSWER_S = 600.0
_PAUSE_S = 1.0


class ServerEngine:
    """A running server. It is started again by whoever runs it; ``start`` waits for that."""

    name = "vllm-server"

    def __init__(
        self,
        url: str,
        embedding: Tensor,
        *,
        image_token: int,
        verdict: tuple[int, ...],
        context: int,
        patience_s: float = 300.0,
    ) -> None:
        """Prepares to ask a server; nothing is sent before ``start``.

        Args:
            url: Where it listens, without ``/v1``.
            embedding: The language model's token embedding, shape (vocabulary, hidden), on the CPU.
            image_token: Id of the placeholder that an image's features stand in for.
            verdict: Token ids whose log-probabilities are wanted.
            context: Positions that a prompt and its answering token may take.
            patience_s: How long ``start`` waits for the server.
        """
        self._client = httpx.Client(base_url=url, timeout=_ANSWER_S)
        self._embedding = embedding
        self._image_token = image_token
        self._verdict = verdict
        self._context = context
        self._patience_s = patience_s
        self._model: str | None = None

    @property
    def lost(self) -> bool:
        """As ``Engine.lost``."""
        return self._model is None

    def start(self) -> None:
        """As ``Engine.start``."""
        self._model = None
        served = self._served()
        if len(served) != 1:
            names = [model["id"] for model in served]
            raise ModelConfigError(f"the vLLM server serves {names}, must serve one model; start one for this guard")
        length = served[0].get("max_model_len") or 0
        if length < self._context:
            raise ModelConfigError(
                f"the vLLM server has max_model_len={length}, must be at least {self._context}; start it with"
                f" --max-model-len {self._context}"
            )
        self._model = served[0]["id"]

    def logprobs(self, prompts: Prompts) -> NDArray[np.float32]:
        """As ``Engine.logprobs``."""
        rows = [row for texts in self._bodies(prompts) for row in self._ask(texts)]
        return np.array(rows, dtype=np.float32)

    def stop(self) -> None:
        """Closes the connections; the server runs on."""
        self._client.close()

    def _served(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                answer = self._client.get("/v1/models")
                if answer.status_code == httpx.codes.OK:
                    models: list[dict[str, Any]] = answer.json()["data"]
                    return models
                problem = f"status {answer.status_code}"
            except httpx.TransportError as error:
                problem = type(error).__name__
            if time.monotonic() > deadline:
                raise EngineLostError(f"the vLLM server did not answer ({problem}), must within {self._patience_s:g} s")
            time.sleep(_PAUSE_S)

    def _bodies(self, prompts: Prompts) -> Iterator[list[str]]:
        """The prompts' embeddings in base64, as many at a time as a request holds."""
        held: list[str] = []
        for image, ids in zip(prompts.images, prompts.split(), strict=True):
            at = int(np.flatnonzero(ids == self._image_token)[0])
            words = self._embedding[torch.from_numpy(ids)]
            file = io.BytesIO()
            torch.save(torch.cat((words[:at], prompts.features[image].to(words.dtype), words[at + 1 :])), file)
            held.append(base64.b64encode(file.getvalue()).decode())
            if sum(map(len, held)) > _BODY_BYTES:
                yield held
                held = []
        if held:
            yield held

    def _ask(self, embeddings: list[str]) -> list[list[float]]:
        if self._model is None:
            raise EngineLostError("the vLLM server is lost, must be found before it reads; wait for it")
        body = {
            "model": self._model,
            "prompt_embeds": embeddings,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": list(self._verdict),
            "return_tokens_as_token_ids": True,
        }
        try:
            answer = self._client.post("/v1/completions", json=body)
        except httpx.TransportError as error:
            self._model = None
            raise EngineLostError(
                f"the vLLM server is gone ({type(error).__name__}), must answer; it is waited for"
            ) from error
        if answer.is_server_error:
            self._model = None
            raise EngineLostError(f"the vLLM server answered {answer.status_code}, must answer 200; it is waited for")
        if answer.is_error:
            raise ModelOutputError(
                f"the vLLM server refused prompt embeddings with status {answer.status_code}, must take them; start it"
                " with --enable-prompt-embeds and this guard's checkpoint"
            )
        choices = sorted(answer.json()["choices"], key=lambda choice: int(choice["index"]))
        return [self._row(choice["logprobs"]["top_logprobs"][0]) for choice in choices]

    def _row(self, found: dict[str, float]) -> list[float]:
        names = [f"token_id:{token}" for token in self._verdict]
        if missing := [name for name in names if name not in found]:
            raise ModelOutputError(
                f"the vLLM server gives no log-prob of {missing[0]}, must of all verdict tokens; use 0.32 or later"
            )
        return [found[name] for name in names]
