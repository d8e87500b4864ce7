"""Which draws to ask for next, and when to ask for no more: pure functions of what was counted.

Every order takes fresh draw indexes, and what it asks for depends on the counted prefix alone, so the any-time bounds
hold whatever these rules are (maths.md §4); they decide the cost of a certificate, never its truth.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from holdfast.certificates import Answer, Counts, Question, answer
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Stopped
from holdfast.queue.orders import Order
from holdfast_service.certifier.guard.evidence import Cells
from holdfast_service.certifier.views import is_checkpoint

AHEAD = 4
"""Orders that are out beyond the counted prefix: what keeps workers busy while the certifier thinks."""
ORDER_DRAWS = 16
"""Draws in one order: one block of seeded noise, small enough that no job holds a worker for long."""
_FIRST_DECISION_DRAWS = 4
_WORTH = 0.5
"""A cell is sampled next if it promises at least this share of what the best cell promises."""


def next_order(spec: GuardSpec, question: Question, job_id: str, plan: Sequence[Order], cells: Cells) -> Order | None:
    """The order after `plan`, given what has been counted; None once `max_passes` are spent."""
    index = len(plan)
    chosen = _chosen_cells(spec, question, cells) if is_checkpoint(index, 0) else plan[-1].cells or ()
    start = plan[-1].stop if plan else 0
    left = (spec.max_passes - sum(order.passes for order in plan)) // len(chosen)
    draws = min(_order_draws(spec, index), left)
    return Order(job_id, index, start, start + draws, chosen) if draws > 0 else None


def _order_draws(spec: GuardSpec, index: int) -> int:
    """A decision is often ready after a few draws, so its orders start small and double every fourth."""
    if spec.target is None or spec.masks_matter:
        return ORDER_DRAWS
    return min(ORDER_DRAWS, _FIRST_DECISION_DRAWS << (index // AHEAD))


def _chosen_cells(spec: GuardSpec, question: Question, cells: Cells) -> tuple[int, ...]:
    """The cells whose draws promise most for the frontier; all of them where that cannot be told."""
    if spec.stop == "fixed" or len(spec.wanted_cells) == 1 or spec.scope == "per_budget":
        return spec.wanted_cells
    if any(draws == 0 for draws, _ in cells):
        return spec.wanted_cells
    gains = _gains(question, cells)
    if gains is None:
        return spec.wanted_cells
    return tuple(cell for cell, gain in enumerate(gains) if gain >= _WORTH * max(gains))


def _gains(question: Question, cells: Cells) -> list[float] | None:
    """By how much the radii of all budgets would grow together if one cell got an order's draws at its rate so far."""
    for side in question.sides:
        parts = _parts(replace(question, sides=(side,), alpha=question.alpha / len(question.sides)), cells)
        now = [_radii(one, counted) for one, counted in parts]
        total = sum(map(max, zip(*now, strict=True)))
        if total == 0.0:
            continue
        gains = []
        for part, (one, counted) in enumerate(parts):
            rivals = now[:part] + now[part + 1 :]
            for cell in range(len(counted)):
                then = _radii(one, (*counted[:cell], _one_order_on(counted[cell], side), *counted[cell + 1 :]))
                gains.append(max(0.0, sum(map(max, zip(then, *rivals, strict=True))) - total))
        return gains if max(gains) > 0.0 else None
    return None


def _parts(question: Question, cells: Cells) -> list[tuple[Question, Cells]]:
    """The strata, and the natural noise where it is sampled beside them: each a question of its own."""
    if not question.natural:
        return [(replace(question, method="stratified"), cells)]
    half, last = question.alpha / 2, len(cells) - 1
    strata = replace(question, method="stratified", alpha=half, cells=question.cells[:-1], wanted=tuple(range(last)))
    own = replace(question, method="neyman_pearson", alpha=half, cells=question.cells[-1:], wanted=(0,))
    return [(strata, cells[:-1]), (own, cells[-1:])]


def _radii(question: Question, cells: Cells) -> list[float]:
    return [point.radius or 0.0 for point in answer(question, Counts(cells)).frontier]


def _one_order_on(cell: tuple[int, int], side: str) -> tuple[int, int]:
    """The cell after one more order at its rate so far, rounded against the side."""
    draws, unsafe = cell
    more = draws + ORDER_DRAWS
    hits = math.floor((unsafe if side == "unsafe" else draws - unsafe) * more / draws)
    return more, hits if side == "unsafe" else more - hits


def stopped(spec: GuardSpec, question: Question, counts: Counts, found: Answer, passes: int) -> Stopped | None:
    """Why no more draws are wanted, or None.

    Before the passes are spent that is when the target is decided, or when even the best that two standard errors
    allow would not certify anything more, nor let a radius grow by more than the tolerance.
    """
    if found.target is not None and spec.stop == "any_time":
        return "target"
    if passes + len(spec.wanted_cells) > spec.max_passes:
        return "passes_spent"
    if spec.stop == "fixed" or any(counts.cells[cell][0] == 0 for cell in spec.wanted_cells):
        return None
    if spec.masks_matter:
        return None if _may_certify(spec, question, counts) else "not_certifiable"
    hopes = [_hope(spec, question, counts.cells, side) for side in _open_sides(question, found)]
    if spec.target is not None:
        return None if any(hope.target is not None for hope in hopes) else "not_certifiable"
    if any(_gains_more(spec, found, hope) for hope in hopes):
        return None
    return "not_certifiable" if found.verdict == "abstained" else "tolerance"


def _open_sides(question: Question, found: Answer) -> Sequence[str]:
    return question.sides if found.verdict == "abstained" else (found.verdict,)


def _hope(spec: GuardSpec, question: Question, cells: Cells, side: str) -> Answer:
    """The answer, were the rest of the passes spent with each cell's rate at the far end of its Wilson interval."""
    spent = sum(draws for draws, _ in cells)
    left = max(0, spec.max_passes - spent)
    hoped = [(0, 0)] * len(cells)
    for cell in spec.wanted_cells:
        draws, unsafe = cells[cell]
        hits = unsafe if side == "unsafe" else draws - unsafe
        rate = (hits + 2 + 2 * math.sqrt(hits * (draws - hits) / draws + 1)) / (draws + 4)
        # The strata gain together, the natural noise by itself: it may get all that is left.
        more = left if question.natural and cell == len(cells) - 1 else left // len(spec.wanted_cells)
        hits += min(more, math.ceil(more * rate))
        hoped[cell] = (draws + more, hits if side == "unsafe" else draws + more - hits)
    return answer(replace(question, epsilons=()), Counts(tuple(hoped)))


def _gains_more(spec: GuardSpec, found: Answer, hope: Answer) -> bool:
    slack = spec.tolerance * (hope.frontier[0].radius or 0.0)
    return any(
        best.radius is not None and (now.radius is None or best.radius - now.radius > slack)
        for now, best in zip(found.frontier, hope.frontier, strict=True)
    )


def _may_certify(spec: GuardSpec, question: Question, counts: Counts) -> bool:
    """Whether the clean probability alone may still certify a verdict; what the covers need cannot be told cheaply."""
    natural = replace(question, method="neyman_pearson", max_tokens=0, target=None)
    return any(_hope(spec, natural, counts.cells, side).verdict != "abstained" for side in question.sides)
