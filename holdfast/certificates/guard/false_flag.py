"""The measured false-flag bound that a certificate repeats, computed again from its counts."""

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.certificates.bounds.counts import clopper_pearson_lower
from holdfast.certificates.document.checks import Fault
from holdfast.certificates.rounding import one_minus_up

_DIGITS = 1.001e-4  # it is stated with four, rounded up


def false_flag_at_most(flagged: int, scenes: int, alpha: float) -> float:
    """Clopper–Pearson upper bound on the rate of false flags, one-sided, for scenes that were fixed beforehand.

    Args:
        flagged: Safe scenes that were flagged, 0..scenes.
        scenes: independent Safe scenes, at least 0.
        alpha: risk, strictly between 0 and 1.

    Returns:
        A bound in (0, 1], rounded up.

    Raises:
        ValueError: counts that contradict each other or a risk outside its range.
    """
    return one_minus_up(clopper_pearson_lower(scenes - flagged, scenes, alpha))


def false_flag_faults(flag: Mapping[str, Any] | None) -> Iterator[Fault]:
    """What is not the bound that the counts give, rounded up to four digits."""
    if flag is None:
        return
    flagged, scenes, stated = flag["flagged"], flag["scenes"], flag["rate_at_most"]
    if flagged > scenes:
        yield "false_flag", f"flagged={flagged} must be at most scenes={scenes}"
    elif not (exact := false_flag_at_most(flagged, scenes, flag["alpha"])) <= stated <= exact + _DIGITS:
        yield "false_flag", f"rate_at_most={stated} must be {exact}, rounded up to four digits"
