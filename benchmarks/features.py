"""Noisy feature passes per second of the reference encoder, against the loop such features are usually drawn by.

    python benchmarks/features.py              one thread, then torch's default
    python benchmarks/features.py --threads 1  one thread only

A pass is one unit feature of one noisy image. The loop, as published feature-smoothing code does it: for every pass
NumPy draws the noise in double precision on the host, adds it to the picture and rounds the sum to 8 bits, PIL takes
the array, transformers' image processor resizes, crops, rescales and normalises it, and the plain model runs on this
one image. Ours is ``Encoder.draw_features`` on the same picture: noise in blocks on the device (on a CPU the
next block is drawn on another core meanwhile), tensor preprocessing, many draws in a batch. The exit status is 1 where
ours is not at least five times as fast. Threads are those of torch.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from throughput import least_seconds
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip import CLIPImageProcessorPil
from transformers.utils import logging

from holdfast_worker.models import registry
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.encoder.encoder import Encoder

NAME = "reference-encoder"
SIGMA, DRAWS, LOOP_DRAWS = 0.25, 64, 20  # about equally long, so that other load strikes both alike
REQUIRED_RATIO = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, torch.get_num_threads()])
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    encoder = registry.load(NAME, {})
    assert isinstance(encoder, Encoder)
    height, width = encoder.space
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    loop = PublishedLoop(model_folder(NAME), encoder.device)
    print(f"{NAME} on {encoder.device}: {height} x {width}, sigma {SIGMA}")
    ratios = [compare(encoder, loop, image, threads) for threads in dict.fromkeys(parser.parse_args().threads)]
    return 0 if min(ratios) >= REQUIRED_RATIO else 1


def compare(encoder: Encoder, loop: "PublishedLoop", image: NDArray[np.uint8], threads: int) -> float:
    torch.set_num_threads(threads)
    prepared = encoder.prepare(image)
    slow_s, fast_s = least_seconds(
        lambda: loop.features(image, LOOP_DRAWS).sum().item(),
        lambda: encoder.draw_features(prepared, "benchmark", SIGMA, 0, DRAWS).sum().item(),
    )
    slow, fast = LOOP_DRAWS / slow_s, DRAWS / fast_s
    print(f"{threads} thread{'s' * (threads > 1)}: {fast:,.0f} passes/s, loop {slow:,.0f}: {fast / slow:.1f} times")
    return fast / slow


class PublishedLoop:
    """The loop on the same checkpoint, one noisy picture at a time."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        model: Any = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32)
        self.model, self.device = model.to(device).eval(), device
        self.processor: Any = CLIPImageProcessorPil.from_pretrained(folder)
        self.rng = np.random.default_rng(0)

    @torch.no_grad()
    def features(self, image: NDArray[np.uint8], draws: int) -> Tensor:
        """Unit features of noisy pictures, shape (draws, E)."""
        return torch.cat([self._feature(image) for _ in range(draws)])

    def _feature(self, image: NDArray[np.uint8]) -> Tensor:
        noise = self.rng.normal(0, SIGMA, image.shape)
        noisy = ((image / 255 + noise) * 255).round().clip(0, 255).astype(np.uint8)
        pixels = self.processor(Image.fromarray(noisy), return_tensors="pt")["pixel_values"]
        feature: Tensor = self.model(pixel_values=pixels.to(self.device)).image_embeds
        return functional.normalize(feature, dim=-1)


if __name__ == "__main__":
    sys.exit(main())
