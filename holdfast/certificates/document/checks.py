"""The outcome of one check of a certificate, and how close a stated number must be to the one computed again."""

from collections.abc import Sequence
from dataclasses import dataclass

Fault = tuple[str, str]
"""A top-level field, and what is wrong with it."""

_TOLERANCE = 1e-9
"""How far, relatively, a stated number may lie on its cautious side: other platforms' logarithms round otherwise."""
_MOST_FAULTS = 5


@dataclass(frozen=True)
class Check:
    """One check: which field, whether it held, and if not what to make of it.

    Attributes:
        field: the certificate's top-level field.
        ok: whether the check held.
        detail: what was found, in words.
    """

    field: str
    ok: bool
    detail: str


def failed(faults: Sequence[Fault]) -> list[Check]:
    """One failing check per field, with its first faults."""
    by_field: dict[str, list[str]] = {}
    for name, fault in faults:
        by_field.setdefault(name, []).append(fault)
    return [Check(name, False, "; ".join(found[:_MOST_FAULTS])) for name, found in by_field.items()]


def compared(faults: Sequence[Fault], fields: Sequence[str]) -> list[Check]:
    """The failing checks, and one that held for each of these fields without a fault."""
    agreeing = [name for name in fields if name not in dict(faults)]
    return [*failed(faults), *(Check(name, True, "follows from the evidence") for name in agreeing)]


def at_most(stated: float, exact: float, *, unit: float = 0.0) -> bool:
    """Whether a lower bound is stated soundly and closely; `unit` is the scale of one that may be near or below 0."""
    return exact - _TOLERANCE * max(abs(exact), unit) <= stated <= exact


def at_least(stated: float, exact: float) -> bool:
    """Whether an upper bound is stated soundly and closely."""
    return exact <= stated <= exact + _TOLERANCE * abs(exact)


def close(stated: float, exact: float) -> bool:
    """Whether a bound that has a margin of its own is stated closely: within less than that margin on either side."""
    return abs(stated - exact) <= _TOLERANCE * abs(exact)
