"""One measurement of a reference guard: accuracy, each modality alone, and the operating point's price."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast_lab.erasure import UnionFlags, lines_of, safe_examples, union_flags
from holdfast_lab.evaluation import CLEAN, Guard, Noise, accuracy, held_out, unsafe_shares, upper_bound
from holdfast_lab.export import ALPHA, DEFAULTS
from holdfast_lab.scenes import Example, Image
from holdfast_worker.models.guard.erasure import ErasureRule
from holdfast_worker.models.guard.voting import Guard as ServedGuard


@dataclass(frozen=True)
class Setting:
    """A noise and the τ that it is judged at, with the streams that its price is measured on.

    Attributes:
        part: held-out part that the examples come from; no other figure uses it.
        seed: of the noise.
    """

    noise: Noise
    tau: float
    part: int
    seed: int


SUFFIX: Final = Setting(
    Noise(sigma=DEFAULTS["sigma"], beta=DEFAULTS["beta"], slots=DEFAULTS["slots"]), DEFAULTS["tau"], part=2, seed=0
)
L0: Final = Setting(
    Noise(sigma=DEFAULTS["sigma"], beta=DEFAULTS["l0"]["beta"], on_text=True), DEFAULTS["l0"]["tau"], part=5, seed=2
)
_SETTINGS: Final[dict[str, Noise]] = {
    "clean": CLEAN,
    "σ=.25, β=.9 uniform": Noise(sigma=0.25, beta=0.9),
    "σ=.5, β=.9 uniform": Noise(sigma=0.5, beta=0.9),
    "σ=.75, β=.9 uniform": Noise(sigma=0.75, beta=0.9),
    "σ=.5, β=.9 absorbing": Noise(sigma=0.5, beta=0.9, kernel="absorbing"),
    "σ=.5, no slots": Noise(sigma=0.5, beta=0.0, slots=0),
    "σ=.5, β=.25 on the text": Noise(sigma=0.5, beta=0.25, on_text=True),
    "σ=.5, β=.4 on the text": Noise(sigma=0.5, beta=0.4, on_text=True),
}


@dataclass(frozen=True)
class Score:
    """`right` of `total` held-out examples, one pass each."""

    name: str
    right: int
    total: int

    @property
    def share(self) -> float:
        """The share that was right."""
        return self.right / self.total

    @property
    def at_least(self) -> float:
        """Clopper–Pearson lower bound on the share, one-sided at risk `ALPHA`."""
        return clopper_pearson_lower(self.right, self.total, ALPHA)


@dataclass(frozen=True)
class OperatingPoint:
    """What one setting does to whole examples, each judged by `passes` noisy passes.

    Attributes:
        safe, unsafe: held-out examples of each label.
        safe_flagged, unsafe_flagged: of which more than τ of the passes said Unsafe.
        unsafe_median: median over the Unsafe examples of the share of passes that said Unsafe.
    """

    passes: int
    safe: int
    safe_flagged: int
    unsafe: int
    unsafe_flagged: int
    unsafe_median: float

    @property
    def false_flags_at_most(self) -> float:
        """Clopper–Pearson upper bound on the false-flag rate, one-sided at risk `ALPHA`."""
        return upper_bound(self.safe_flagged, self.safe, ALPHA)


@dataclass(frozen=True)
class Report:
    """Everything the model card states."""

    accuracy: tuple[Score, ...]
    alone: tuple[Score, ...]
    suffix: OperatingPoint
    l0: OperatingPoint
    append: UnionFlags


def _grey(image: Image) -> Image:
    return np.full_like(image, 128)


def one_modality(examples: list[Example]) -> dict[str, list[Example]]:
    """The examples with one modality removed or exchanged, their labels kept.

    Exchanging means taking the neighbour's, which is independent of the label.
    """
    others = examples[1:] + examples[:1]
    pairs = list(zip(examples, others, strict=True))
    return {
        "picture alone (no text)": [replace(e, text="") for e in examples],
        "picture alone (another's text)": [replace(e, text=o.text) for e, o in pairs],
        "text alone (grey picture)": [replace(e, image=_grey(e.image)) for e in examples],
        "text alone (another's picture)": [replace(e, image=o.image) for e, o in pairs],
    }


def _operating_point(guard: Guard, setting: Setting, *, safe: int, unsafe: int, passes: int) -> OperatingPoint:
    # Twice what is needed and a margin: labels are fair coins.
    pool = held_out(2 * max(safe, unsafe) + 400, part=setting.part)
    chosen = [e for e in pool if not e.unsafe][:safe] + [e for e in pool if e.unsafe][:unsafe]
    shares = unsafe_shares(guard, chosen, setting.noise, passes=passes, seed=setting.seed)
    flagged = shares > setting.tau
    return OperatingPoint(
        passes=passes,
        safe=safe,
        safe_flagged=int(flagged[:safe].sum()),
        unsafe=unsafe,
        unsafe_flagged=int(flagged[safe:].sum()),
        unsafe_median=float(np.median(shares[safe:])),
    )


def measure(
    guard: Guard,
    served: ServedGuard,
    *,
    examples: int = 2000,
    scenes: int = 1000,
    passes: int = 64,
    say: Callable[[str], None],
) -> Report:
    """Measure a guard on held-out scenes and wordings; some twenty minutes on one core at the defaults.

    Args:
        guard: what to measure.
        served: the same guard as the worker loads it: erase-and-check is measured as it is served.
        examples: for each accuracy.
        scenes: Safe scenes for each threat's false-flag rate, and half as many Unsafe ones.
        passes: noisy passes per scene.
        say: receives one line per figure.
    """
    pool = held_out(examples)

    def score(name: str, inputs: list[Example], noise: Noise) -> Score:
        result = Score(name, *accuracy(guard, inputs, noise, seed=0))
        say(f"{name}: {result.right}/{result.total} = {result.share:.4f}")
        return result

    def price(threat: str, setting: Setting) -> OperatingPoint:
        point = _operating_point(guard, setting, safe=scenes, unsafe=scenes // 2, passes=passes)
        say(
            f"{threat} at τ={setting.tau}: Safe flagged {point.safe_flagged}/{point.safe} (at most "
            f"{point.false_flags_at_most:.4f}), Unsafe flagged {point.unsafe_flagged}/{point.unsafe}"
        )
        return point

    scores = tuple(score(name, pool, noise) for name, noise in _SETTINGS.items())
    alone = tuple(score(name, inputs, CLEAN) for name, inputs in one_modality(pool).items())
    with ThreadPoolExecutor(2) as workers:  # each has noise of its own, so the figures are those of one after the other
        suffix, l0 = workers.submit(price, "suffix", SUFFIX), workers.submit(price, "l0", L0)
        points = {"suffix": suffix.result(), "l0": l0.result()}
    rule = ErasureRule.of(served.info.defaults, passes=passes)
    append = union_flags(served, rule, list(safe_examples(scenes, seed=0)), seed=0, say=say)
    say(lines_of(append, ALPHA)[0])
    return Report(scores, alone, append=append, **points)
