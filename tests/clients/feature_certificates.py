"""Feature certificates to show: plain documents as the service sends them; to check: the certifier's own."""

import base64
from datetime import UTC, datetime
from typing import Any

import numpy as np

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.features.spec import FeatureSpec, resolve_embedding, resolve_features
from holdfast.contract.models import EncoderInfo
from holdfast.queue.jobs import JobRecord, new_id
from holdfast.queue.orders import Scores, Tally
from holdfast.queue.settled import Settled
from holdfast_service.certifier.features.view import FeatureView
from holdfast_service.certifier.views import count

__all__ = [
    "HEAD",
    "certified_embedding",
    "certified_feature",
    "changed",
    "embedding_certificate",
    "feature_certificate",
]

ASKED = {"input": {"image": {"data": "AA=="}}}
HEAD = {
    "name": "animals",
    "version": "1",
    "fingerprint": "sha256:" + "2" * 64,
    "kind": "prototypes",
    "classes": ["cat", "dog", "skunk"],
    "clip": 0.1,
}
BOUNDS = [
    (0.0, "mean", 0.93456, 0.93456),
    (0.0, "cdf", 0.92999, 0.92999),
    (0.25, "mean", 0.61239, 0.61239),
    (0.25, "cdf", 0.87654, 0.87654),
    (0.5, "mean", -0.12301, None),
    (0.5, "cdf", 0.50049, 0.50049),
]
RADII = [(0.5, "mean", 0.29876), (0.5, "cdf", 0.50049), (0.95, "mean", None), (0.95, "cdf", None)]
PREDICTION = {
    "prototype_condition": None,
    "cap": 0.00049,
    "margin_mean": 0.03,
    "margin_cdf": 0.28,
    "clipped_cdf": 0.44987,
    "vote": 0.43,
}


def feature_certificate() -> FeatureCertificate:
    """Bounds, radii and the prediction `cat`, without an embedding; the image was resized from 128 x 128."""
    return FeatureCertificate.model_validate(
        {
            "id": "cert_000000000000" + "0" * 16,
            "created_at": "2025-01-01T00:00:00Z",
            "finished_at": "2025-01-01T00:00:09Z",
            "bounds": [_bound(*row) for row in BOUNDS],
            "radii": [{"cosine_floor": floor, "method": method, **_radii(radius)} for floor, method, radius in RADII],
            "prediction": {
                "head": HEAD,
                "label": 0,
                "class_name": "cat",
                "radii": [{"method": method, **_radii(radius)} for method, radius in PREDICTION.items()],
            },
            "embedding": None,
            "target": None,
            "evidence": _evidence(),
            "reference": "direction",
            "sigma": 0.25,
            "dimension": 512,
            "space": _space(),
            "model": {"name": "reference-encoder", "fingerprint": "sha256:" + "3" * 64},
            "seed": "00",
            "software": "holdfast 0.3.0",
            "notice": ["The guarantee is for the smoothed encoder.", "It holds with probability 1 - alpha."],
            "signature": None,
        }
    )


def embedding_certificate(*, tokens: bool = False) -> FeatureCertificate:
    """The mean of eight features of six values, or of matrices of two by three."""
    embedding = {
        "draws": 8,
        "tokens": tokens,
        "alpha": 0.045,
        "shape": [2, 3] if tokens else [6],
        "values": [0.5, -0.25, 0.125, 0.0, 1e-3, 0.75],
        "similarity": [
            {"epsilon": 0.0, "inner_product_at_least": 0.91239, "cosine_at_least": 0.91239},
            {"epsilon": 1.0, "inner_product_at_least": -0.20001, "cosine_at_least": None},
        ],
    }
    evidence = {
        **_evidence(),
        "selection_passes": 8,
        "votes": None,
        "cosines": None,
        "distances": None,
        "alpha": 0.005,
        "alpha_split": {"feature_cdf": 1.0},
    }
    bounds = [_bound(0.0, "cdf", 0.9, 0.9)]
    none = {"radii": [], "prediction": None, "bounds": bounds, "reference": "clean", "dimension": 6}
    return changed(feature_certificate(), embedding=embedding, evidence=evidence, **none)


def certified_feature(encoder: EncoderInfo) -> dict[str, Any]:
    """The unsigned certificate, as JSON, of an image whose feature hardly moves and whose label always wins."""
    asked = {**ASKED, "prototypes": "animals", "sampling": {"draws": 200}}
    spec = resolve_features(FeatureCertificationRequest.model_validate(asked), encoder)
    return _certified(spec, Settled(b"\x00" * 4, 1.0, label=0, cosines=(0.9, 0.5, 0.4), distances=(0.0, 0.8, 0.9)))


def certified_embedding(encoder: EncoderInfo) -> dict[str, Any]:
    """The same of an embedding."""
    asked = {**ASKED, "tokens": True, "sampling": {"draws": 8, "score_draws": 200}}
    spec = resolve_embedding(EmbeddingRequest.model_validate(asked), encoder)
    values = np.full(6, 0.125, "<f4").tobytes()
    return _certified(spec, Settled(b"\x00" * 4, 1.0, embedding=values, shape=encoder.token_shape))


def _certified(spec: FeatureSpec, settled: Settled) -> dict[str, Any]:
    record = JobRecord(new_id(), "running", spec, "ab" * 32, datetime.now(UTC), (64, 64))
    view = FeatureView.begin(record, spec)
    view = count(view, [_tally(spec, start) for start in range(0, spec.draws, 64)])
    assert view.stopped is not None
    return view.certificate(view.stopped, settled).model_dump(mode="json")


def _tally(spec: FeatureSpec, start: int) -> Tally:
    draws = min(64, spec.draws - start)
    levels = np.full((1 + 2 * spec.rivals, draws), 4000, "<u2")
    scores = base64.b64encode(levels.tobytes()).decode()
    return Tally(start, start + draws, Scores(scores, draws if spec.rivals else None))


def changed(certificate: FeatureCertificate, **changes: Any) -> FeatureCertificate:
    """The certificate with other fields; a dictionary changes the fields that it names."""
    document = certificate.model_dump(mode="json")
    for name, value in changes.items():
        nested = isinstance(document[name], dict) and isinstance(value, dict)
        document[name] = {**document[name], **value} if nested else value
    return FeatureCertificate.model_validate(document)


def _bound(epsilon: float, method: str, inner_product: float, cosine: float | None) -> dict[str, Any]:
    row = {"epsilon": epsilon, "method": method}
    return {**row, "inner_product_at_least": inner_product, "cosine_at_least": cosine}


def _radii(radius: float | None) -> dict[str, float | None]:
    return {"radius": radius, "native_radius": None if radius is None else 2 * radius}


def _evidence() -> dict[str, Any]:
    return {
        "passes": 10_000,
        "selection_passes": 100,
        "channels": [{"name": "reference", "rival": None, "levels": [3900, 4000], "counts": [1000, 9000]}],
        "votes": 9900,
        "cosines": [0.9, 0.5, 0.4],
        "distances": [0.0, 0.8, 0.9],
        "mean_bound": "betting",
        "horizon": 10_000,
        "alpha": 0.001,
        "alpha_split": {"feature_mean": 1 / 6, "feature_cdf": 1 / 6},
        "stopped": "passes_spent",
    }


def _space() -> dict[str, Any]:
    return {
        "channels": 3,
        "height": 64,
        "width": 64,
        "range": [0, 1],
        "input_height": 128,
        "input_width": 128,
        "native_operator_norm": 0.5,
    }
