"""What no evidence of a guard's certificate decides."""

from collections.abc import Mapping
from typing import Any

from holdfast.certificates.document.unchecked import UNCHECKED

_GUARD_UNCHECKED = (
    *UNCHECKED,
    "method",
    "notes",
    "false_flag.scenes",
    "false_flag.flagged",
    "false_flag.alpha",
    "false_flag.measured_on",
    # What everything else follows from: that the draws came out so, and why there were no more of them.
    "evidence.unsafe",
    "evidence.near_tie",
    "evidence.tie_band",
    "evidence.positions",
    "evidence.stopped",
)


def guard_unchecked(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of what is not checked; a parameter that no number of this certificate reads is one of them."""
    unread: tuple[str, ...] = ()
    if _within(certificate, "threat", "text") in ("none", "append"):
        unread += ("noise.token_kernel", "noise.beta", "space.alphabets")
    elif _within(certificate, "noise", "token_kernel") == "absorbing" or certificate.get("kind") == "tabular":
        unread += ("space.alphabets",)
    if _within(certificate, "space", "input_height") is None:
        unread += ("space.height", "space.width")
    return (*_GUARD_UNCHECKED, *unread)


def _within(certificate: Mapping[str, Any], field: str, name: str) -> object:
    holder = certificate.get(field)
    return holder.get(name) if isinstance(holder, Mapping) else None
