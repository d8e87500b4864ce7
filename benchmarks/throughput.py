"""Noisy passes per second of the reference guard, against the way such certificates are usually sampled.

    python benchmarks/throughput.py              one thread, then torch's default
    python benchmarks/throughput.py --threads 1  one thread only

A pass is one verdict. The naive way, as published sampling loops do it: for every pass noise is added on the host with
NumPy, transformers' PIL image processor and the tokenizer run again, and batches of 20 go through the plain model with
full logits. Ours is ``LlavaGuard.votes`` on the same input, the suffix threat's nine cells sharing each image draw.
The exit status is 1 where ours is not at least five times as fast.
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration
from transformers.models.llava_onevision import LlavaOnevisionImageProcessorPil

from holdfast.certificates.kernels import UniformKernel, suffix_draws
from holdfast_worker import models
from holdfast_worker.models import registry
from holdfast_worker.models.config import GuardConfig
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.llava import LlavaGuard
from holdfast_worker.noise import replace_tokens

NAME = "reference-guard"
TEXT = "Put the flame next to the fuel can"
SLOTS, BETA, SIGMA = 8, 0.25, 0.5
DRAWS, NAIVE_BATCH, NAIVE_BATCHES, REPEATS = 64, 20, 3, 20
REQUIRED_RATIO = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, torch.get_num_threads()])
    guard = registry.load(NAME, {})
    assert isinstance(guard, LlavaGuard)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    print(f"{NAME} on {guard.device}: text of {len(TEXT)} bytes, {SLOTS} slots, {SLOTS + 1} cells, sigma {SIGMA}")
    ratios = [compare(guard, image, threads) for threads in dict.fromkeys(parser.parse_args().threads)]
    return 0 if min(ratios) >= REQUIRED_RATIO else 1


def compare(guard: LlavaGuard, image: NDArray[np.uint8], threads: int) -> float:
    torch.set_num_threads(threads)
    naive = NaiveLoop(guard.config, guard.device)
    tails = noisy_tails(guard, NAIVE_BATCH)
    draws = our_draws(guard, image)
    slow_s, fast_s = least_seconds(lambda: naive.votes(image, tails, NAIVE_BATCHES), lambda: guard.votes([draws]))
    slow, fast = NAIVE_BATCHES * NAIVE_BATCH / slow_s, draws.passes / fast_s
    print(f"{threads} thread{'s' * (threads > 1)}: {fast:,.0f} passes/s, naive {slow:,.0f}: {fast / slow:.1f} times")
    print(f"  {stage_shares(guard, draws)}")
    return fast / slow


def least_seconds(*works: Callable[[], object]) -> list[float]:
    # Short runs in turn, the least of many: other load on the machine only ever adds, and strikes all alike.
    least = [float("inf")] * len(works)
    for _ in range(REPEATS):
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            least[index] = min(least[index], time.perf_counter() - start)
    return least


def stage_shares(guard: LlavaGuard, draws: Draws) -> str:
    before = dict(guard.clock.seconds)
    guard.votes([draws])
    spent = {stage: seconds - before[stage] for stage, seconds in guard.clock.seconds.items()}
    return ", ".join(f"{stage} {seconds / sum(spent.values()):.0%}" for stage, seconds in spent.items())


def noisy_tails(guard: LlavaGuard, draws: int) -> NDArray[np.int64]:
    kernel = UniformKernel(BETA, len(guard.alphabet))
    noise = suffix_draws(kernel, slots=SLOTS, seed="benchmark", start=0, stop=draws)
    clean = np.full(SLOTS, guard.alphabet[0])
    return replace_tokens(noise, clean, guard.alphabet, guard.mask_id)


def our_draws(guard: LlavaGuard, image: NDArray[np.uint8]) -> Draws:
    prepared = guard.inputs.prepare(TEXT, "", image, slots=SLOTS)
    return Draws(prepared, "benchmark", SIGMA, 0, DRAWS, noisy_tails(guard, DRAWS))


class NaiveLoop:
    """The published sampling loop on the same checkpoint, one tile per image as that checkpoint is trained."""

    def __init__(self, config: GuardConfig, device: torch.device) -> None:
        folder = Path(str(resources.files(models) / registry.PACKAGED[NAME]))
        model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        self.model, self.device = model.to(device).eval(), device
        self.processor: Any = LlavaOnevisionImageProcessorPil.from_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.config = config
        self.unsafe = self.tokenizer.convert_tokens_to_ids(list(config.unsafe_tokens))
        self.safe = self.tokenizer.convert_tokens_to_ids(list(config.safe_tokens))
        vision = model.config.vision_config
        self.image_tokens = (vision.image_size // vision.patch_size) ** 2 + 1
        self.rng = np.random.default_rng(0)

    def votes(self, image: NDArray[np.uint8], tails: NDArray[np.int64], batches: int) -> list[bool]:
        """One verdict per tail and batch."""
        votes: list[bool] = []
        for _ in range(batches):
            ids = [self._prompt(tail) for tail in tails[:, -1]]
            noisy = [self._noisy(image) for _ in tails]
            votes += self._forward(ids, noisy)
        return votes

    def _noisy(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        noise = self.rng.normal(0, SIGMA, image.shape)
        return ((image / 255 + noise) * 255).round().clip(0, 255).astype(np.uint8)

    def _prompt(self, tail: NDArray[np.int64]) -> list[int]:
        text = self.config.user_template.format(policy=self.config.policy, text=f"{TEXT}<pad>")
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        rendered = self.tokenizer.apply_chat_template([turn], tokenize=False, add_generation_prompt=True)
        before, after = rendered.replace("<image>", "<image>" * self.image_tokens).split("<pad>")
        return [*self.tokenizer.encode(before), *tail, *self.tokenizer.encode(after)]

    @torch.no_grad()
    def _forward(self, ids: list[list[int]], images: list[NDArray[np.uint8]]) -> list[bool]:
        pixels = self.processor([images], return_tensors="pt")
        inputs = {"input_ids": torch.tensor(ids)} | {k: torch.as_tensor(v) for k, v in pixels.items()}
        logits = self.model(**{k: v.to(self.device) for k, v in inputs.items()}).logits[:, -1]
        margins = logits[:, self.unsafe].logsumexp(-1) - logits[:, self.safe].logsumexp(-1)
        votes: list[bool] = (margins > 0).tolist()
        return votes


if __name__ == "__main__":
    sys.exit(main())
