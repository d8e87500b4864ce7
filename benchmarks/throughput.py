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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from published import PublishedLoop
from transformers import LlavaOnevisionForConditionalGeneration

from holdfast.certificates.noise.kernels import UniformKernel, suffix_draws
from holdfast_worker.models import registry
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
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
    naive = published_loop(guard.config, guard.device)
    tails = noisy_tails(guard, NAIVE_BATCH)
    draws = our_draws(guard, image)
    slow_s, fast_s = least_seconds(lambda: naive.votes(image, tails, NAIVE_BATCHES), lambda: guard.margins([draws]))
    slow, fast = NAIVE_BATCHES * NAIVE_BATCH / slow_s, draws.passes / fast_s
    print(f"{threads} thread{'s' * (threads > 1)}: {fast:,.0f} passes/s, naive {slow:,.0f}: {fast / slow:.1f} times")
    print(f"  {stage_shares(guard, draws)}")
    return fast / slow


def published_loop(config: GuardConfig, device: torch.device) -> PublishedLoop:
    folder = model_folder(NAME)
    model: Any = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    # One tile per image, as that checkpoint is trained.
    return PublishedLoop(model.to(device).eval(), folder, config, TEXT, SIGMA, anyres=False)


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
    guard.margins([draws])
    spent = {stage: seconds - before[stage] for stage, seconds in guard.clock.seconds.items()}
    return ", ".join(f"{stage} {seconds / sum(spent.values()):.0%}" for stage, seconds in spent.items())


def noisy_tails(guard: LlavaGuard, draws: int) -> NDArray[np.int64]:
    kernel = UniformKernel(BETA, len(guard.inputs.prompt.alphabet))
    noise = suffix_draws(kernel, slots=SLOTS, seed="benchmark", start=0, stop=draws)
    clean = np.full(SLOTS, guard.inputs.prompt.alphabet[0])
    return replace_tokens(noise, clean, guard.inputs.prompt.alphabet, guard.inputs.prompt.mask)


def our_draws(guard: LlavaGuard, image: NDArray[np.uint8]) -> Draws:
    prepared = guard.inputs.prepare(TEXT, "", image, slots=SLOTS)
    return Draws(prepared, "benchmark", SIGMA, 0, DRAWS, noisy_tails(guard, DRAWS))


if __name__ == "__main__":
    sys.exit(main())
