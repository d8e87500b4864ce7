"""Questions to guards and their votes, built in one place: a test says only what it is about."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import Cell, Question, Votes


def asked(
    *,
    kernel: str = "absorbing",
    beta: float = 0.5,
    alphabets: Sequence[int] = (4,),
    strata: int | None = None,
    per_budget: bool = False,
    **changes: Any,
) -> Question:
    """A question on three slots, answered from two tails a draw at sigma 1, changed where a test says so.

    Unless they are given, the budgets are all that there are, the strata as fine as they can be, and the cells those
    that a spec of this threat, scope, method and target has.
    """
    text, method, target = changes.get("text", "suffix"), changes.get("method", "joint"), changes.get("target")
    tabular = changes.get("tabular", False)
    slots = changes.setdefault("slots", 3 if text == "suffix" else len(alphabets) if tabular and text == "l0" else 0)
    budgets = changes.setdefault("max_tokens", slots if target is None else target[0])
    last = slots if strata is None else strata
    masked = method != "neyman_pearson"
    if per_budget:
        own = range(budgets + 1) if target is None else (budgets,)
        cells = [Cell(budget, budget if masked else 0, True) for budget in own]
    elif text != "suffix" or not masked:
        cells = [Cell(slots, 0, True)]
    elif target is not None:
        cells = [Cell(slots, budgets, True)]
    else:
        cells = [Cell(slots, k, k == last) for k in range(last + 1)]
    values: dict[str, Any] = {
        "text": text, "tabular": False, "cells": tuple(cells), "per_budget": per_budget,
        "tails": 1 if text in ("none", "append") else 2, "token_kernel": kernel, "beta": beta,
        "alphabets": tuple(alphabets), "sigma": 1.0, "tau": 0.3, "alpha": 0.01,
        "sides": ("unsafe",) if text == "append" else ("unsafe", "safe"), "method": method, "bound": "any_time",
        "target": None, "epsilons": (0.0, 0.5, 1.5),
    }  # fmt: skip
    return Question(**{**values, **changes})


def drawn(
    unsafe: NDArray[np.bool_], masks: NDArray[np.bool_] | None = None, near_tie: NDArray[np.bool_] | None = None
) -> Votes:
    """Votes of which none is near a tie, unless a test says so."""
    return Votes(unsafe, np.zeros_like(unsafe) if near_tie is None else near_tie, masks)


def alike(question: Question, draws: int, unsafe: int) -> Votes:
    """So many draws, of which the first ones are Unsafe in every tail and cell, and the others in none."""
    votes = np.zeros((draws, question.tails, len(question.cells)), dtype=np.bool_)
    votes[:unsafe] = True
    masks = None
    if question.text == "l0":
        masks = np.ones((draws, question.tails, question.slots or 4), dtype=np.bool_)
    return drawn(votes, masks)


def counted(*cells: tuple[int, int]) -> Votes:
    """One tail a draw, of as many draws in every cell: (draws, unsafe) of each, Unsafe first."""
    ((draws, *_), *_) = cells
    return drawn(np.stack([np.arange(draws) < unsafe for _, unsafe in cells], axis=-1)[:, None])


def pooled(masks: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> Votes:
    """One tail a draw: masks (n, L) and outcomes (n,), as l0 and tabular questions take them."""
    return drawn(unsafe[:, None, None], masks[:, None])
