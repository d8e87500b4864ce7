"""The outcome of one check of a certificate."""

from dataclasses import dataclass

__all__ = ["Check"]


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
