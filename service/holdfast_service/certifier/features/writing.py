"""The certificate of an encoder: evidence, parameters and answer in the words of the contract."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np

from holdfast.certificates import FeatureAnswer, FeatureCounts, ScoreSample
from holdfast.certificates.features.question import LEVELS
from holdfast.certificates.features.words import feature_notice
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
from holdfast.contract.features.spec import FeatureSpec
from holdfast.contract.jobs import Stopped
from holdfast.contract.models import ImageSpace
from holdfast.queue.jobs import JobRecord
from holdfast.queue.settled import Settled
from holdfast_service.certifier.writing import image_space, issued


def write(
    record: JobRecord,
    spec: FeatureSpec,
    settled: Settled,
    counts: FeatureCounts,
    found: FeatureAnswer,
    passes: int,
    stopped: Stopped,
) -> FeatureCertificate:
    """The certificate, not yet signed, of a job whose sampling has stopped after so many scored passes."""
    target = spec.target
    made = FeatureCertificate(
        **issued(record),
        bounds=tuple(
            FeatureBoundRow(
                epsilon=row.epsilon,
                method=row.method,
                inner_product_at_least=row.inner_product,
                cosine_at_least=row.cosine,
            )
            for row in found.bounds
        ),
        radii=tuple(FeatureRadius(**asdict(row)) for row in found.radii),
        prediction=_prediction(spec, settled, found),
        embedding=_embedding(spec, settled, found),
        target=None if target is None else FeatureTargetAnswer(**dict(target), certified=found.target or False),
        evidence=_evidence(spec, settled, counts, passes, stopped),
        reference=spec.reference,
        sigma=spec.sigma,
        dimension=spec.dimension,
        space=ImageSpace(**image_space(record)),
    )
    plain = made.model_dump(mode="json", exclude={"embedding": {"values"}})
    return made.model_copy(update={"notice": tuple(feature_notice(plain))})


def _prediction(spec: FeatureSpec, settled: Settled, found: FeatureAnswer) -> Prediction | None:
    if spec.head is None or settled.label is None:
        return None
    return Prediction(
        head=spec.head,
        label=settled.label,
        class_name=spec.head.classes[settled.label],
        radii=tuple(PredictionRadius(**asdict(row)) for row in found.prediction),
    )


def _embedding(spec: FeatureSpec, settled: Settled, found: FeatureAnswer) -> SmoothedEmbedding | None:
    asked = spec.embedding
    if asked is None:
        return None
    return SmoothedEmbedding(
        draws=asked.draws,
        tokens=asked.tokens,
        alpha=asked.alpha,
        shape=settled.shape,
        values=tuple(np.frombuffer(settled.embedding, "<f4").tolist()),
        similarity=tuple(
            SimilarityRow(epsilon=row.epsilon, inner_product_at_least=row.inner_product, cosine_at_least=row.cosine)
            for row in found.similarity
        ),
    )


def _evidence(
    spec: FeatureSpec, settled: Settled, counts: FeatureCounts, passes: int, stopped: Stopped
) -> FeatureEvidence:
    averaged = 0 if spec.embedding is None else spec.embedding.draws
    selecting = spec.selection_draws if spec.head is not None or spec.reference == "direction" else 0
    return FeatureEvidence(
        passes=passes,
        selection_passes=averaged + selecting,
        channels=tuple(_channels(settled.label, counts)),
        votes=counts.votes,
        cosines=settled.cosines,
        distances=settled.distances,
        mean_bound=spec.mean_bound,
        horizon=spec.draws,
        alpha=spec.alpha,
        alpha_split={statement: spec.alpha / len(spec.statements) for statement in spec.statements},
        stopped=stopped,
    )


def _channels(label: int | None, counts: FeatureCounts) -> Iterator[ChannelEvidence]:
    yield _channel("reference", None, counts.reference)
    classes = range(len(counts.margins) + 1)
    rivals = [rival for rival in classes if rival != label]
    families: Sequence[tuple[str, tuple[ScoreSample, ...]]] = (("margin", counts.margins), ("clipped", counts.clipped))
    for name, samples in families:
        for rival, sample in zip(rivals, samples, strict=False):
            yield _channel(name, rival, sample)


def _channel(name: str, rival: int | None, sample: ScoreSample) -> ChannelEvidence:
    levels = np.rint(sample.values * LEVELS).astype(np.int64)
    return ChannelEvidence.model_validate(
        {"name": name, "rival": rival, "levels": levels.tolist(), "counts": sample.counts.tolist()}
    )
