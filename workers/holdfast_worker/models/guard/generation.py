"""The decision by a written answer: greedy decoding behind the prefix that the tails of a draw share.

Nothing is sampled and nothing is asked again. An answer is written until it gives its verdict, so what a guard would
have gone on to explain is never computed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

from holdfast_worker.models.guard.answers import Reading
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.prefix import read_on
from holdfast_worker.models.guard.prompt import Prompt


class Writer:
    """Writes a guard's answers and reads the verdicts in them."""

    def __init__(self, model: Any, config: GuardConfig, prompt: Prompt) -> None:
        """Sets the rule.

        Args:
            model: A LLaVA model of transformers.
            config: The guard's settings.
            prompt: What turns token ids into text, and which of them end an answer besides the model's own.
        """
        own = model.generation_config.eos_token_id
        self._model = model
        self._words = prompt.ordinary
        self._ends = prompt.ends | frozenset([own] if isinstance(own, int) else own or ())
        self._reading = Reading.of(config)
        self._prefix = config.answer_prefix
        self._most = config.max_new_tokens

    def margins(self, cache: DynamicCache, tails: NDArray[np.int64]) -> Tensor:
        """Answers every tail of every draw in every cell.

        Args:
            cache: The draws' prefixes, read; used up.
            tails: Slots and closing tokens, shape (draws, tails, cells, length).

        Returns:
            float32 (draws, tails, cells), above 0 for Unsafe. The size is the least lead, in logits, that the best
            token had over the second best where the answer was written: how far the answer is from another one.
        """
        *shape, length = tails.shape
        cache.batch_repeat_interleave(shape[1] * shape[2])
        tokens = torch.as_tensor(tails.reshape(-1, length), device=self._model.device)
        margins = torch.empty(len(tokens), device=tokens.device)
        lead = torch.full_like(margins, torch.inf)
        answers: dict[int, list[int]] = {row: [] for row in range(len(tokens))}
        for left in reversed(range(self._most)):
            written, gap = self._next(tokens, cache)
            lead = lead.minimum(gap)
            verdicts = [
                self._read(answer, token, last=not left)
                for answer, token in zip(answers.values(), written.tolist(), strict=True)
            ]
            for at, (row, verdict) in enumerate(zip(list(answers), verdicts, strict=True)):
                if verdict is not None:
                    # A lead of exactly 0 must not turn Unsafe into a tie, which is Safe.
                    margins[row] = lead[at].clamp_min(torch.finfo().tiny) * (1 if verdict else -1)
                    del answers[row]
            if not answers:
                break
            rest = torch.tensor([at for at, verdict in enumerate(verdicts) if verdict is None], device=tokens.device)
            if len(rest) < len(lead):
                cache.batch_select_indices(rest)
                lead = lead[rest]
            tokens = written[rest, None]
        return margins.view(*shape)

    def _next(self, tokens: Tensor, cache: DynamicCache) -> tuple[Tensor, Tensor]:
        """The best next token of every row, and its lead over the second best."""
        hidden = read_on(self._model.model.language_model, cache, input_ids=tokens).last_hidden_state
        best = self._model.lm_head(hidden[:, -1]).float().topk(2)
        return best.indices[:, 0], best.values[:, 0] - best.values[:, 1]

    def _read(self, answer: list[int], token: int, *, last: bool) -> bool | None:
        """Adds a token to an answer and reads it."""
        ended = token in self._ends
        if not ended:
            answer.append(token)
        text = self._prefix + self._words.decode(answer, skip_special_tokens=False)
        return self._reading.verdict(text, ended=ended or last)
