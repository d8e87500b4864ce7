"""What no evidence of a certificate decides, so that nothing goes unchecked without being named."""

from collections.abc import Iterable, Mapping
from typing import Any

UNCHECKED = (
    "id",
    "created_at",
    "finished_at",
    "model.name",
    "model.fingerprint",
    "seed",
    "software",
    "questions_asked",
)
"""Of certificates of every kind: who drew when, and how often it was tried. A name has no indexes of lists."""


def present(certificate: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Those of the names that lead to something in the certificate, whatever else is in it."""
    return [name for name in names if _leads(certificate, name.split("."))]


def _leads(value: Any, steps: list[str]) -> bool:
    for step in steps:
        if isinstance(value, list) and value:
            value = value[0]
        if not isinstance(value, Mapping) or value.get(step) is None:
            return False
        value = value[step]
    return True
