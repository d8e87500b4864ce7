"""What erase-and-check costs the shipped guard: Safe examples that some truncation makes Unsafe; and one verdict."""

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from holdfast.images import decode_file
from holdfast_lab.evaluation import HELD_OUT_SEED, upper_bound
from holdfast_lab.saying import say
from holdfast_lab.scenes import Example, draw_example
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.guard.erasure import PASSES, ErasureRule, checked, erase_and_check, truncations
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.models.registry import load, require_guard

# Of the held-out streams; no other figure uses it.
_PART: Final = 7
_MAX_PIXELS: Final = 50_000_000


@dataclass(frozen=True)
class UnionFlags:
    """Safe examples judged by erase-and-check.

    Attributes:
        rule: what flagged them.
        scenes: examples that were judged.
        exactly: examples that were flagged with 0, 1, 2 … code points erased.
        within: examples that were flagged with at most so many erased: what a rule of fewer code points would flag.
    """

    rule: ErasureRule
    scenes: int
    exactly: tuple[int, ...]
    within: tuple[int, ...]

    @property
    def flagged(self) -> int:
        """Examples that some truncation flagged."""
        return self.within[-1]

    def at_most(self, alpha: float) -> float:
        """Clopper–Pearson upper bound on the rate of flagged examples, one-sided at risk `alpha`."""
        return upper_bound(self.flagged, self.scenes, alpha)


def safe_examples(count: int, seed: int) -> Iterator[Example]:
    """`count` Safe examples of a held-out stream that is this measurement's own, for each seed another."""
    rng = np.random.default_rng([HELD_OUT_SEED, _PART, seed])
    while count:
        if not (example := draw_example(rng, held_out=True)).unsafe:
            count -= 1
            yield example


def png_of(example: Example) -> bytes:
    """The example's picture as the gateway hands it on."""
    file = BytesIO()
    Image.fromarray(example.image).save(file, "PNG")
    return file.getvalue()


def union_flags(
    guard: Guard, rule: ErasureRule, examples: Sequence[Example], *, seed: int, say: Callable[[str], None]
) -> UnionFlags:
    """Judges Safe examples by erase-and-check, as it is served; some twelve minutes for 1,000 on one core.

    Args:
        guard: a loaded guard.
        rule: what flags an example.
        examples: Safe ones.
        seed: of the noise.
        say: told after each hundred examples.
    """
    flagged = np.zeros((len(examples), rule.characters + 1), dtype=bool)
    for index, example in enumerate(examples):
        inputs = truncations(guard, example.text, png_of(example), most=rule.characters)
        key = hashlib.sha256(f"erase-and-check {HELD_OUT_SEED} {seed} {index}".encode()).hexdigest()
        flagged[index, : len(inputs)] = checked(guard, inputs, rule, seed=key).counts >= rule.flags
        if (index + 1) % 100 == 0:
            say(f"{index + 1} Safe examples, {flagged.any(axis=1).sum()} flagged")
    within = np.logical_or.accumulate(flagged, axis=1)
    exactly, at_most = (tuple(map(int, found.sum(axis=0))) for found in (flagged, within))
    return UnionFlags(rule, len(examples), exactly, at_most)


def lines_of(found: UnionFlags, alpha: float) -> list[str]:
    """The measurement in words."""
    rule, scenes = found.rule, found.scenes
    return [
        f"append, σ={rule.sigma}, flagged where {rule.flags} of {rule.passes} passes of some truncation are Unsafe:"
        f" {found.flagged}/{scenes} Safe flagged = {found.flagged / scenes:.4f} (at most {found.at_most(alpha):.4f},"
        f" Clopper–Pearson, α={alpha})",
        "characters erased: flagged with exactly so many, with at most so many",
        *(f"{k:4d}: {exactly:5d} {found.within[k]:5d}" for k, exactly in enumerate(found.exactly)),
    ]


def _rule(guard: Guard, arguments: argparse.Namespace) -> ErasureRule:
    rule = ErasureRule.of(guard.info.defaults, characters=arguments.characters, passes=arguments.passes)
    return rule if arguments.flags is None else replace(rule, flags=arguments.flags)


def _measure(arguments: argparse.Namespace) -> None:
    guard = require_guard(load(arguments.model, {}))
    examples = list(safe_examples(arguments.scenes, arguments.seed))
    found = union_flags(guard, _rule(guard, arguments), examples, seed=arguments.seed, say=say)
    for line in lines_of(found, arguments.alpha):
        say(line)


def _check(arguments: argparse.Namespace) -> None:
    guard = require_guard(load(arguments.model, {}))
    image = decode_file(arguments.image.read_bytes(), max_pixels=_MAX_PIXELS)
    try:
        found = erase_and_check(guard, arguments.text, image.png, _rule(guard, arguments))
    except InputRefusedError as error:
        raise SystemExit(f"no verdict, so it must not pass: {error}") from None
    rule = found.rule
    say("unsafe" if found.flagged else "not flagged")
    say(f"Unsafe passes of {rule.passes} with 0, 1, 2 … code points erased; {rule.flags} flag the text:")
    say(" ".join(map(str, found.counts)))


def add_erasure_commands(commands: Any) -> None:
    """Add what this module can do to the command's parser."""
    verdict = commands.add_parser("erase-and-check", help="one verdict that no appended text changes, by fresh noise")
    verdict.add_argument("--text", required=True, help="the text, as it came")
    verdict.add_argument("--image", type=Path, required=True, help="its PNG, JPEG or WebP file")
    verdict.set_defaults(run=_check)
    measuring = commands.add_parser(
        "measure-erase-and-check", help="count the Safe scenes that some truncation flags, and write nothing"
    )
    measuring.add_argument("--scenes", type=int, default=1000, help="Safe scenes")
    measuring.add_argument("--seed", type=int, default=0, help="of the scenes and their noise")
    measuring.add_argument("--alpha", type=float, default=0.01, help="risk of the bound on the rate")
    measuring.set_defaults(run=_measure)
    for command in (verdict, measuring):
        command.add_argument("--model", default="reference-guard", help="name of a packaged guard, or a folder")
        command.add_argument("--characters", type=int, help="C: code points erased at most (default: the guard's)")
        command.add_argument("--passes", type=int, default=PASSES, help="N: noisy passes of each truncation")
        command.add_argument("--flags", type=int, help="c: Unsafe passes that flag it (default: the least above τN)")
