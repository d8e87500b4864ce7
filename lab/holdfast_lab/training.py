"""Training of the reference guard: some ten minutes on one CPU core, deterministic in the seed.

An exclusive or of picture and text stays at 50 % without help. Three linear heads provide it: they ask the
vision features and an early hidden state for the two attributes, and are dropped when the model is saved.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from holdfast_lab.architecture import WIDTH, build_model, hidden_states, image_embeddings
from holdfast_lab.noise import Kernel, gaussian, image_tensor, noisy_tokens, pad
from holdfast_lab.prompt import Prompt, build_prompt, encode_text
from holdfast_lab.scenes import Example, Hazard, Intent, draw_example

MAX_SLOTS: Final = 8
# Beyond the default σ, so that a clean margin is left at it.
MAX_SIGMA: Final = 0.75
MAX_TEXT_RATE: Final = 0.4
_RAMP: Final = 0.3
_EARLY_LAYER: Final = 2


@dataclass(frozen=True)
class Recipe:
    """What a training run is determined by.

    Attributes:
        steps: optimiser steps.
        batch: examples per step.
        seed: of the weights, the examples and the noise.
        learning_rate: AdamW's peak rate, after a linear warm-up over the first 5 % and before a cosine decay.
    """

    steps: int = 650
    batch: int = 128
    seed: int = 0
    learning_rate: float = 2e-3


@dataclass(frozen=True)
class Batch:
    """Noisy inputs and their labels: images (B, 3, 64, 64), ids (B, L), lengths and classes (B,)."""

    images: Tensor
    ids: Tensor
    lengths: Tensor
    unsafe: Tensor
    hazard: Tensor
    intent: Tensor


class AttributeHeads(nn.Module):
    """Linear readouts of the attributes: hazard from vision, hazard and intent from an early hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Linear(WIDTH, 2)
        self.hazard = nn.Linear(WIDTH, 2)
        self.intent = nn.Linear(WIDTH, 2)

    def loss(self, visual: Tensor, early: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of the three readouts, for `visual` (B, N, width) and `early` (B, width)."""
        readouts = (
            (self.seen(visual.mean(1)), batch.hazard),
            (self.hazard(early), batch.hazard),
            (self.intent(early), batch.intent),
        )
        return torch.stack([cross_entropy(logits, target) for logits, target in readouts]).mean()


def _noisy_ids(rng: np.random.Generator, prompt: Prompt, text: list[int]) -> list[int]:
    """A training prompt: mostly eight slots, mostly all random; a fifth of the texts are noisy as well."""
    kernel: Kernel = "absorbing" if rng.random() < 0.2 else "uniform"
    slots = [prompt.filler] * (MAX_SLOTS if rng.random() < 0.8 else int(rng.integers(MAX_SLOTS + 1)))
    slot_rate = 1.0 if rng.random() < 0.5 else rng.random()
    text_rate = rng.uniform(0, MAX_TEXT_RATE) if rng.random() < 0.2 else 0.0
    return prompt.assemble(
        noisy_tokens(rng, prompt, text, beta=text_rate, kernel=kernel),
        noisy_tokens(rng, prompt, slots, beta=slot_rate, kernel=kernel),
    )


def draw_batch(
    rng: np.random.Generator, tokenizer: PreTrainedTokenizerFast, prompt: Prompt, *, size: int, sigma: float
) -> Batch:
    """Draw `size` training examples, each under its own token noise and image noise of σ uniform in [0, `sigma`]."""
    examples = [draw_example(rng, held_out=False) for _ in range(size)]
    rows = [_noisy_ids(rng, prompt, encode_text(tokenizer, e.text)) for e in examples]
    ids, lengths = pad(rows)
    sigmas = torch.from_numpy(rng.uniform(0, sigma, size=size).astype(np.float32))
    return Batch(
        images=gaussian(rng, image_tensor(examples), sigmas),
        ids=ids,
        lengths=lengths,
        unsafe=torch.tensor([e.unsafe for e in examples]),
        hazard=_classes(examples, Hazard, "hazard"),
        intent=_classes(examples, Intent, "intent"),
    )


def _classes(examples: list[Example], kind: type[Hazard] | type[Intent], name: str) -> Tensor:
    order = list(kind)
    return torch.tensor([order.index(getattr(example, name)) for example in examples])


def batch_loss(
    model: LlavaOnevisionForConditionalGeneration, heads: AttributeHeads, prompt: Prompt, batch: Batch
) -> tuple[Tensor, Tensor]:
    """The verdict's cross entropy over the whole vocabulary, and the attribute heads' loss."""
    visual = image_embeddings(model, batch.images)
    layers = hidden_states(model, visual, batch.ids, batch.lengths)
    labels = torch.where(batch.unsafe, prompt.unsafe[0], prompt.safe[0])
    return cross_entropy(model.lm_head(layers[-1]), labels), heads.loss(visual, layers[_EARLY_LAYER], batch)


def warmed_up(step: int, steps: int) -> float:
    """The learning rate's factor: linear warm-up over 5 % of the steps, then a cosine to zero."""
    warm = max(1, steps // 20)
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))


def train(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, report: Callable[[int, float], None]
) -> LlavaOnevisionForConditionalGeneration:
    """Train a guard from nothing and return it in float32, without the attribute heads.

    Args:
        tokenizer: of `build_tokenizer`.
        recipe: the run; the same recipe on the same machine and thread count gives the same weights.
        report: called after each step with the step and the verdict's cross entropy in nats.
    """
    prompt = build_prompt(tokenizer)
    model = build_model(prompt, seed=recipe.seed)
    heads = AttributeHeads()
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_up(step, recipe.steps))
    rng = np.random.default_rng([recipe.seed, 0])
    for step in range(recipe.steps):
        sigma = MAX_SIGMA * min(1.0, step / (_RAMP * recipe.steps))
        verdict, attributes = batch_loss(
            model, heads, prompt, draw_batch(rng, tokenizer, prompt, size=recipe.batch, sigma=sigma)
        )
        optimizer.zero_grad()
        torch.autograd.backward(verdict + attributes)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        report(step, verdict.item())
    return model
