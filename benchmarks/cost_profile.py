"""What a default certificate costs a model of any size: image draws times their cost, before and after joint scores.

    python benchmarks/cost_profile.py                                   LLaVA-OneVision 7B: 1,300 positions, tails of 12
    python benchmarks/cost_profile.py --prefix 71 --tail 12             the shipped guard's own
    python benchmarks/cost_profile.py --prefill-s .11 --position-s 1e-4 as `holdfast bench` measured a model

Cells that were sampled one by one took 7,168 image draws for the 7,856 passes of a default certificate (version 0.4,
every vote Unsafe, slots 8). A joint one takes the default draws, or about ten seconds of them where seconds are given
and a draw costs over 10 ms, each with r tails in every cell. Positions that tails of a draw share are counted once, as
they are computed. The radii are those of votes that are all Unsafe, of nine budgets together. The exit status is 1
where the default certificate of the profile is not at least 5 times as cheap as before.
"""

import argparse
import sys

import numpy as np
import torch

from holdfast.certificates import UniformKernel, joint_frontier
from holdfast_worker.models.guard.announced import tails_worth
from holdfast_worker.models.guard.tails import tail_layout

BEFORE_DRAWS, BEFORE_PASSES, BEFORE_RADII = 7168, 7856, 14.496
SLOTS, DRAWS, ALPHA, SIGMA, TAU, KERNEL = 8, 1000, 0.01, 0.5, 0.3, UniformKernel(0.9, 1000)
LEAST_GAIN = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prefix", type=int, default=1300, help="positions that an image draw reads once")
    parser.add_argument("--tail", type=int, default=12, help="positions of one tail, its slots and what closes it")
    parser.add_argument("--prefill-s", type=float, help="measured seconds of an image draw up to its tails")
    parser.add_argument("--position-s", type=float, help="measured seconds of one tail position")
    asked = parser.parse_args()
    if (asked.prefill_s is None) != (asked.position_s is None):
        parser.error("give both --prefill-s and --position-s, or neither")
    timed = asked.prefill_s is not None
    prefill, position = (asked.prefill_s, asked.position_s) if timed else (asked.prefix, 1.0)
    before = BEFORE_DRAWS * prefill + BEFORE_PASSES * asked.tail * position
    unit = "s" if timed else "positions"
    print(f"before: {BEFORE_DRAWS:,} draws, {before:,.0f} {unit}, radii of {BEFORE_RADII:.1f} together")
    rule, gain = tails_worth(round(prefill / position), (SLOTS + 1) * asked.tail), 0.0
    for tails in sorted({1, rule}):
        draw = prefill + tails * computed(asked.tail) * position
        draws = min(DRAWS, max(20, int(10 / draw))) if timed and draw > 0.01 else DRAWS
        total = sum(radius or 0.0 for radius in radii(draws, tails))
        gain = before / (draws * draw)
        print(
            f"r = {tails}{' (the default)' if tails == rule else ''}: {draws:,} draws, {draws * draw:,.0f} {unit},"
            f" radii of {total:.1f} ({total / BEFORE_RADII:.0%}): {gain:.1f} times as cheap"
        )
    return 0 if gain >= LEAST_GAIN else 1


def computed(tail: int) -> int:
    """Positions of one tail in every cell that are computed: cell k is the last cell's up to slot k."""
    return len(tail_layout(1, tail, ((*range(SLOTS), 0),), torch.device("cpu")).kept)


def radii(draws: int, tails: int) -> list[float | None]:
    votes = np.ones((draws, tails, SLOTS + 1), dtype=np.bool_)
    return joint_frontier(votes, kernel=KERNEL, sigma=SIGMA, tau=TAU, alpha=ALPHA)


if __name__ == "__main__":
    sys.exit(main())
