"""Signed feature certificates as a certifier writes them, of a world whose smoothed features are known."""

import json
from functools import cache
from typing import Any

import numpy as np

from holdfast.certificates import FeatureAnswer, FeatureCounts, FeatureQuestion, ScoreSample, feature_answer
from holdfast.contract.features.certificates import (
    ChannelEvidence,
    FeatureBoundRow,
    FeatureCertificate,
    FeatureEvidence,
    FeatureRadius,
    FeatureTargetAnswer,
    Prediction,
    PredictionRadius,
    SimilarityRow,
    SmoothedEmbedding,
)
from holdfast.contract.jobs import ModelRef, Stopped
from holdfast.contract.models import HeadInfo, ImageSpace
from holdfast.signing import sign
from tests.certificates.half_spaces import ANY_TIME, World, question, random_world
from tests.certificates.issued import BORN, KEY

FEATURE = ("feature_mean", "feature_cdf")
ALONE = {"label": None, "prototypes": False, "rivals": 0}
AVERAGED = {"statements": ("feature_cdf",), "cosine_floors": (), "embedding": (4, 0.045), **ALONE}
KINDS: dict[str, dict[str, Any]] = {
    "feature": {"statements": FEATURE, **ALONE},
    "prototypes": {},
    "linear": {"prototypes": False},
    "kl": {"statements": FEATURE, "mean_bound": "kl", **ALONE},
    "any time": {"statements": ("feature_mean",), "fixed": False, **ALONE},
    "any time with a head": {"statements": ANY_TIME, "fixed": False, "draws": 300},
    "target": {"statements": ("feature_mean",), "fixed": False, "target": (0.125, 0.5), **ALONE},
    "target missed": {"statements": ANY_TIME, "fixed": False, "target": (3.0, 0.0), "stopped": "not_certifiable"},
    "prediction target": {"statements": ANY_TIME, "fixed": False, "target": (0.125, None), "stopped": "target"},
    "embedding": AVERAGED,
    "token embedding": {**AVERAGED, "tokens": True},
}


@cache
def world() -> World:
    """One in which every method certifies something."""
    return random_world(np.random.default_rng(10))


def issue(
    *, draws: int = 400, stopped: Stopped | None = None, tokens: bool = False, **changes: object
) -> dict[str, Any]:
    """A signed certificate of this many draws, as it is parsed from the wire."""
    asked = question(**{"sigma": 0.25, "operator_norm": 1.25, **changes})
    counts = _counts(asked, draws)
    ended = stopped or ("passes_spent" if asked.fixed else "target" if asked.target else "tolerance")
    made = _written(asked, counts, feature_answer(asked, counts), ended, tokens)
    made = made.model_copy(update={"signature": sign(made.model_dump(mode="json"), KEY)})
    plain: dict[str, Any] = json.loads(made.model_dump_json())
    return plain


@cache
def _text(kind: str) -> str:
    return json.dumps(issue(**KINDS[kind]))


def issued(kind: str) -> dict[str, Any]:
    """A fresh copy of the certificate of this kind."""
    plain: dict[str, Any] = json.loads(_text(kind))
    return plain


def _counts(asked: FeatureQuestion, draws: int) -> FeatureCounts:
    """The evidence that this question needs, and no other."""
    found = world().counts(np.random.default_rng(3), draws)
    head = asked.label is not None
    return FeatureCounts(
        reference=found.reference,
        margins=found.margins if head else (),
        clipped=found.clipped if "clipped_cdf" in asked.statements else (),
        votes=found.votes if head else None,
        cosines=found.cosines if asked.prototypes else None,
        distances=found.distances if asked.prototypes else None,
    )


def _written(
    asked: FeatureQuestion, counts: FeatureCounts, found: FeatureAnswer, stopped: Stopped, tokens: bool
) -> FeatureCertificate:
    return FeatureCertificate(
        id="feat_0",
        created_at=BORN,
        finished_at=BORN,
        bounds=tuple(
            FeatureBoundRow(
                epsilon=row.epsilon,
                method=row.method,
                inner_product_at_least=row.inner_product,
                cosine_at_least=row.cosine,
            )
            for row in found.bounds
        ),
        radii=tuple(
            FeatureRadius(
                cosine_floor=row.cosine_floor, method=row.method, radius=row.radius, native_radius=row.native_radius
            )
            for row in found.radii
        ),
        prediction=_prediction(asked, found),
        embedding=_embedding(asked, found, tokens),
        target=None
        if asked.target is None
        else FeatureTargetAnswer(epsilon=asked.target[0], cosine=asked.target[1], certified=bool(found.target)),
        evidence=_evidence(asked, counts, stopped),
        reference="clean",
        sigma=asked.sigma,
        dimension=4 if tokens else 3,
        space=ImageSpace(
            channels=3,
            height=64,
            width=64,
            input_height=80,
            input_width=80,
            native_operator_norm=asked.operator_norm,
        ),
        model=ModelRef(name="reference-encoder", fingerprint="sha256:0"),
        seed="ab" * 32,
        software="holdfast 0.3.0",
        notice=("The guarantee is for the smoothed feature.",),
        signature=None,
    )


def _prediction(asked: FeatureQuestion, found: FeatureAnswer) -> Prediction | None:
    if asked.label is None:
        return None
    head = HeadInfo(
        name="signs",
        version="1",
        fingerprint="sha256:1",
        kind="prototypes" if asked.prototypes else "linear",
        classes=("one", "two", "three"),
        clip=0.1,
    )
    radii = tuple(
        PredictionRadius(method=row.method, radius=row.radius, native_radius=row.native_radius)
        for row in found.prediction
    )
    return Prediction(head=head, label=asked.label, class_name=head.classes[asked.label], radii=radii)


def _embedding(asked: FeatureQuestion, found: FeatureAnswer, tokens: bool) -> SmoothedEmbedding | None:
    if asked.embedding is None:
        return None
    return SmoothedEmbedding(
        draws=asked.embedding[0],
        tokens=tokens,
        alpha=asked.embedding[1],
        shape=(2, 2) if tokens else (3,),
        values=(9.5, -1.25, 0.5, 2.0) if tokens else tuple((0.9 * world().reference).tolist()),
        similarity=tuple(
            SimilarityRow(epsilon=row.epsilon, inner_product_at_least=row.inner_product, cosine_at_least=row.cosine)
            for row in found.similarity
        ),
    )


def _evidence(asked: FeatureQuestion, counts: FeatureCounts, stopped: Stopped) -> FeatureEvidence:
    rivals = [rival for rival in range(3) if rival != asked.label]
    return FeatureEvidence(
        passes=counts.reference.size,
        selection_passes=100,
        channels=(
            _channel("reference", None, counts.reference),
            *(_channel("margin", rival, one) for rival, one in zip(rivals, counts.margins, strict=False)),
            *(_channel("clipped", rival, one) for rival, one in zip(rivals, counts.clipped, strict=False)),
        ),
        votes=counts.votes,
        cosines=counts.cosines,
        distances=counts.distances,
        mean_bound=asked.mean_bound,
        horizon=asked.horizon,
        alpha=asked.alpha,
        alpha_split={name: asked.alpha / len(asked.statements) for name in asked.statements},
        stopped=stopped,
    )


def _channel(name: str, rival: int | None, sample: ScoreSample) -> ChannelEvidence:
    levels = tuple(map(int, sample.values * 4096))
    return ChannelEvidence.model_validate(
        {"name": name, "rival": rival, "levels": levels, "counts": tuple(map(int, sample.counts))}
    )
