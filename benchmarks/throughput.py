"""Noisy passes per second of the reference guard, against the way such certificates are usually sampled.

    python benchmarks/throughput.py              one thread, then torch's default
    python benchmarks/throughput.py --threads 1  one thread only

A pass is one verdict. The naive way, as published sampling loops do it: one tail for each image draw, whose noise is
added on the host with NumPy, transformers' PIL image processor and the tokenizer run again, and batches of 20 go
through the plain model with full logits. Ours is ``LlavaGuard.margins`` on the same input, four tails in the suffix
threat's nine cells sharing each image draw.
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

from holdfast.contract.guard.spec import Cell
from holdfast.queue.jobs import JobInput
from holdfast_worker.models import registry
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.guard.announced import default_spec
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard

NAME = "reference-guard"
TEXT = "Put the flame next to the fuel can"
SLOTS, BETA, SIGMA = 8, 0.25, 0.5
TAILS, DRAWS, NAIVE_BATCH, NAIVE_BATCHES, REPEATS = 4, 64, 20, 3, 20
REQUIRED_RATIO = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, torch.get_num_threads()])
    guard = registry.load(NAME, {})
    assert isinstance(guard, LlavaGuard)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    print(
        f"{NAME} on {guard.device}: text of {len(TEXT)} bytes, {SLOTS} slots, {TAILS} tails in {SLOTS + 1} cells,"
        f" sigma {SIGMA}"
    )
    ratios = [compare(guard, image, threads) for threads in dict.fromkeys(parser.parse_args().threads)]
    return 0 if min(ratios) >= REQUIRED_RATIO else 1


def compare(guard: LlavaGuard, image: NDArray[np.uint8], threads: int) -> float:
    torch.set_num_threads(threads)
    naive = published_loop(guard.config, guard.device)
    draws = our_draws(guard, image)
    tails = draws.tails[:NAIVE_BATCH, 0, -1]
    slow_s, fast_s = least_seconds(lambda: naive.votes(image, tails, NAIVE_BATCHES), lambda: guard.margins([draws]))
    slow, fast = NAIVE_BATCHES * NAIVE_BATCH / slow_s, draws.passes / fast_s
    print(f"{threads} thread{'s' * (threads > 1)}: {fast:,.0f} passes/s, naive {slow:,.0f}: {fast / slow:.1f} times")
    print(f"  image draws: {DRAWS / fast_s:,.0f} a second, naive {slow:,.0f}")
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


def noisy_tails(
    guard: LlavaGuard, clean: NDArray[np.int64], draws: int, *, tails: int, beta: float
) -> NDArray[np.int64]:
    """Noise over clean slots in every cell of the suffix threat, shape (draws, tails, cells, slots)."""
    slots = len(clean)
    spec = default_spec(guard.info, JobInput(TEXT)).model_copy(update={"tails": tails, "beta": beta})
    cells = [Cell(slots, k, k == slots) for k in range(slots + 1)]
    return guard.inputs.noised(spec, clean, cells, seed="benchmark", start=0, stop=draws)


def our_draws(guard: LlavaGuard, image: NDArray[np.uint8]) -> Draws:
    prepared = guard.inputs.prepare(TEXT, "", image, slots=SLOTS)
    tails = noisy_tails(guard, prepared.tail_base, DRAWS, tails=TAILS, beta=BETA)
    return Draws(prepared, "benchmark", SIGMA, 0, DRAWS, tails)


if __name__ == "__main__":
    sys.exit(main())
