"""LLaVA-OneVision at its published sizes through the whole path, beside the published way of sampling, in one run.

    python benchmarks/llava_onevision.py --size 0.5b                      both tilings; a few minutes on two cores
    python benchmarks/llava_onevision.py --size 7b --device cuda          on a GPU, bfloat16
    python benchmarks/llava_onevision.py --size 7b --share-layers --tiles base --draws 1 --no-published

The architecture is the published one (Qwen2 language model, SigLIP-so400m-384 tower, anyres_max_9), the weights are
random, since time does not depend on them; nothing is downloaded. Ours is ``LlavaGuard`` on its default request: noise,
tiles, tower, prefix once per image draw, its tails in all cells. The published way is image first, one tail for each
image draw, noise by NumPy and PIL, processor and tokenizer per pass, full logits, batches of 20 on a GPU and of 1 on a
CPU. ``base`` is one tile in place of the published two: half the work, and another guard than the published
one.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published import PublishedLoop
from random_llava import build, configuration, guard_of, write_beside

from holdfast_worker.inspection.bench import bench
from holdfast_worker.inspection.fixed_draws import input_draws
from holdfast_worker.inspection.flops import language_flops, vision_flops
from holdfast_worker.models.folder import load_config
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.weights import find_device, find_dtype
from holdfast_worker.sampling.guard import example

VISION: dict[str, Any] = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26}
VISION |= {"num_attention_heads": 16, "image_size": 384, "patch_size": 14}
COMMON: dict[str, Any] = {"max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "use_sliding_window": False}
COMMON |= {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}
TEXT: dict[str, dict[str, Any]] = {
    "0.5b": {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 152_000, "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152_128, "tie_word_embeddings": False,
    },
}  # fmt: skip
QUESTION, SIGMA, PUBLISHED_BATCH = "What is shown in this picture?", 0.5, {"cpu": 1, "cuda": 20}


@dataclass(frozen=True)
class Row:
    """One way of sampling, measured."""

    way: str
    passes: int
    passes_per_s: float
    flops_per_pass: float
    utilisation: float
    frontier_s: float
    stages: str


def main() -> int:
    options = parser().parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = find_device(options.device)
    dtype = find_dtype(options.dtype, device)
    config = configuration(VISION, TEXT[options.size] | COMMON)
    model = build(config, dtype, device, share_layers=options.share_layers)
    kind = "one layer's weights read by all" if options.share_layers else "random weights"
    print(f"LLaVA-OneVision {options.size}, {str(dtype).removeprefix('torch.')} on {device}, {kind},", end=" ")
    print(f"{torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}", flush=True)
    print(f"{'way':20}{'passes':>8}{'passes/s':>12}{'TFLOP/pass':>12}{'utilised':>10}{'s/frontier':>12}  stages")
    with tempfile.TemporaryDirectory() as folder:
        names = {"name": options.size, "dtype": str(dtype).removeprefix("torch."), "device": options.device}
        write_beside(Path(folder), config, names)
        for row in rows(model, Path(folder), options):
            work = f"{row.passes_per_s:12.4g}{row.flops_per_pass / 1e12:12.3g}{row.utilisation:10.1%}"
            print(f"{row.way:20}{row.passes:8}{work}{row.frontier_s:12,.0f}  {row.stages}", flush=True)
    print(f"load average at the end: {os.getloadavg()[0]:.1f}")
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--size", choices=sorted(TEXT), required=True)
    found.add_argument("--device", default="auto")
    found.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    found.add_argument("--tiles", nargs="*", choices=("base", "anyres"), default=["anyres", "base"])
    found.add_argument("--draws", type=int, help="draws in a run (default: 1 on a CPU, on a GPU what fills a pass)")
    found.add_argument("--passes", type=int, default=1, help="batches of the published way (default: 1)")
    found.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    found.add_argument("--share-layers", action="store_true", help="one layer's weights for all: less memory")
    found.add_argument("--no-published", action="store_true", help="leave the published way out")
    return found


def rows(model: Any, folder: Path, options: argparse.Namespace) -> Iterator[Row]:
    on_cpu = model.device.type == "cpu"
    peak = frontier = 0.0
    for tiles in options.tiles:
        guard = guard_of(model, folder, load_config(GuardConfig, folder, {"tiles": tiles}))
        draws = options.draws or (1 if on_cpu else None)
        found = bench(guard, seconds=0.0 if on_cpu else 20.0, draws=draws, warm_up=not on_cpu)
        assert found.flops_per_draw is not None
        assert found.peak_flops is not None
        assert found.utilisation is not None
        stages = ", ".join(f"{stage} {share:.0%}" for stage, share in found.stages.items())
        a_draw = found.tails * found.cells
        per_pass, passes = found.flops_per_draw / a_draw, found.draws * a_draw
        rate, peak, frontier = found.passes_per_s, found.peak_flops, found.max_draws * a_draw
        yield Row(f"holdfast, {tiles}", passes, rate, per_pass, found.utilisation, found.frontier_s, stages)
    if not options.no_published:
        guard = guard_of(model, folder, load_config(GuardConfig, folder, {"tiles": "anyres"}))
        yield published(model, guard, folder, options.passes, peak, frontier)


def published(model: Any, guard: LlavaGuard, folder: Path, batches: int, peak: float, frontier: float) -> Row:
    size = PUBLISHED_BATCH[model.device.type]
    image_tokens = guard.inputs.pixels.image_tokens
    loop = PublishedLoop(model, folder, guard.config, QUESTION, SIGMA, anyres=True, image_tokens=image_tokens)
    tails = input_draws(guard, example(guard, 0), size).tails[:, 0, -1]  # one for each image draw
    image = np.random.default_rng(0).integers(0, 256, (384, 384, 3), dtype=np.uint8)
    if model.device.type != "cpu":
        loop.votes(image, tails, 1)
    start = time.perf_counter()
    loop.votes(image, tails, batches)  # ends with the votes on the host
    rate = batches * size / (time.perf_counter() - start)
    tokens, text = len(loop.prompt(tails[0])), model.config.text_config
    logits = 2.0 * tokens * text.hidden_size * text.vocab_size
    flops = vision_flops(model.config, guard.inputs.pixels.tiles) + language_flops(text, tokens, tokens) + logits
    way = f"published, by {size}"
    return Row(way, batches * size, rate, flops, flops * rate / peak, frontier / rate, "one tail per draw")


if __name__ == "__main__":
    sys.exit(main())
