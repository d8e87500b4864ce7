"""Certificates to show: plain documents as the service sends them."""

import base64
from typing import Any, TypeVar

from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import Issued

__all__ = ["ISSUED", "SPACE", "changed", "unsafe_certificate"]

C = TypeVar("C", bound=Issued)

ISSUED = {
    "id": "cert_000000000000" + "0" * 16,
    "created_at": "2025-01-01T00:00:00Z",
    "finished_at": "2025-01-01T00:00:09Z",
    "target": None,
    "seed": "00",
    "questions_asked": 1,
    "software": "holdfast 0.1.0",
    "signature": None,
}
SPACE = {
    "channels": 3,
    "height": 64,
    "width": 64,
    "range": [0, 1],
    "resize": "antialiased_bicubic",
    "input_height": 128,
    "input_width": 128,
    "native_operator_norm": 0.5,
}
RADII = (1.23456789, 0.98765, 0.0004, None)


def unsafe_certificate() -> Certificate:
    """Certified Unsafe against up to 2 of 3 suffix tokens; the image was resized from 128 x 128."""
    document = {
        **ISSUED,
        "kind": "hybrid",
        "verdict": "unsafe",
        "reason": "Unsafe: the smoothed Unsafe probability stays above tau.",
        "frontier": [_point(tokens, radius) for tokens, radius in enumerate(RADII)],
        "max_tokens": 2,
        "worst_case": [_worst(0, 0.98769, 0.99991, 2), _worst(3, 0.0, 1.0, None)],
        "evidence": _evidence(),
        "method": "auto",
        "asked_verdict": "both",
        "threat": {"text": "suffix", "slots": 3, "max_tokens": 3, "image": "l2"},
        "noise": {"token_kernel": "uniform", "beta": 0.25, "sigma": 0.5, "scope": "shared"},
        "tau": 4.6e-5,
        "space": {**SPACE, "alphabets": [485]},
        "model": {"name": "reference-guard", "fingerprint": "sha256:" + "0" * 64},
        "false_flag": None,
        "notes": ["It was trained on drawings."],
        "notice": ["The guarantee is for the smoothed guard.", "It holds with probability 1 - alpha."],
    }
    return Certificate.model_validate(document)


def changed(certificate: C, **changes: Any) -> C:
    """The certificate with other fields; a dictionary changes the fields that it names."""
    document = certificate.model_dump(mode="json")
    for name, value in changes.items():
        nested = isinstance(document[name], dict) and isinstance(value, dict)
        document[name] = {**document[name], **value} if nested else value
    return type(certificate).model_validate(document)


def _point(tokens: int, radius: float | None) -> dict[str, Any]:
    method = "neyman_pearson" if tokens == 0 else "joint"
    native = None if radius is None else 2 * radius
    return {"tokens": tokens, "radius": radius, "native_radius": native, "method": method if radius else None}


def _worst(tokens: int, least: float, most: float, passes: int | None) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "epsilon": 0.5,
        "unsafe_probability_at_least": least,
        "unsafe_probability_at_most": most,
        "passes_to_detect": passes,
    }


def _cell(leading_masked: int) -> dict[str, Any]:
    return {"slots": 3, "leading_masked": leading_masked, "at_least": False, "unsafe": 1600, "near_ties": 0}


def _evidence() -> dict[str, Any]:
    return {
        "draws": 400,
        "tails": 4,
        "passes": 6400,
        "cells": [_cell(k) for k in range(4)],
        "unsafe": base64.b64encode(b"\xff" * 800).decode(),
        "near_tie": None,
        "tie_band": 1e-5,
        "scores": [{"tokens": d, "cells": [*range(d, 4)], "lower": 0.98, "upper": 0.999} for d in range(4)],
        "positions": None,
        "bound": "any_time",
        "alpha": 0.01,
        "alpha_split": {"unsafe": 0.5, "safe": 0.5},
        "sharing": "over the budgets by fixed shares",
        "stopped": "tolerance",
    }
