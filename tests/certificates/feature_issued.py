"""Signed feature certificates as the certifier writes them, of a world whose smoothed features are known."""

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from holdfast.certificates import FeatureCounts, feature_answer
from holdfast.contract.features.spec import EmbeddingSpec, FeatureSpec
from holdfast.contract.jobs import Stopped
from holdfast.contract.models import HeadInfo, NoiseSpace
from holdfast.questions import feature_question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.settled import Settled
from holdfast.signing import sign
from holdfast_service.certifier.features.writing import write
from holdfast_service.certifier.writing import operator_norm
from tests.certificates.half_spaces import World, random_world
from tests.certificates.issued import BORN, KEY

LINEAR = HeadInfo(
    name="signs", version="1", fingerprint="sha256:1", kind="linear", classes=("one", "two", "three"), clip=0.1
)
PROTOTYPES = LINEAR.model_copy(update={"kind": "prototypes"})
VECTOR = {"embedding": EmbeddingSpec(draws=4, tokens=False, alpha=0.045), "cosine_floors": ()}
TOKENS = {**VECTOR, "embedding": EmbeddingSpec(draws=4, tokens=True, alpha=0.045), "dimension": 4}
ANY_TIME = {"stop": "any_time"}
HEADED = {**ANY_TIME, "head": PROTOTYPES}
KINDS: dict[str, dict[str, Any]] = {
    "feature": {},
    "prototypes": {"head": PROTOTYPES},
    "linear": {"head": LINEAR},
    "kl": {"mean_bound": "kl"},
    "any time": ANY_TIME,
    "any time with a head": {**HEADED, "passes": 300},
    "target": {**ANY_TIME, "target": {"epsilon": 0.125, "cosine": 0.5}},
    "target missed": {**HEADED, "target": {"epsilon": 3.0, "cosine": 0.0}, "stopped": "not_certifiable"},
    "prediction target": {**HEADED, "target": {"epsilon": 0.125, "cosine": None}},
    "embedding": VECTOR,
    "token embedding": TOKENS,
}


@cache
def world() -> World:
    """One in which every method certifies something."""
    return random_world(np.random.default_rng(10))


def spec(**changes: object) -> FeatureSpec:
    values = {
        "model": "reference-encoder", "fingerprint": "sha256:0", "sigma": 0.25, "reference": "clean",
        "epsilons": (0.0, 0.25, 0.5), "cosine_floors": (0.0, 0.5), "head": None, "mean_bound": "betting",
        "alpha": 0.01, "draws": 400, "selection_draws": 100, "stop": "fixed", "tolerance": 0.02, "target": None,
        "embedding": None, "space": NoiseSpace(channels=3, height=64, width=64), "dimension": 3,
    }  # fmt: skip
    return FeatureSpec.model_validate({**values, **changes})


def issue(*, passes: int | None = None, stopped: Stopped | None = None, **changes: object) -> dict[str, Any]:
    """A signed certificate of so many scored passes, all by default, as it is parsed from the wire."""
    asked = spec(**changes)
    scored = asked.draws if passes is None else passes
    counts = _counts(asked, scored)
    settled = _settled(asked, counts)
    record = JobRecord("feat_0", "running", asked, "ab" * 32, BORN, (80, 80))
    question = feature_question_of(
        asked, label=settled.label, prototypes=settled.cosines is not None, operator_norm=operator_norm(record)
    )
    ended = stopped or ("draws_spent" if asked.stop == "fixed" else "target" if asked.target else "tolerance")
    made = write(record, asked, settled, counts, feature_answer(question, counts), scored, ended)
    made = made.model_copy(update={"signature": sign(made, KEY)})
    plain: dict[str, Any] = json.loads(made.model_dump_json())
    return plain


@cache
def _text(kind: str) -> str:
    return json.dumps(issue(**KINDS[kind]))


def issued(kind: str) -> dict[str, Any]:
    """A fresh copy of the certificate of this kind."""
    plain: dict[str, Any] = json.loads(_text(kind))
    return plain


def _counts(asked: FeatureSpec, draws: int) -> FeatureCounts:
    """The evidence that this question needs, and no other."""
    found = world().counts(np.random.default_rng(3), draws)
    head = asked.head
    if head is None:
        return FeatureCounts(found.reference)
    found = found if "clipped_cdf" in asked.statements else replace(found, clipped=())
    return found if head.kind == "prototypes" else replace(found, cosines=None, distances=None)


def _settled(asked: FeatureSpec, counts: FeatureCounts) -> Settled:
    embedding = (0.9 * world().reference) if asked.dimension == 3 else np.array([9.5, -1.25, 0.5, 2.0])
    shape = (3,) if asked.dimension == 3 else (2, 2)
    return Settled(
        reference=world().reference.astype("<f4").tobytes(),
        label=None if asked.head is None else world().label,
        cosines=counts.cosines,
        distances=counts.distances,
        embedding=embedding.astype("<f4").tobytes() if asked.embedding is not None else b"",
        shape=shape if asked.embedding is not None else (),
    )
