"""When to look at the evidence, how many draws to order, and when to ask for no more: rules of cost.

Every order takes fresh draws, and the any-time bounds hold whatever these rules are (maths.md §4); they decide the cost
of a certificate, never its truth. When the evidence is looked at follows from the question alone, so that sampling
stops at the same draw however fast the device is.
"""

import math
from dataclasses import replace

import numpy as np

from holdfast.certificates import Answer, Question, Votes, answer
from holdfast.certificates.guard.prospects import doubled, hoped
from holdfast.certificates.guard.sides import Side
from holdfast.certificates.noise.kernels import BLOCK
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Stopped

AHEAD = 4
"""Orders that are out beyond the counted prefix: what keeps workers busy while the certifier thinks."""
_LONGEST_ORDER_S = 1.0
_FARTHEST = 64
"""How many times the draws so far a hope looks ahead: beyond, a rate that is two standard errors off decides."""


def is_look(spec: GuardSpec, draws: int) -> bool:
    """Whether to look at the evidence after this many draws: four times while they double, and when they are spent."""
    return draws == spec.max_draws or draws % _step(spec, draws) == 0


def order_draws(spec: GuardSpec, start: int) -> int:
    """The draws of the order that begins at draw `start`; none when they are spent.

    An order ends where the evidence is looked at next. It is no larger than what fills the device, whole blocks of
    seeded noise, and than what the device does in about a second, so that no job holds a worker for long.
    """
    step = _step(spec, start)
    return min((start // step + 1) * step - start, _most(spec), spec.max_draws - start)


def _step(spec: GuardSpec, draws: int) -> int:
    """The draws between two looks: a quarter of the last power of two; a target's first ones are looked at singly."""
    return max(1 if spec.target is not None else BLOCK, 1 << draws.bit_length() >> 3)


def _most(spec: GuardSpec) -> int:
    """The draws of a whole order."""
    most = max(BLOCK, spec.room or BLOCK)
    if spec.draw_s:
        most = max(1, min(most, math.floor(_LONGEST_ORDER_S / spec.draw_s)))
    return most - most % BLOCK if most >= BLOCK else 1 << most.bit_length() - 1


def stopped(spec: GuardSpec, question: Question, votes: Votes, found: Answer) -> Stopped | None:
    """Why no more draws are wanted, or None.

    Before the draws are spent that is when the target is decided, when twice the draws at the same rates would raise
    the radii together by no more than the tolerance, or when even the best that two standard errors allow would not
    certify anything.

    Args:
        spec: What is certified.
        question: Its parameters.
        votes: The evidence so far.
        found: What it certifies.
    """
    if found.target is not None and spec.stop == "any_time":
        return "target"
    if len(votes.unsafe) >= spec.max_draws:
        return "draws_spent"
    if spec.stop == "fixed":
        return None
    if spec.target is None and found.verdict != "abstained":
        return "tolerance" if _settled(spec, question, votes, found, found.verdict) else None
    return None if any(_may_yet(spec, question, votes, side) for side in question.sides) else "not_certifiable"


def _settled(spec: GuardSpec, question: Question, votes: Votes, found: Answer, side: Side) -> bool:
    now, then = _worth(question, found), _worth(question, answer(_of(question, side), doubled(votes)))
    # Budgets without radii are counted, and one more is worth a doubling.
    return then - now <= (spec.tolerance * now if question.sigma else 0.0)


def _worth(question: Question, found: Answer) -> float:
    """The radii of all budgets together; the number of certified ones where there is no image noise."""
    radii = [point.radius for point in found.frontier if point.radius is not None]
    return math.fsum(radii) if question.sigma else float(len(radii))


def _may_yet(spec: GuardSpec, question: Question, votes: Votes, side: Side) -> bool:
    """Whether the rest of the draws may certify the side, with the rates at the far end of their Wilson intervals."""
    draws = len(votes.unsafe)
    if draws < BLOCK:  # of so few, the interval tells nothing
        return True
    asked = _of(question, side)
    if spec.masks_matter:
        # What the covers need cannot be told cheaply: whether the clean probability alone may still certify.
        asked = replace(asked, method="neyman_pearson", max_tokens=0, target=None)
    best = answer(asked, _hopeful(votes, side, min(spec.max_draws, _FARTHEST * draws)))
    return best.verdict != "abstained" if asked.target is None else best.target is not None


def _of(question: Question, side: Side) -> Question:
    """The question of one side, at its share of alpha, without what is asked of the worst case."""
    return replace(question, sides=(side,), alpha=question.alpha / len(question.sides), epsilons=())


def _hopeful(votes: Votes, side: Side, total: int) -> Votes:
    """So many draws: such as the votes are, and so many that hit throughout that every cell's rate is as hoped."""
    draws = len(votes.unsafe)
    rates = votes.hits(side).mean(axis=(0, 1))
    best = (rates + 2 / draws + 2 * np.sqrt(rates * (1 - rates) / draws + 1 / draws**2)) / (1 + 4 / draws)
    misses = 1 - rates
    rise = float(np.divide(best - rates, misses, out=np.zeros_like(misses), where=misses > 0).max())
    lucky = math.ceil((total - draws) * min(1.0, rise))
    like = np.resize(np.arange(draws), total - lucky)
    masks = None if votes.masks is None else votes.masks[like]
    return hoped(Votes(votes.unsafe[like], votes.near_tie[like], masks), side, lucky)
