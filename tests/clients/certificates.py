"""Certificates to show: plain documents as the service sends them; certificates to check: the certifier's own."""

from datetime import UTC, datetime
from typing import Any

from holdfast.certificates import answer
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.guard.spec import resolve
from holdfast.contract.models import GuardInfo
from holdfast.questions import question_of
from holdfast.queue.jobs import JobRecord, new_id
from holdfast.queue.orders import Tally, Votes
from holdfast_service.certifier.guard.evidence import counts_of, fold, no_cells
from holdfast_service.certifier.guard.writing import write

__all__ = ["certified", "changed", "unsafe_certificate"]

RADII = (1.23456789, 0.98765, 0.0004, None)


def unsafe_certificate() -> Certificate:
    """Certified Unsafe against up to 2 of 3 suffix tokens; the image was resized from 128 x 128."""
    document = {
        "id": "cert_000000000000" + "0" * 16,
        "kind": "hybrid",
        "created_at": "2025-01-01T00:00:00Z",
        "finished_at": "2025-01-01T00:00:09Z",
        "verdict": "unsafe",
        "reason": "Unsafe: the smoothed Unsafe probability stays above tau.",
        "frontier": [_point(tokens, radius) for tokens, radius in enumerate(RADII)],
        "max_tokens": 2,
        "target": None,
        "worst_case": [_worst(0, 0.98769, 0.99991, 2), _worst(3, 0.0, 1.0, None)],
        "evidence": _evidence(),
        "method": "auto",
        "asked_verdict": "both",
        "threat": {"text": "suffix", "slots": 3, "max_tokens": 3, "image": "l2"},
        "noise": {"token_kernel": "uniform", "beta": 0.25, "sigma": 0.5, "scope": "shared"},
        "tau": 4.6e-5,
        "space": _space(),
        "model": {"name": "reference-guard", "fingerprint": "sha256:" + "0" * 64},
        "false_flag": None,
        "seed": "00",
        "software": "holdfast 0.1.0",
        "notice": ["The guarantee is for the smoothed guard.", "It holds with probability 1 - alpha."],
        "signature": None,
    }
    return Certificate.model_validate(document)


def certified(model: GuardInfo, *, draws: int = 200) -> dict[str, Any]:
    """The unsigned certificate, as JSON, of an input that the guard found Unsafe on every draw."""
    asked = {"input": {"text": "t", "image": {"data": "AA=="}}, "sampling": {"max_passes": draws * 4}}
    spec = resolve(CertificationRequest.model_validate(asked), model)
    record = JobRecord(new_id(), "running", spec, "ab" * 32, datetime.now(UTC), (64, 64))
    tallies = [Tally(0, draws, Votes(spec.wanted_cells, (draws,) * len(spec.wanted_cells)))]
    cells = fold(no_cells(spec), tallies[0])
    found = answer(
        question_of(spec, operator_norm=tallies[0].operator_norm), counts_of(spec, record.seed, tallies, cells)
    )
    return write(record, spec, tallies, cells, found, "passes_spent").model_dump(mode="json")


def changed(certificate: Certificate, **changes: Any) -> Certificate:
    """The certificate with other fields; a dictionary changes the fields that it names."""
    document = certificate.model_dump(mode="json")
    for name, value in changes.items():
        document[name] = {**document[name], **value} if isinstance(document[name], dict) else value
    return Certificate.model_validate(document)


def _point(tokens: int, radius: float | None) -> dict[str, Any]:
    method = "neyman_pearson" if tokens == 0 else "stratified"
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


def _evidence() -> dict[str, Any]:
    cell = {"at_least": False, "slots": 3, "draws": 1600, "unsafe": 1590, "lower": 0.98, "upper": 0.999}
    return {
        "passes": 6400,
        "orders": [{"start": 0, "stop": 1600, "cells": [0, 1, 2, 3], "unsafe": [1590] * 4}],
        "cells": [{**cell, "leading_masked": k} for k in range(4)],
        "positions": None,
        "bound": "any_time",
        "alpha": 0.01,
        "alpha_split": {"unsafe": 0.5, "safe": 0.5},
        "sharing": "equally over 4 cells",
        "stopped": "tolerance",
    }


def _space() -> dict[str, Any]:
    return {
        "channels": 3,
        "height": 64,
        "width": 64,
        "range": [0, 1],
        "alphabets": [485],
        "input_height": 128,
        "input_width": 128,
        "native_operator_norm": 0.5,
    }
