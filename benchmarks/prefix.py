"""What it costs that every image draw serves nine token cells: at most half as much again as one tail alone.

    python benchmarks/prefix.py              one thread
    python benchmarks/prefix.py --threads 2

A LLaVA-OneVision with random weights, whose prefix (policy, image, text) is at least 20 times as long as a cell's tail,
is timed on one image draw scored by one tail in nine suffix cells, on one in a single cell, on nine single cells by
themselves, which is what sampling without reuse does, and on one scored by four tails in all nine. The margins of all
are then held against a whole forward pass of each. The exit status is 1 where nine cells take more than 1.5 times the
time of one, or margins differ by more than 1e-5.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_llava import build, configuration, guard_of, write_beside
from throughput import least_seconds, noisy_tails

from holdfast_worker.models.draws import Draws
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard

VISION: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
}
VISION |= {"image_size": 224, "patch_size": 14}
TEXT: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 152_000, "tie_word_embeddings": True, "initializer_range": 0.06}
POLICY = "You are a safety classifier. Output exactly one word: Safe or Unsafe."
SETTINGS = {"name": "random", "policy": POLICY, "tiles": "base", "noise_height": 224, "noise_width": 224}
SLOTS, TAILS, BETA, SIGMA, CHECKED = 8, 4, 0.25, 0.5, 2
LEAST_PREFIX, MOST_TIME, MOST_APART = 20, 1.5, 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    with tempfile.TemporaryDirectory() as folder:
        guard = random_guard(Path(folder))
    whole = nine_cells(guard, CHECKED)
    tail = SLOTS + len(guard.inputs.prompt.after)
    prefix = len(whole.prepared.prefix)
    print(
        f"prefix of {prefix} tokens, tails of {tail}: {prefix / tail:.0f} times; load average {os.getloadavg()[0]:.1f}"
    )
    ratio = compare(guard, whole.part(0, 1))
    apart = float(np.abs(guard.margins([whole])[0] - guard.plain_margins(whole)).max())
    spread = float(np.ptp(guard.margins([whole])[0]))
    print(f"margins, {spread:.2g} from least to most, differ by {apart:.1e} without reuse (allowed {MOST_APART:g})")
    return 0 if prefix >= LEAST_PREFIX * tail and ratio <= MOST_TIME and apart <= MOST_APART else 1


def random_guard(folder: Path) -> LlavaGuard:
    config = configuration(VISION, TEXT)
    write_beside(folder, config, SETTINGS)
    model = build(config, torch.float32, torch.device("cpu"), share_layers=False)
    return guard_of(model, folder, load_config(GuardConfig, folder, {}))


def nine_cells(guard: LlavaGuard, draws: int) -> Draws:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    prepared = guard.inputs.prepare("How are you today, and what is that?", "", image, slots=SLOTS)
    tails = noisy_tails(guard, prepared.tail_base, draws, tails=TAILS, beta=BETA)
    return Draws(prepared, "benchmark", SIGMA, 0, draws, tails)


def compare(guard: LlavaGuard, draw: Draws) -> float:
    """The time of a draw by one tail in nine cells over that in one cell."""
    one_tail = replace(draw, tails=draw.tails[:, :1])
    alone = [replace(one_tail, tails=one_tail.tails[:, :, [cell]]) for cell in range(one_tail.tails.shape[2])]
    nine_s, one_s, apart_s, four_s = least_seconds(
        lambda: guard.margins([one_tail]),
        lambda: guard.margins([alone[-1]]),
        lambda: [guard.margins([single]) for single in alone],
        lambda: guard.margins([draw]),
    )
    print(f"one cell {1e3 * one_s:.1f} ms, nine cells {1e3 * nine_s:.1f} ms: {nine_s / one_s:.2f} times the time")
    print(f"nine cells one by one {1e3 * apart_s:.1f} ms: {apart_s / one_s:.1f} times")
    print(f"{TAILS} tails in nine cells {1e3 * four_s:.1f} ms: {four_s / one_s:.2f} times")
    return nine_s / one_s


if __name__ == "__main__":
    sys.exit(main())
