"""What exact noise on a lattice costs, beside the float noise that it replaces, and of a worker's time.

    python benchmarks/noise.py              one thread, then torch's default
    python benchmarks/noise.py --threads 1  one thread only

Nanoseconds a value of one batch of draws: NumPy's float32 ziggurat times sigma plus the image, which is not sound
(docs/maths.md, section 13); ours; of ours the words alone; and the words as devices without NumPy make them, here on
the CPU. Then the share of the reference guard's time on 64 draws in nine cells, and how long ours takes for an image of
3 x 384 x 384. The exit status is 1 where the share is above a tenth.
"""

import argparse
import sys

import numpy as np
import torch
from throughput import least_seconds, our_draws

from holdfast.certificates.noise.rounded import host_words
from holdfast_worker.gaussian import device_blocks, noisy
from holdfast_worker.models import registry
from holdfast_worker.models.guard.llava import LlavaGuard

DRAWS, SIGMA, MOST_SHARE = 64, 0.5, 0.1
LARGE = (3, 384, 384)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, torch.get_num_threads()])
    guard = registry.load("reference-guard", {})
    assert isinstance(guard, LlavaGuard)
    shares = [measure(guard, threads) for threads in dict.fromkeys(parser.parse_args().threads)]
    return 0 if max(shares) <= MOST_SHARE else 1


def measure(guard: LlavaGuard, threads: int) -> float:
    """Prints all of it; returns the share of the guard's time."""
    torch.set_num_threads(threads)
    draws = our_draws(guard, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    clean = draws.prepared.clean[None]
    values = DRAWS * clean.numel()
    large = torch.full((1, *LARGE), 0.5)
    whole, old, new, host, device, one = least_seconds(
        lambda: guard.margins([draws]),
        lambda: floats(clean),
        lambda: noisy(clean, sigma=SIGMA, seed="s", start=0, stop=DRAWS),
        lambda: host_words(1, 0, values),
        lambda: device_blocks(1, 0, values // 4, clean.device),
        lambda: noisy(large, sigma=SIGMA, seed="s", start=0, stop=1),
    )
    share = new * len(draws.tails) / DRAWS / whole
    print(f"{threads} thread{'s' * (threads > 1)}, nanoseconds a value of {DRAWS} draws of {clean.numel()}:")
    for name, seconds in (("floats", old), ("ours", new), ("  words", host), ("  words by tensors", device)):
        print(f"  {name:18} {1e9 * seconds / values:6.1f}")
    print(f"  {share:.1%} of the guard's time, {old * len(draws.tails) / DRAWS / whole:.1%} with floats")
    print(f"  one draw of {' x '.join(map(str, LARGE))}: {1e3 * one:.1f} ms")
    return share


def floats(clean: torch.Tensor) -> torch.Tensor:
    noise = torch.empty(DRAWS, *clean.shape[1:])
    np.random.Generator(np.random.SFC64(1)).standard_normal(dtype=np.float32, out=noise.numpy())
    return noise.mul_(SIGMA).add_(clean)


if __name__ == "__main__":
    sys.exit(main())
