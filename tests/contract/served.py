"""Models that a gateway may serve, and requests to them: a test says only what it is about."""

from typing import Any

import pytest

from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.features.spec import FeatureSpec, resolve_embedding, resolve_features
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import (
    Defaults,
    EncoderInfo,
    FalseFlag,
    FieldInfo,
    GuardInfo,
    HeadInfo,
    L0Defaults,
    Limits,
    NoiseSpace,
)
from holdfast.contract.problems import InvalidValueError

IMAGE = {"data": "AA=="}
GIVEN = {"job": "teacher", "home": "rented", "age": 31.5}
MEASURED = FalseFlag(rate_at_most=0.02, alpha=0.05, scenes=400, flagged=3, measured_on="scenes of 2026")
MEASURED_L0 = FalseFlag(rate_at_most=0.1, alpha=0.05, scenes=100, flagged=5, measured_on="texts of 2026")

GUARD = GuardInfo(
    name="guard",
    fingerprint="sha256:0",
    space=NoiseSpace(channels=3, height=64, width=64),
    alphabets=(101,),
    defaults=Defaults(
        slots=8, beta=0.25, sigma=0.3, tau=0.01, alpha=0.02, max_draws=900, tails=3, tolerance=0.04, max_characters=12,
        l0=L0Defaults(beta=0.6, tau=0.2, false_flag=MEASURED_L0),
    ),
    limits=Limits(max_slots=16, max_text_bytes=2000, max_tokens=6, token_kernels=("uniform", "absorbing")),
    tie_band=1e-5,
    false_flag=MEASURED,
    notes=("trained on drawings",),
)  # fmt: skip
UNMEASURED = GUARD.model_copy(update={"defaults": GUARD.defaults.model_copy(update={"l0": None})})
TABULAR = GUARD.model_copy(
    update={
        "name": "table",
        "kind": "tabular",
        "alphabets": (3, 2, 7),
        "fields": (
            FieldInfo(name="age"),
            FieldInfo(name="job", values=("teacher", "doctor", "nurse")),
            FieldInfo(name="home", values=("owned", "rented")),
        ),
        "space": NoiseSpace(channels=1, height=1, width=1),
    }
)
HEAD = HeadInfo(
    name="objects", version="1", fingerprint="sha256:1", kind="prototypes", classes=("can", "socket", "strip"), clip=0.1
)
ENCODER = EncoderInfo(
    name="encoder",
    fingerprint="sha256:2",
    space=NoiseSpace(channels=3, height=64, width=64),
    dimension=64,
    token_shape=(65, 96),
    heads=(HEAD, HEAD.model_copy(update={"name": "signs", "kind": "linear"})),
)


def request(model: GuardInfo = GUARD, **more: Any) -> dict[str, Any]:
    """A request that leaves everything to this guard, but for what is given."""
    given = {"fields": GIVEN} if model.kind == "tabular" else {"text": "a text", "image": IMAGE}
    return {"model": model.name, "input": given, **more}


def resolved(model: GuardInfo = GUARD, **more: Any) -> GuardSpec:
    return resolve(CertificationRequest.model_validate(request(model, **more)), model)


def refused(model: GuardInfo = GUARD, **more: Any) -> dict[str, str]:
    """What each path is refused for."""
    with pytest.raises(InvalidValueError) as refusal:
        resolved(model, **more)
    told = {error.path: error.message for error in refusal.value.errors}
    assert refusal.value.detail == "; ".join(told.values())
    return told


def features(model: EncoderInfo = ENCODER, **more: Any) -> FeatureSpec:
    asked = {"model": model.name, "input": {"image": IMAGE}, **more}
    return resolve_features(FeatureCertificationRequest.model_validate(asked), model)


def embedding(model: EncoderInfo = ENCODER, **more: Any) -> FeatureSpec:
    asked = {"model": model.name, "input": {"image": IMAGE}, **more}
    return resolve_embedding(EmbeddingRequest.model_validate(asked), model)
