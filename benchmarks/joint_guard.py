"""How far joint certificates of the shipped guard reach, against cells one by one and one number, on fresh scenes.

    python benchmarks/joint_guard.py                   200 scenes, 128 image draws each: some minutes
    python benchmarks/joint_guard.py --scenes 20

Every scene is certified for its own label at the guard's default operating point, from the same image draws by either
way, at the same alpha. Joint is `auto`, with r tails of every cell. The baseline has one tail of every cell; the cells
share half of alpha equally (section 5), and for the other half it has one tail of the kernel's own noise and the worst
classifier of its rate (section 3). The better counts for every budget. Radii are compared where either way has one.
The exit status is 1 where the median of the ratios is below 1 for a budget, or a single one below .97.
"""

import argparse
import sys
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holdfast.certificates import Votes, answer
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order
from holdfast_lab.scenes import Example, draw_example
from holdfast_worker.models import registry
from holdfast_worker.models.guard.announced import default_spec
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import margins, prepare, votes_of

STREAM = 20_261_124
LEAST_MEDIAN, LEAST = 1.0, 0.97


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--draws", type=int, default=128)
    parser.add_argument("--tails", type=int, help="r; the guard's default where it is left out")
    asked = parser.parse_args()
    guard = registry.load("reference-guard", {})
    assert isinstance(guard, LlavaGuard)
    radii = np.array([list(compared(guard, example, asked.draws, asked.tails)) for example in scenes(asked.scenes)])
    return report(radii[:, :, 0], radii[:, :, 1], asked.draws)


def scenes(count: int) -> Iterator[Example]:
    rng = np.random.default_rng(STREAM)
    for _ in range(count):
        yield draw_example(rng, held_out=True)


def compared(guard: Guard, example: Example, draws: int, tails: int | None) -> Iterator[tuple[float, float]]:
    """For every budget the radius of the baseline and of joint, 0 for none."""
    file = BytesIO()
    Image.fromarray(example.image).save(file, "PNG")
    given = JobInput(text=example.text, image_png=file.getvalue())
    changed: dict[str, object] = {"verdict": "unsafe" if example.unsafe else "safe", "epsilons": ()}
    changed |= {} if tails is None else {"tails": tails}
    joint = default_spec(guard.info, given).model_copy(update=changed)
    half: dict[str, object] = {"alpha": joint.alpha / 2, "tails": 1}
    own = joint.model_copy(update=half | {"method": "neyman_pearson"})
    every = votes(guard, joint, given, draws)
    one = Votes(every.unsafe[:, :1], every.near_tie[:, :1])
    after = radii(joint, every)
    by_cell = radii(joint.model_copy(update=half | {"method": "stratified"}), one)
    by_one = radii(own, votes(guard, own, given, draws))
    yield from zip(map(max, by_cell, by_one), after, strict=True)


def votes(guard: Guard, spec: GuardSpec, given: JobInput, draws: int) -> Votes:
    ready = prepare(guard, spec, "5" * 64, given)
    return Votes(*votes_of(ready, margins(guard, [(Order("scene", 0, 0, draws), ready)])[0]))


def radii(spec: GuardSpec, votes: Votes) -> list[float]:
    """Of every budget, 0 for none."""
    return [point.radius or 0.0 for point in answer(question_of(spec), votes).frontier]


def report(before: NDArray[np.float64], after: NDArray[np.float64], draws: int) -> int:
    kept = True
    print(f"{len(before)} scenes, {draws} image draws each")
    print(
        f"{'d':>3}{'certified':>22}{'median radius':>22}{'ratio: median':>16}{'least':>8}{'< .97':>7}{'by at most':>12}"
    )
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
        less, short = np.count_nonzero(ratios < LEAST), float((theirs - ours)[some][ratios < LEAST].max(initial=0.0))
        print(f"{tokens:>3}{certified:>22}{middle:>22}{median:>16.2f}{least:>8.2f}{less:>7}{short:>12.3f}")
    print(f"medians at least {LEAST_MEDIAN}, none below {LEAST}: {'yes' if kept else 'no'}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
