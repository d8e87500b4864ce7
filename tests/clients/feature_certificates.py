"""Feature certificates to show: plain documents as the service sends them."""

from typing import Any

from holdfast.contract.features.certificates import FeatureCertificate
from tests.clients.certificates import ISSUED, SPACE, changed

__all__ = ["HEAD", "embedding_certificate", "feature_certificate"]

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
            **ISSUED,
            "bounds": [_bound(*row) for row in BOUNDS],
            "radii": [{"cosine_floor": floor, "method": method, **_radii(radius)} for floor, method, radius in RADII],
            "prediction": {
                "head": HEAD,
                "label": 0,
                "class_name": "cat",
                "radii": [{"method": method, **_radii(radius)} for method, radius in PREDICTION.items()],
            },
            "embedding": None,
            "evidence": _evidence(),
            "reference": "direction",
            "sigma": 0.25,
            "dimension": 512,
            "space": SPACE,
            "model": {"name": "reference-encoder", "fingerprint": "sha256:" + "3" * 64},
            "notice": ["The guarantee is for the smoothed encoder.", "It holds with probability 1 - alpha."],
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
        "stopped": "draws_spent",
    }
