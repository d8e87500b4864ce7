"""What every certificate has, whatever it certifies: its fields, their types and their legal ranges."""

import math
from collections.abc import Mapping
from typing import Any

from holdfast.certificates.document.readers import (
    Reader,
    list_of,
    number,
    object_of,
    one_of,
    optional,
    text,
    texts,
    whole,
)

MOST_PASSES = 10_000_000
ABOVE_0 = math.ulp(0.0)
LEAST_RISK, MOST_RISK = 1e-12, 0.5
"""The risk of one answer, as the service takes it; the shares of its parts may be smaller."""

SIGMA = number(1e-6, 100.0)
"""Standard deviation of the image noise, where there is any."""
RISK = number(LEAST_RISK, MOST_RISK)

STOPPED = one_of("target", "tolerance", "not_certifiable", "draws_spent")

ENVELOPE: dict[str, Reader] = {
    "id": text,
    "state": one_of("done"),
    "created_at": text,
    "finished_at": text,
    "model": object_of(name=text, fingerprint=text),
    "seed": text,
    "questions_asked": whole(1, 10**12),
    "software": text,
    "notice": list_of(text, 100),
    "signature": optional(object_of(alg=one_of("EdDSA"), kid=text, digests=texts, value=text)),
}


def dimensions_of(space: Mapping[str, Any]) -> int:
    """How many numbers the tensor of a certificate's space has, of those that `space_of` reads."""
    size: int = space["channels"] * space["height"] * space["width"]
    return size
