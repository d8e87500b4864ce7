"""Guards whose every smoothed probability is known, asked as the service asks: question, evidence, and the truth.

The evidence is what so many draws would show that its confidence bounds are below the exact rates and all but meet
them; what `answer` then says must hold against every attack, for certain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import Answer, Counts, Question
from holdfast.certificates.bounds.counts import Bound
from tests.certificates.asking import asked, plenty, pooled
from tests.certificates.worlds import Floats, Worlds, all_masks, random_worlds, tight_world

COUNT = 30
ROUNDING = 1e-12
MASKED = 0.9
SIZES = (3, 3, 3)
FIELDS = (2, 3, 5)
FIELD_BETA = 0.4


@dataclass(frozen=True, eq=False)
class Scene:
    """One question to many classifiers.

    Attributes:
        question: what is asked.
        guards: the classifiers; one world a budget where each budget has a smoothed guard of its own.
    """

    question: Question
    guards: tuple[Worlds, ...]

    def __len__(self) -> int:
        return len(self.guards[0])

    def complement(self) -> "Scene":
        return Scene(self.question, tuple(guard.complement() for guard in self.guards))

    def one(self, index: int) -> "Scene":
        return Scene(self.question, tuple(guard.one(index) for guard in self.guards))

    def extreme(self, tokens: int, epsilon: float, *, largest: bool = False, outside: bool = True) -> Floats:
        """What the worst attack of a budget makes of P[Unsafe], of every classifier."""
        asks = (tokens, epsilon, largest, outside)
        if asks not in self._known:
            guard, shift = self.guards[min(tokens, len(self.guards) - 1)], epsilon / (self.question.sigma or 1.0)
            anywhere = self.question.text == "l0"
            self._known[asks] = (
                guard.extreme_l0(tokens, shift, largest, outside)
                if anywhere
                else guard.extreme(range(tokens), shift, largest, outside)
            )
        return self._known[asks]

    @cached_property
    def _known(self) -> dict[tuple[int, float, bool, bool], Floats]:
        return {}

    @cached_property
    def rates(self) -> Floats:
        """P[Unsafe] in every cell, [classifier, cell]."""
        asks, (guard, *_) = self.question, self.guards
        if asks.per_budget:
            whole = asks.method == "neyman_pearson"
            own = [one.covered(() if whole else range(d)) for d, one in enumerate(self.guards)]
            return np.stack(own, axis=1)
        cells = guard.cells(len(asks.cells) - 1 - asks.natural)
        return np.column_stack([cells, guard.covered(())]) if asks.natural else cells

    @property
    def needs_masks(self) -> bool:
        return self.question.text == "l0" and self.question.method != "neyman_pearson"

    def counts(self, index: int) -> Counts:
        """What very many draws of this classifier would show."""
        if self.needs_masks:
            return even_pool(self.guards[0].one(index))
        rates = [rate if cell in self.question.wanted else 0.0 for cell, rate in enumerate(self.rates[index])]
        found = plenty(rates).cells
        return Counts(tuple(one if k in self.question.wanted else (0, 0) for k, one in enumerate(found)))


def even_pool(guard: Worlds, draws: int = 32_000) -> Counts:
    """Draws of one classifier with every mask and outcome as often as expected."""
    patterns = all_masks(guard.positions)
    chances = np.array(guard.chances)
    repeats = np.rint(draws * np.prod(np.where(patterns, chances, 1 - chances), axis=1)).astype(int)
    hits = np.rint(repeats * guard.by_mask[0].ravel()).astype(int)
    unsafe = np.concatenate([np.arange(n) < k for n, k in zip(repeats, hits, strict=True)])
    return pooled(np.repeat(patterns, repeats, axis=0), unsafe)


def violations(scene: Scene, found: Sequence[Answer]) -> list[object]:
    """Every number of the answers, one a classifier, that some attack refutes."""
    asks, wrong = scene.question, list[object]()
    outside = asks.method == "stratified" or asks.token_kernel == "absorbing"
    budgets = list(product(range(asks.max_tokens + 1), asks.epsilons))
    for at, (tokens, epsilon) in enumerate(budgets):
        least = scene.extreme(tokens, epsilon, outside=outside)
        most = scene.extreme(tokens, epsilon, largest=True, outside=outside)
        for one, low, high in zip(found, least, most, strict=True):
            row = one.worst_case[at]
            if (row.tokens, row.epsilon) != (tokens, epsilon) or not (
                row.at_least <= low + ROUNDING and row.at_most >= high - ROUNDING
            ):
                wrong.append((row, low, high))
    for index, one in enumerate(found):
        wrong += _refuted(scene.one(index) if len(scene) > 1 else scene, one)
    return wrong


def _refuted(scene: Scene, found: Answer) -> list[object]:
    """The radii, the target and the cells of one classifier's answer that do not hold."""
    asks, wrong = scene.question, list[object]()
    for point in found.frontier:
        if point.radius is not None:
            anywhere = point.method == "stratified" or asks.token_kernel == "absorbing"
            if not _stands(scene, found.verdict, point.tokens, point.radius, anywhere):
                wrong.append(point)
    named = asks.target is not None and found.target is not None
    if named and not _stands(scene, str(found.target), *(asks.target or (0, 0.0)), asks.method == "stratified"):
        wrong.append((asks.target, found.target))
    if not scene.needs_masks:
        for lower, rate, upper in zip(found.lower, scene.rates[0], found.upper, strict=True):
            if not lower <= rate <= upper:
                wrong.append((lower, rate, upper))
    return wrong


def _stands(scene: Scene, verdict: str, tokens: int, epsilon: float, outside: bool) -> bool:
    """Whether no attack of this budget changes the smoothed verdict."""
    safe = verdict == "safe"
    (worst,) = scene.extreme(tokens, epsilon, largest=safe, outside=outside)
    return bool(worst <= scene.question.tau + ROUNDING if safe else worst >= scene.question.tau - ROUNDING)


def _worlds(rng: np.random.Generator, sizes: Sequence[int], chances: Sequence[float], absorbing: bool) -> Worlds:
    """Random classifiers, every other one turned round so that both verdicts are there to certify."""
    found = random_worlds(rng, count=COUNT, sizes=sizes, chances=chances, absorbing=absorbing)
    found.verdicts[::2] = 1.0 - found.verdicts[::2]
    return found


def _text(rng: np.random.Generator, kernel: str, **changes: Any) -> Scene:
    """Three slots, or three positions of a text, of three tokens each."""
    absorbing = kernel == "absorbing"
    question = asked(
        kernel=kernel, beta=MASKED if absorbing else MASKED * 2 / 3, alphabets=(3,), tau=0.5, max_tokens=3, **changes
    )
    slots = range(question.max_tokens + 1) if question.per_budget else (3,)
    return Scene(question, tuple(_worlds(rng, SIZES[:m], (MASKED,) * m, absorbing) for m in slots))


def _fields(rng: np.random.Generator, kernel: str, **changes: Any) -> Scene:
    question = asked(kernel=kernel, beta=FIELD_BETA, alphabets=FIELDS, text="l0", tabular=True, tau=0.3, **changes)
    chances = [FIELD_BETA if kernel == "absorbing" else FIELD_BETA * size / (size - 1) for size in FIELDS]
    return Scene(question, (_worlds(rng, FIELDS, chances, kernel == "absorbing"),))


def _image(rng: np.random.Generator, kernel: str, **changes: Any) -> Scene:
    question = asked(kernel=kernel, text="none", tau=0.5, **changes)
    return Scene(question, (_worlds(rng, (), (), True),))


L0 = {"text": "l0"}
NP = {"method": "neyman_pearson", "strata": 0}
AUTO = {"method": "auto", "natural": True}
OWN = {"per_budget": True}
TARGET = {"target": (1, 0.5), "strata": 1, "wanted": (1,)}
SCENES: dict[str, tuple[Callable[..., Scene], dict[str, Any]]] = {
    "suffix": (_text, {}),
    "suffix, few strata": (_text, {"strata": 1, "method": "auto"}),
    "suffix, one side": (_text, {"sides": ("safe",), "sigma": 0.5}),
    "auto": (_text, AUTO),
    "auto, few strata": (_text, {**AUTO, "strata": 2}),
    "auto, no natural cell": (_text, {"method": "auto"}),
    "neyman_pearson": (_text, NP),
    "per budget": (_text, OWN),
    "per budget, auto": (_text, {**OWN, "method": "auto"}),
    "per budget, neyman_pearson": (_text, {**OWN, **NP}),
    "image only": (_image, {"sigma": 0.25}),
    "image only, auto": (_image, {"method": "auto"}),
    "text only": (_text, {"sigma": 0.0, "epsilons": (0.0,)}),
    "text only, auto": (_text, {**AUTO, "sigma": 0.0, "epsilons": (0.0,)}),
    "target": (_text, TARGET),
    "target, auto": (_text, {**TARGET, "method": "auto"}),
    "target per budget": (_text, {**OWN, "target": (2, 0.25), "wanted": (2,)}),
    "l0": (_text, L0),
    "l0, auto": (_text, {**L0, "method": "auto"}),
    "l0, neyman_pearson": (_text, {**L0, **NP}),
    "tabular": (_fields, {}),
    "tabular, auto": (_fields, {"method": "auto"}),
    "tabular, neyman_pearson": (_fields, NP),
}  # fmt: skip


def random_scene(name: str, kernel: str, bound: Bound) -> Scene:
    """Random classifiers under the question of this name; the same ones each time."""
    build, changes = SCENES[name]
    seed = list(SCENES).index(name) * 4 + 2 * (kernel == "absorbing") + (bound == "any_time")
    return build(np.random.default_rng(seed), kernel, **{**changes, "bound": bound})


TIGHT: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "suffix": ((4, 4), {"slots": 2}),
    "auto": ((4, 4), {"slots": 2, **AUTO}),
    "per budget": ((4, 4), {"slots": 2, **OWN}),
    "image only": ((), {"text": "none"}),
    "text only": ((4, 4), {"slots": 2, "sigma": 0.0, "epsilons": (0.0,)}),
    "l0": ((4, 4, 4), {**L0, "max_tokens": 2}),
    "tabular": (FIELDS, {"tabular": True, "alphabets": FIELDS, **L0, "max_tokens": 2}),
    "target": ((4, 4), {"slots": 2, "max_tokens": 1, **TARGET}),
}


def tight_scene(name: str, *, q: float = 0.97, safe: bool = False, **changes: Any) -> Scene:
    """One classifier that gives nothing away: its worst attack leaves exactly what an answer at exact rates says."""
    sizes, more = TIGHT[name]
    question = asked(beta=MASKED, **{"alphabets": (4,), "tau": 0.5, **more, **changes})
    budgets = range(question.max_tokens + 1) if question.per_budget else (len(sizes),)
    scene = Scene(question, tuple(tight_world(sizes[:m], (MASKED,) * m, q) for m in budgets))
    return scene.complement() if safe else scene


def all_patterns(guard: Worlds) -> tuple[NDArray[np.bool_], Floats]:
    """Every mask and its probability."""
    patterns = all_masks(guard.positions)
    chances = np.array(guard.chances)
    return patterns, np.prod(np.where(patterns, chances, 1 - chances), axis=1)
