"""How far joint certificates of the shipped guard reach, against cells one by one and one number, on fresh scenes.

    python benchmarks/joint_guard.py                   200 scenes, 128 image draws each: some minutes
    python benchmarks/joint_guard.py --scenes 20

Every scene is certified for its own label at the guard's default operating point, from the same image draws by either
way. Joint has the default tails of every cell, and alpha once. The baseline has one tail of every cell, each with its
share of alpha (section 5), and beside it, at alpha once more, one tail of the kernel's own noise and the worst
classifier of its rate (section 3); the better counts for every budget. Radii are compared where either way has one.
The exit status is 1 where the median of the ratios is below 1 for a budget, or a single one below .97.
"""

import argparse
import sys
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holdfast.certificates import (
    any_time_lower,
    joint_frontier,
    neyman_pearson_radius,
    suffix_frontier,
)
from holdfast.certificates.guard.sides import safe_threshold
from holdfast.contract.guard.spec import GuardSpec
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order
from holdfast_lab.scenes import Example, draw_example
from holdfast_worker.models import registry
from holdfast_worker.models.guard.announced import default_spec
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.noise import kernel_of
from holdfast_worker.sampling.guard import margins, prepare, votes_of

STREAM = 20_261_124
LEAST_MEDIAN, LEAST = 1.0, 0.97


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--draws", type=int, default=128)
    asked = parser.parse_args()
    guard = registry.load("reference-guard", {})
    assert isinstance(guard, LlavaGuard)
    radii = np.array([list(compared(guard, example, asked.draws)) for example in scenes(asked.scenes)])
    return report(radii[:, :, 0], radii[:, :, 1], asked.draws)


def scenes(count: int) -> Iterator[Example]:
    rng = np.random.default_rng(STREAM)
    for _ in range(count):
        yield draw_example(rng, held_out=True)


def compared(guard: Guard, example: Example, draws: int) -> Iterator[tuple[float, float]]:
    """For every budget the radius of the baseline and of joint, 0 for none."""
    file = BytesIO()
    Image.fromarray(example.image).save(file, "PNG")
    given = JobInput(text=example.text, image_png=file.getvalue())
    joint = default_spec(guard.info, given).model_copy(update={"method": "joint"})
    one = joint.model_copy(update={"method": "neyman_pearson", "tails": 1})
    hits, natural = (votes(guard, spec, given, draws, example.unsafe) for spec in (joint, one))
    kernel = kernel_of(joint.token_kernel, joint.beta, joint.alphabets[0])
    tau, alpha, sigma = joint.tau if example.unsafe else safe_threshold(joint.tau), joint.alpha / 2, joint.sigma
    after = joint_frontier(hits, kernel=kernel, sigma=sigma, tau=tau, alpha=alpha)
    cells = [(draws, int(k)) for k in hits[:, 0].sum(axis=0)]
    strata = suffix_frontier(cells, kernel=kernel, sigma=sigma, tau=tau, alpha=alpha)
    clean = any_time_lower(int(natural.sum()), draws, alpha)
    for tokens, (ours, theirs) in enumerate(zip(after, strata, strict=True)):
        worst = neyman_pearson_radius(clean, kernel=kernel, tokens=tokens, sigma=sigma, tau=tau)
        yield max(theirs or 0.0, worst or 0.0), ours or 0.0


def votes(guard: Guard, spec: GuardSpec, given: JobInput, draws: int, unsafe: bool) -> NDArray[np.bool_]:
    """The votes for the scene's own label, (draws, tails, cells)."""
    ready = prepare(guard, spec, "5" * 64, given)
    found = margins(guard, [(Order("scene", 0, 0, draws), ready)])[0]
    said, near = votes_of(ready, found)
    return (said if unsafe else ~said) & ~near


def report(before: NDArray[np.float64], after: NDArray[np.float64], draws: int) -> int:
    kept = True
    print(f"{len(before)} scenes, {draws} image draws each")
    print(f"{'d':>3}{'certified':>22}{'median radius':>22}{'ratio: median':>16}{'least':>8}")
    for tokens, (theirs, ours) in enumerate(zip(before.T, after.T, strict=True)):
        some = np.maximum(theirs, ours) > 0.0
        if not some.any():
            print(f"{tokens:>3}{'none':>22}")
            continue
        ratios = ours[some] / np.where(theirs[some] > 0.0, theirs[some], ours[some] / 10.0)
        median, least = float(np.median(ratios)), float(ratios.min())
        kept &= median >= LEAST_MEDIAN and least >= LEAST
        certified = f"{np.count_nonzero(theirs)} -> {np.count_nonzero(ours)}"
        middle = f"{np.median(theirs[some]):.3f} -> {np.median(ours[some]):.3f}"
        print(f"{tokens:>3}{certified:>22}{middle:>22}{median:>16.2f}{least:>8.2f}")
    print(f"medians at least {LEAST_MEDIAN}, none below {LEAST}: {'yes' if kept else 'no'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
