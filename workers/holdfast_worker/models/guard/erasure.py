"""Erase-and-check: a verdict that no appended text talks a guard out of (maths.md §8).

A text is Unsafe if it is, or if any of its truncations by up to C code points is: erasing what an attacker appended
gives the text back, whatever they appended, and with it the certificate that it has. Every truncation is cut from the
text as it came and prepared from scratch, so that nothing of a tokenizer's making can hide the text. Only an appended
text is covered; the image's shift is, by the Gaussian noise.

A verdict draws its noise anew each time: a noise that follows from the input would repeat one lucky miss for ever.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import flags_above
from holdfast.contract.models import Defaults
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.guard.input import GuardInput
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.models.vision.noise_space import decoded

PASSES = 64
"""N where nothing else is asked for: passes that each truncation is judged by."""


@dataclass(frozen=True)
class ErasureRule:
    """What makes a text Unsafe: some truncation of it is in so many of its passes.

    Attributes:
        characters: C, code points that are erased at most.
        passes: N, fresh noisy passes of every truncation.
        flags: c, Unsafe passes of one truncation that make the text Unsafe, 1..passes.
        sigma: Standard deviation of the image noise.
    """

    characters: int
    passes: int
    flags: int
    sigma: float

    def __post_init__(self) -> None:
        if self.characters < 0:
            raise ValueError(f"characters={self.characters} must be at least 0; raise characters")
        if not 1 <= self.flags <= self.passes:
            raise ValueError(f"flags={self.flags} must be 1 to passes={self.passes}; lower flags or raise passes")
        if not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be above 0; raise sigma")

    @classmethod
    def of(cls, defaults: Defaults, *, characters: int | None = None, passes: int = PASSES) -> Self:
        """A guard's own operating point: flagged where more than τ of a truncation's passes are Unsafe.

        Args:
            defaults: The guard's.
            characters: C; the guard's default where not given.
            passes: N, at least 1.
        """
        erased = defaults.max_characters if characters is None else characters
        return cls(erased, passes, flags_above(defaults.tau, passes), defaults.sigma)


@dataclass(frozen=True, eq=False)
class Checked:
    """What erase-and-check found of one input.

    Attributes:
        rule: What made it Unsafe or not.
        unsafe: Which passes count as Unsafe, near a tie included: whoever looks for Unsafe must not overlook it. Shape
            (passes, truncations); the truncation i has i code points erased.
    """

    rule: ErasureRule
    unsafe: NDArray[np.bool_]

    @classmethod
    def of(cls, rule: ErasureRule, margins: NDArray[np.float32], *, tie_band: float) -> Self:
        """Counts the margins of every pass and truncation, shape (passes, truncations)."""
        return cls(rule, margins >= -tie_band)

    @property
    def counts(self) -> NDArray[np.int64]:
        """The Unsafe passes of each truncation, shape (truncations,)."""
        found: NDArray[np.int64] = self.unsafe.sum(axis=0)
        return found

    @property
    def flagged(self) -> bool:
        """Whether the text is Unsafe by the rule."""
        return bool((self.counts >= self.rule.flags).any())


def erase_and_check(guard: Guard, text: str, image_png: bytes, rule: ErasureRule) -> Checked:
    """The verdict on one text and image, by noise that is drawn now.

    An input that is refused has no verdict. Whoever asks must not let it pass, as an attacker may have made it so.

    Args:
        guard: A loaded guard of text and image.
        text: The text, as it came.
        image_png: The image, as PNG.
        rule: What makes it Unsafe.

    Raises:
        InputRefusedError: The guard takes no text, or refuses the text, a truncation of it, or the image.
    """
    inputs = truncations(guard, text, image_png, most=rule.characters)
    return checked(guard, inputs, rule, seed=secrets.token_hex(32))


def truncations(guard: Guard, text: str, image_png: bytes, *, most: int) -> tuple[PreparedInput, ...]:
    """The text with 0 to ``most`` code points erased, ready for draws.

    Raises:
        InputRefusedError: As `erase_and_check`.
    """
    if not isinstance(guard.inputs, GuardInput):
        raise InputRefusedError(f"model {guard.config.name} has no text to erase from, must have one; name another")
    return guard.inputs.prepare_truncations(text, decoded(image_png), most=most)


def checked(guard: Guard, inputs: Sequence[PreparedInput], rule: ErasureRule, *, seed: str) -> Checked:
    """As `erase_and_check` of inputs that are ready, by the noise of a seed: for measurements, never for a verdict."""
    found = truncation_margins(guard, inputs, sigma=rule.sigma, seed=seed, stop=rule.passes)
    return Checked.of(rule, found, tie_band=guard.info.tie_band)


def truncation_margins(
    guard: Guard, inputs: Sequence[PreparedInput], *, sigma: float, seed: str, stop: int
) -> NDArray[np.float32]:
    """The margins of draws 0 to ``stop`` of every truncation; a draw has one image noise for all of them.

    Where the verdict is the tokens' probability, one reading of each noisy image serves every truncation. Where the
    answer is written, or an engine reads the prompts, each truncation is a pass of its own.

    Returns:
        Shape (draws, truncations); above 0 is Unsafe.
    """
    if isinstance(guard, LlavaGuard) and guard.config.decision == "token_mass":
        return guard.branched_margins(inputs, seed=seed, sigma=sigma, start=0, stop=stop)
    no_slots = np.empty((stop, 1, 1, 0), dtype=np.int64)
    found = guard.margins([Draws(prepared, seed, sigma, 0, stop, no_slots) for prepared in inputs])
    return np.concatenate(found, axis=1)[:, :, 0]
