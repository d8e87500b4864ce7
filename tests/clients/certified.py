"""Certificates to check: unsigned, as JSON, written by the certifier from tallies that a worker might have sent."""

import base64
from datetime import UTC, datetime
from typing import Any

import numpy as np

from holdfast.certificates import packed
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.features.spec import FeatureSpec, resolve_embedding, resolve_features
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast.queue.jobs import JobRecord, new_id
from holdfast.queue.orders import Order, Scores, Tally, Votes
from holdfast.queue.settled import Settled
from holdfast_service.certifier.features.view import FeatureView
from holdfast_service.certifier.guard.view import GuardView
from holdfast_service.certifier.views import View, count

__all__ = ["certified", "certified_embedding", "certified_feature"]

IMAGE = {"image": {"data": "AA=="}}


def certified(model: GuardInfo, *, draws: int = 200) -> dict[str, Any]:
    """Of an input that the guard found Unsafe on every draw."""
    asked = {"input": {"text": "t", **IMAGE}, "sampling": {"max_draws": draws, "tolerance": 0}}
    return _certified(resolve(CertificationRequest.model_validate(asked), model), None)


def certified_feature(encoder: EncoderInfo) -> dict[str, Any]:
    """Of an image whose feature hardly moves and whose label always wins."""
    asked = {"input": IMAGE, "prototypes": "animals", "sampling": {"draws": 200}}
    spec = resolve_features(FeatureCertificationRequest.model_validate(asked), encoder)
    return _certified(spec, Settled(b"\x00" * 4, label=0, cosines=(0.9, 0.5, 0.4), distances=(0.0, 0.8, 0.9)))


def certified_embedding(encoder: EncoderInfo) -> dict[str, Any]:
    """Of a token-level embedding."""
    asked = {"input": IMAGE, "tokens": True, "sampling": {"draws": 8, "score_draws": 200}}
    spec = resolve_embedding(EmbeddingRequest.model_validate(asked), encoder)
    values = np.full(6, 0.125, "<f4").tobytes()
    return _certified(spec, Settled(b"\x00" * 4, embedding=values, shape=encoder.token_shape))


def _certified(spec: GuardSpec | FeatureSpec, settled: Settled | None) -> dict[str, Any]:
    record = JobRecord(new_id(), "running", spec, "ab" * 32, datetime.now(UTC), (64, 64))
    view: View = GuardView.begin(record, spec) if isinstance(spec, GuardSpec) else FeatureView.begin(record, spec)
    while view.stopped is None:
        view = count(view, [_tally(spec, order) for order in view.wanted])
    return view.certificate(view.stopped, settled).model_dump(mode="json")


def _tally(spec: GuardSpec | FeatureSpec, order: Order) -> Tally:
    if isinstance(spec, GuardSpec):
        votes = np.ones((order.draws, spec.tails, len(spec.cells)), np.bool_)
        return Tally(order.start, order.stop, Votes(packed(votes)))
    levels = np.full((1 + 2 * spec.rivals, order.draws), 4000, "<u2")
    scores = base64.b64encode(levels.tobytes()).decode()
    return Tally(order.start, order.stop, Scores(scores, order.draws if spec.rivals else None))
