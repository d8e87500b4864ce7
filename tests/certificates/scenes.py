"""Guards whose every smoothed probability is known, asked as the service asks: question, votes, and the truth.

The votes are drawn as evenly as can be, so that their rates all but meet the exact ones, which their bounds stay below:
what `answer` then says must hold against every attack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import Answer, Question, Votes
from holdfast.certificates.bounds.counts import Bound
from tests.certificates.asking import asked, drawn
from tests.certificates.worlds import Floats, Worlds, all_masks, random_worlds, tight_world

COUNT = 30
DRAWS = 1200
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
            guard, shift = self._guard(tokens), epsilon / (self.question.sigma or 1.0)
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

    @property
    def needs_masks(self) -> bool:
        return self.question.text == "l0" and self.question.method != "neyman_pearson"

    @cached_property
    def rates(self) -> Floats:
        """P[Unsafe | the image in this bin] in every cell, [classifier, bin, cell]."""
        asks, (guard, *_) = self.question, self.guards
        if not asks.per_budget and len(asks.cells) > 1:
            return guard.cells(len(asks.cells) - 1, by_bin=True)
        cells = [self._guard(cell.slots).covered(range(cell.leading_masked), by_bin=True) for cell in asks.cells]
        return np.stack(cells, axis=-1)

    def mean(self, tokens: int) -> Floats:
        """What the score of this budget estimates, of every classifier."""
        asks, guard = self.question, self._guard(tokens)
        if asks.method == "stratified" and asks.target is None:
            return np.asarray(guard.cells(len(asks.cells) - 1)[:, tokens])
        return guard.covered(() if asks.method == "neyman_pearson" else range(tokens))

    def votes(self, index: int, draws: int = DRAWS, rng: np.random.Generator | None = None) -> Votes:
        """Draws of one classifier: as evenly as can be, or of the generator that is given."""
        guard, shape = self.guards[0], (draws, self.question.tails)
        bins = _spread(draws, guard.bin_chances, rng)
        hazard = np.stack([_levels(bins, at, rng) for at in range(shape[1])], axis=1)
        if not self.needs_masks:
            # One level decides all cells of a tail, as they share their replacements.
            return drawn(hazard[:, :, None] < self.rates[index][bins][:, None, :])
        patterns, law = all_patterns(guard)
        ends = np.cumsum(law)
        which = np.minimum(np.searchsorted(ends, hazard, side="right"), len(law) - 1)
        rest = (hazard - (ends - law)[which]) / law[which]
        rates = guard.seen[index].reshape(len(patterns), -1)
        return drawn((rest < rates[which, bins[:, None]])[:, :, None], patterns[which])

    def _guard(self, tokens: int) -> Worlds:
        return self.guards[min(tokens, len(self.guards) - 1)]


def _spread(draws: int, chances: Floats, rng: np.random.Generator | None) -> NDArray[np.intp]:
    """The bin of every draw."""
    if rng is not None:
        return rng.choice(len(chances), p=chances / chances.sum(), size=draws)
    ends = np.rint(np.cumsum(chances) * draws).astype(np.intp)
    return np.repeat(np.arange(len(chances)), np.diff(ends, prepend=0))


def _levels(bins: NDArray[np.intp], tail: int, rng: np.random.Generator | None) -> Floats:
    """Numbers from 0 to 1, one a draw; without a generator evenly in every bin, in an order that is the tail's own."""
    if rng is not None:
        return rng.random(len(bins))
    levels, order = np.empty(len(bins)), np.random.default_rng(tail)
    for one in range(int(bins.max()) + 1):
        here = np.flatnonzero(bins == one)
        levels[here] = (order.permutation(len(here)) + 0.5) / max(1, len(here))
    return levels


def violations(scene: Scene, found: Sequence[Answer]) -> list[object]:
    """Every number of the answers, one a classifier, that some attack refutes."""
    asks, wrong = scene.question, list[object]()
    outside = asks.method in ("joint", "stratified") or asks.token_kernel == "absorbing"
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
    """The radii, the target and the scores of one classifier's answer that do not hold."""
    asks, wrong = scene.question, list[object]()
    for point in found.frontier:
        if point.radius is not None:
            anywhere = point.method != "neyman_pearson" or asks.token_kernel == "absorbing"
            if not _stands(scene, found.verdict, point.tokens, point.radius, anywhere):
                wrong.append(point)
    named = asks.target is not None and found.target is not None
    if named and not _stands(
        scene, str(found.target), *(asks.target or (0, 0.0)), asks.method in ("joint", "stratified")
    ):
        wrong.append((asks.target, found.target))
    for score in found.scores:
        (rate,) = scene.mean(score.tokens)
        if not score.lower <= rate + ROUNDING <= score.upper + 2 * ROUNDING:
            wrong.append((score, rate))
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
    budgets = {} if "target" in changes else {"max_tokens": 3}
    question = asked(
        kernel=kernel, beta=MASKED if absorbing else MASKED * 2 / 3, alphabets=(3,), tau=0.5, **{**budgets, **changes}
    )
    slots = range(question.slots + 1) if question.per_budget else (3,)
    return Scene(question, tuple(_worlds(rng, SIZES[:m], (MASKED,) * m, absorbing) for m in slots))


def _fields(rng: np.random.Generator, kernel: str, **changes: Any) -> Scene:
    question = asked(kernel=kernel, beta=FIELD_BETA, alphabets=FIELDS, text="l0", tabular=True, tau=0.3, **changes)
    chances = [FIELD_BETA if kernel == "absorbing" else FIELD_BETA * size / (size - 1) for size in FIELDS]
    return Scene(question, (_worlds(rng, FIELDS, chances, kernel == "absorbing"),))


def _image(rng: np.random.Generator, kernel: str, **changes: Any) -> Scene:
    question = asked(kernel=kernel, text="none", tau=0.5, **changes)
    return Scene(question, (_worlds(rng, (), (), True),))


L0 = {"text": "l0"}
NP = {"method": "neyman_pearson"}
AUTO = {"method": "auto"}
STRATA = {"method": "stratified"}
OWN = {"per_budget": True}
ONE_TAIL = {"tails": 1}
TEXT_ONLY = {"sigma": 0.0, "epsilons": (0.0,)}
TARGET = {"target": (1, 0.5)}
SCENES: dict[str, tuple[Callable[..., Scene], dict[str, Any]]] = {
    "joint": (_text, {}),
    "joint, four tails": (_text, {"tails": 4}),
    "joint, few strata": (_text, {"strata": 1, "tails": 3}),
    "joint, one side and one tail": (_text, {"sides": ("safe",), "sigma": 0.5, **ONE_TAIL}),
    "auto": (_text, AUTO),
    "auto, few strata": (_text, {**AUTO, "strata": 2}),
    "stratified": (_text, STRATA),
    "stratified, few strata and one tail": (_text, {**STRATA, "strata": 1, **ONE_TAIL}),
    "neyman_pearson": (_text, NP),
    "per budget": (_text, OWN),
    "per budget, auto": (_text, {**OWN, **AUTO}),
    "per budget, neyman_pearson": (_text, {**OWN, **NP}),
    "image only": (_image, {"sigma": 0.25}),
    "image only, auto": (_image, AUTO),
    "image only, neyman_pearson": (_image, NP),
    "text only": (_text, TEXT_ONLY),
    "text only, auto": (_text, {**AUTO, **TEXT_ONLY}),
    "text only, stratified": (_text, {**STRATA, **TEXT_ONLY}),
    "target": (_text, TARGET),
    "target, auto": (_text, {**TARGET, **AUTO, **ONE_TAIL}),
    "target, stratified": (_text, {**TARGET, **STRATA}),
    "target, neyman_pearson": (_text, {**TARGET, **NP}),
    "target per budget": (_text, {**OWN, "target": (2, 0.25)}),
    "target of all slots per budget": (_text, {**OWN, "target": (3, 0.25)}),
    "l0": (_text, L0),
    "l0, one tail": (_text, {**L0, **ONE_TAIL}),
    "l0, auto": (_text, {**L0, **AUTO}),
    "l0, neyman_pearson": (_text, {**L0, **NP}),
    "l0, target": (_text, {**L0, **TARGET}),
    "tabular": (_fields, {}),
    "tabular, auto": (_fields, AUTO),
    "tabular, neyman_pearson": (_fields, NP),
}  # fmt: skip


def random_scene(name: str, kernel: str, bound: Bound) -> Scene:
    """Random classifiers under the question of this name; the same ones each time."""
    build, changes = SCENES[name]
    seed = list(SCENES).index(name) * 4 + 2 * (kernel == "absorbing") + (bound == "any_time")
    return build(np.random.default_rng(seed), kernel, **{**changes, "bound": bound})


TIGHT: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "joint": ((4, 4), {"slots": 2}),
    "auto": ((4, 4), {"slots": 2, **AUTO}),
    "stratified": ((4, 4), {"slots": 2, **STRATA}),
    "per budget": ((4, 4), {"slots": 2, **OWN}),
    "image only": ((), {"text": "none"}),
    "text only": ((4, 4), {"slots": 2, **TEXT_ONLY}),
    "l0": ((4, 4, 4), {**L0, "max_tokens": 2}),
    "tabular": (FIELDS, {"tabular": True, "alphabets": FIELDS, **L0, "max_tokens": 2}),
    "target": ((4, 4), {"slots": 2, **TARGET}),
}


def tight_scene(name: str, *, q: float = 0.97, safe: bool = False, **changes: Any) -> Scene:
    """One classifier that gives nothing away: its worst attack leaves exactly what an answer at exact rates says."""
    sizes, more = TIGHT[name]
    question = asked(beta=MASKED, **{"alphabets": (4,), "tau": 0.5, **more, **changes})
    budgets = range(question.slots + 1) if question.per_budget else (len(sizes),)
    scene = Scene(question, tuple(tight_world(sizes[:m], (MASKED,) * m, q) for m in budgets))
    return scene.complement() if safe else scene


def all_patterns(guard: Worlds) -> tuple[NDArray[np.bool_], Floats]:
    """Every mask and its probability."""
    patterns = all_masks(guard.positions)
    chances = np.array(guard.chances)
    return patterns, np.prod(np.where(patterns, chances, 1 - chances), axis=1)
