"""What one check of a model found, and how two ways of computing the same draws are held against each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["pass", "fail", "measured", "skipped"]
Margins = Sequence[NDArray[np.float32]]

ROUNDING = 1e-5
"""Margins of the same draws may differ by this share of the largest margin, or of 1 where all are smaller."""


@dataclass(frozen=True)
class Check:
    """One row of a report.

    Attributes:
        name: What was checked.
        outcome: ``measured`` says a number that nothing is required of, ``skipped`` why there is none.
        detail: The finding in words, with the remedy where it failed.
        values: The numbers behind it.
    """

    name: str
    outcome: Outcome
    detail: str
    values: Mapping[str, float] = field(default_factory=dict)


def all_finite(margins: Margins) -> Check:
    """That every margin is a number, and how many of the verdicts are Unsafe."""
    values = np.concatenate([part.ravel() for part in margins])
    bad, unsafe = int((~np.isfinite(values)).sum()), float((values > 0).mean())
    found = {"passes": float(values.size), "not_finite": float(bad), "unsafe_share": unsafe}
    if bad:
        detail = f"{bad} of {values.size} margins are not finite, all must be; check the weights or use dtype=float32"
        return Check("finite", "fail", detail, found)
    return Check("finite", "pass", f"{values.size} margins, {unsafe:.0%} of them Unsafe", found)


def equal_margins(name: str, here: Margins, there: Margins, *, remedy: str) -> Check:
    """That two ways of computing the same draws agree up to float32 rounding."""
    one, two = (np.concatenate([part.ravel() for part in margins]).astype(np.float64) for margins in (here, there))
    apart = float(np.abs(one - two).max(initial=0.0))
    allowed = ROUNDING * max(1.0, float(np.abs(two).max(initial=0.0)))
    found = {"apart": apart, "allowed": allowed, "passes": float(one.size)}
    if not apart <= allowed:
        return Check(name, "fail", f"margins differ by {apart:.1e}, must by {allowed:.1e} at most; {remedy}", found)
    return Check(name, "pass", f"margins differ by at most {apart:.1e} (allowed: {allowed:.1e})", found)


def within_band(name: str, ways: Sequence[Margins], *, band: float) -> Check:
    """That margins move by no more than the guard's band of ties, whatever else is in their batch.

    Args:
        name: Of the check.
        ways: The margins of the same draws in batches of several shapes.
        band: What is assumed of their movement.
    """
    every = np.stack([np.concatenate([part.ravel() for part in way]).astype(np.float64) for way in ways])
    moved = float(np.ptp(every, axis=0).max(initial=0.0))
    near = float((np.abs(every[-1]) <= band).mean())
    found = {"moved": moved, "band": band, "near_share": near, "passes": float(every.shape[1])}
    detail = f"margins move by at most {moved:.1e} with their company (band of ties: {band:g}, {near:.2%} within it)"
    if not moved <= band:
        return Check(name, "fail", f"{detail}; serve it with a tie_band of {_twice(moved):g} or more", found)
    return Check(name, "pass", detail, found)


def _twice(moved: float) -> float:
    """Twice what was measured, in one digit: some draws were tried, not all."""
    return float(f"{2 * moved:.0e}")


def same_verdicts(name: str, here: Margins, exact: Margins, *, near: float, remedy: str) -> Check:
    """The share of equal verdicts; none may differ where the exact margin is further than ``near`` from a tie."""
    one, two = (np.concatenate([part.ravel() for part in margins]).astype(np.float64) for margins in (here, exact))
    differ, apart = (one > 0) != (two > 0), float(np.abs(one - two).max(initial=0.0))
    wide = int((differ & (np.abs(two) > near)).sum())
    equal = 1.0 - float(differ.mean())
    found = {"equal_share": equal, "apart": apart, "wide": float(wide), "near": near, "passes": float(one.size)}
    detail = f"{equal:.2%} of {one.size} verdicts are equal, margins differ by at most {apart:.1e}"
    if wide:
        return Check(name, "fail", f"{detail}; {wide} differ more than {near:g} from a tie, none may; {remedy}", found)
    return Check(name, "pass", f"{detail}; none differs more than {near:g} from a tie", found)
