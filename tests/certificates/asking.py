"""Questions to guards and their evidence, built in one place: a test says only what it is about."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import Cell, Counts, Question

PLENTY = 10**9
"""Draws after which a confidence bound is within 1e-4 of the rate that was drawn."""


def asked(*, kernel: str = "absorbing", beta: float = 0.5, alphabets: Sequence[int] = (4,), **changes: Any) -> Question:
    """A question on three slots by cells at sigma 1, changed where a test says so.

    Unless they are given, the budgets are all that there are, the strata as fine as they can be, and every cell is
    wanted: one a budget (`per_budget`), a single one where there are no cells, else the strata and the natural one.
    """
    text = changes.get("text", "suffix")
    slots = changes.setdefault("slots", 3 if text == "suffix" else len(alphabets) if changes.get("tabular") else 0)
    strata = changes.pop("strata", slots if text == "suffix" else 0)
    budgets = changes.setdefault("max_tokens", slots)
    cells = tuple(Cell(slots, k, k == strata) for k in range(strata + 1))
    if changes.pop("natural", False):
        cells = (*cells, Cell(slots, 0, True))
    if changes.pop("per_budget", False):
        masked = changes.get("method") != "neyman_pearson"
        cells = tuple(Cell(budget, budget if masked else 0, True) for budget in range(budgets + 1))
    values: dict[str, Any] = {
        "text": text, "tabular": False, "cells": cells, "token_kernel": kernel, "beta": beta,
        "alphabets": tuple(alphabets), "sigma": 1.0, "tau": 0.3, "alpha": 0.01, "sides": ("unsafe", "safe"),
        "method": "stratified", "bound": "any_time", "wanted": tuple(range(len(cells))), "target": None,
        "epsilons": (0.0, 0.5, 1.5),
    }  # fmt: skip
    return Question(**{**values, **changes})


def counted(*cells: tuple[int, int]) -> Counts:
    """(draws, unsafe) of every cell."""
    return Counts(cells)


def plenty(rates: Sequence[float] | NDArray[np.float64]) -> Counts:
    """So many draws of every cell that their bounds all but meet these rates, which they were drawn at."""
    return Counts(tuple((PLENTY, round(PLENTY * float(rate))) for rate in rates))


def pooled(masks: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> Counts:
    """A pool of draws and their masks, as l0 and tabular questions take it."""
    return Counts(((len(unsafe), int(unsafe.sum())),), masks, unsafe)
