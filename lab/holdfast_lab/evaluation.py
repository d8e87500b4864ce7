"""What the reference guard achieves on held-out scenes and wordings, and what its operating point costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast_lab.architecture import hidden_states, image_embeddings, margin
from holdfast_lab.noise import Kernel, gaussian, image_tensor, noisy_tokens, pad
from holdfast_lab.prompt import Prompt, build_prompt, encode_text
from holdfast_lab.scenes import Example, draw_example

# Training draws from the streams [seed, 0]: no recipe shares a stream with these.
HELD_OUT_SEED: Final = 20_260_101
# Larger activations no longer fit the caches of a CPU core, and passes get several times slower.
_CHUNK: Final = 64


@dataclass(frozen=True)
class Guard:
    """A loaded reference guard: the network in float32, its tokenizer and its prompt."""

    model: LlavaOnevisionForConditionalGeneration
    tokenizer: PreTrainedTokenizerFast
    prompt: Prompt


@dataclass(frozen=True)
class Noise:
    """One noise setting, of the suffix threat or, with `on_text`, of the ℓ0 threat.

    Attributes:
        sigma: standard deviation of the image noise, [0,1] pixels.
        beta: corruption rate of a slot, or of a token of the text.
        kernel: the token kernel.
        slots: filler slots after the text, which the token noise falls on.
        on_text: whether it falls on the text's own tokens instead; no slot follows them then.
    """

    sigma: float
    beta: float
    kernel: Kernel = "uniform"
    slots: int = 8
    on_text: bool = False


CLEAN: Final = Noise(sigma=0.0, beta=0.0)


def load(folder: Path) -> Guard:
    """Load an exported guard from `folder`, weights widened to float32."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return Guard(model, tokenizer, build_prompt(tokenizer))


def held_out(count: int, *, part: int = 1) -> list[Example]:
    """`count` examples of one held-out stream: scenes and wordings that no training run has seen."""
    rng = np.random.default_rng([HELD_OUT_SEED, part])
    return [draw_example(rng, held_out=True) for _ in range(count)]


@torch.inference_mode()
def margins(guard: Guard, images: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    """Log-odds (B,) of Unsafe against Safe, for noisy images (B, 3, 64, 64) in [0,1] and assembled prompts."""
    ids, lengths = pad(rows)
    last = hidden_states(guard.model, image_embeddings(guard.model, images), ids, lengths)[-1]
    return margin(guard.model.lm_head(last), guard.prompt)


def verdicts(guard: Guard, examples: Sequence[Example], noise: Noise, rng: np.random.Generator) -> NDArray[np.bool_]:
    """One noisy pass per example: whether the guard says Unsafe."""
    chunks = (examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK))
    return np.concatenate([_pass(guard, chunk, noise, rng) for chunk in chunks])


def noisy_prompt(prompt: Prompt, text: list[int], noise: Noise, rng: np.random.Generator) -> list[int]:
    """All ids of one input whose text has the ids `text`, under one draw of the token noise."""
    fixed, hit = ([], text) if noise.on_text else (text, [prompt.filler] * noise.slots)
    return prompt.assemble(fixed, noisy_tokens(rng, prompt, hit, beta=noise.beta, kernel=noise.kernel))


def _pass(guard: Guard, examples: Sequence[Example], noise: Noise, rng: np.random.Generator) -> NDArray[np.bool_]:
    images = gaussian(rng, image_tensor(examples), torch.full((len(examples),), noise.sigma))
    texts = (encode_text(guard.tokenizer, example.text) for example in examples)
    rows = [noisy_prompt(guard.prompt, text, noise, rng) for text in texts]
    return (margins(guard, images, rows) > 0).numpy()


def accuracy(guard: Guard, examples: Sequence[Example], noise: Noise, *, seed: int) -> tuple[int, int]:
    """How many of the examples one noisy pass each gets right, and how many there are."""
    said = verdicts(guard, examples, noise, np.random.default_rng([HELD_OUT_SEED, 100, seed]))
    return int((said == np.array([e.unsafe for e in examples])).sum()), len(examples)


def unsafe_shares(
    guard: Guard, examples: Sequence[Example], noise: Noise, *, passes: int, seed: int
) -> NDArray[np.float64]:
    """The share of `passes` noisy passes that say Unsafe, per example: an estimate of g."""
    rng = np.random.default_rng([HELD_OUT_SEED, 101, seed])
    repeated = [example for example in examples for _ in range(passes)]
    said = verdicts(guard, repeated, noise, rng).reshape(len(examples), passes)
    return np.asarray(said.mean(axis=1), dtype=np.float64)


def upper_bound(successes: int, trials: int, alpha: float) -> float:
    """One-sided Clopper–Pearson upper bound on a share at risk `alpha`, rounded up."""
    return math.nextafter(1 - clopper_pearson_lower(trials - successes, trials, alpha), math.inf)
