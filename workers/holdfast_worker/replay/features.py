"""A feature certificate's draws, made again: the same seed, encoder and image give the same scores on every channel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import LEVELS
from holdfast.contract.features.certificates import ChannelEvidence, FeatureCertificate
from holdfast.contract.features.spec import FeatureSpec
from holdfast.questions import feature_spec_of
from holdfast.queue.jobs import JobInput
from holdfast.queue.settled import Settled
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.replay.guard import ReplayError, require_own
from holdfast_worker.sampling.features import ReadyFeatures, prepare_features, scores, settle

NEAR_TIE = 1e-5
"""Inner products may come out this far off in another batch or on another device of the same kind."""

_TOGETHER = 64  # draws, as in the service's own orders: of another number the last bits may come out otherwise


@dataclass(frozen=True)
class ChannelComparison:
    """One channel, replayed.

    Attributes:
        name: Which score it is.
        rival: The class that a margin is held against; ``None`` for the reference.
        differing: Draws that are more than one level off; the fewest that explain the two histograms, as the next.
        adjacent: Draws that are one level off.
        near_edges: Draws whose score, off by ``NEAR_TIE`` in an inner product, may be counted at the next level.
    """

    name: str
    rival: int | None
    differing: int
    adjacent: int
    near_edges: int

    @property
    def equal(self) -> bool:
        """Whether rounding explains every difference."""
        return not self.differing and self.adjacent <= self.near_edges


@dataclass(frozen=True)
class FeatureComparison:
    """A feature certificate, replayed.

    Attributes:
        passes: Draws that were scored again.
        channels: Its channels, in its order.
        label: The label that was found; the channels are held against the certificate's.
        label_equal: Whether it is the certificate's.
        votes_differing: Draws' votes that differ, the fewest that explain the two counts.
        near_ties: Draws whose vote is within ``NEAR_TIE`` of a tie.
        settled_gap: Largest difference among cosines, distances and the embedding's numbers.
    """

    passes: int
    channels: tuple[ChannelComparison, ...]
    label: int | None
    label_equal: bool
    votes_differing: int
    near_ties: int
    settled_gap: float

    @property
    def equal(self) -> bool:
        """Whether rounding explains every difference."""
        settled = self.label_equal and self.settled_gap <= NEAR_TIE
        return settled and self.votes_differing <= self.near_ties and all(channel.equal for channel in self.channels)


def replay_features(encoder: Encoder, certificate: FeatureCertificate, given: JobInput) -> FeatureComparison:
    """Settles the job of a feature certificate and scores all of its draws again.

    Args:
        encoder: The encoder that the certificate names.
        certificate: The certificate; its evidence counts all draws together, so all of them are made again.
        given: Its image.

    Raises:
        ReplayError: The encoder is not the certificate's, or the evidence contradicts what it says was asked.
        ModelConfigError: The encoder lacks the certificate's head.
        InputRefusedError: The image does not fit the encoder.
    """
    require_own(encoder, certificate)
    spec, evidence = feature_spec_of(certificate), certificate.evidence
    prepared = prepare_features(encoder, spec, given)
    found = settle(encoder, spec, certificate.seed, prepared)
    label = None if certificate.prediction is None else certificate.prediction.label
    try:
        ready = ReadyFeatures(spec, certificate.seed, prepared, replace(found, label=label))
        values, hits = _all_scores(encoder, ready, evidence.passes)
        channels = tuple(_channels(spec, label, evidence.channels, values))
    except ValueError as error:
        raise ReplayError(
            "the certificate states channels, counts or a label that its request does not have; check it with"
            " `holdfast verify`"
        ) from error
    margins = 2 * values[1 : 1 + spec.rivals] - 1
    return FeatureComparison(
        passes=evidence.passes,
        channels=channels,
        label=found.label,
        label_equal=found.label == label,
        votes_differing=abs(hits - (evidence.votes or 0)),
        near_ties=int((np.abs(margins).min(axis=0) <= NEAR_TIE).sum()) if spec.rivals else 0,
        settled_gap=_gap(certificate, found),
    )


def _all_scores(encoder: Encoder, ready: ReadyFeatures, draws: int) -> tuple[NDArray[np.float64], int]:
    """Scores of all draws, shape (channels, draws), and how many voted for the label."""
    parts = [scores(encoder, ready, start, min(start + _TOGETHER, draws)) for start in range(0, draws, _TOGETHER)]
    hits = sum(int(part.hits.sum()) for part in parts if part.hits is not None)
    return np.concatenate([part.values.cpu().numpy() for part in parts], axis=1), hits


def _channels(
    spec: FeatureSpec, label: int | None, stated: tuple[ChannelEvidence, ...], values: NDArray[np.float64]
) -> Iterator[ChannelComparison]:
    rivals = [rival for rival in range(spec.rivals + 1) if rival != label] if spec.rivals else []
    drawn = [("reference", None), *(("margin", rival) for rival in rivals), *(("clipped", rival) for rival in rivals)]
    if [(channel.name, channel.rival) for channel in stated] != drawn[: len(values)]:
        raise ValueError(f"{len(stated)} channels must be the {len(values)} that are drawn, in order")
    for channel, own in zip(stated, values, strict=True):
        theirs = np.repeat(channel.levels, channel.counts)
        off = np.abs(np.sort(np.floor(own * LEVELS)) - np.sort(theirs))  # sorted: the least that must have moved
        scale = spec.head.clip if spec.head is not None and channel.name == "clipped" else 1.0
        inside = own[(own > 0) & (own < 1)] * LEVELS
        near = np.abs(inside - np.rint(inside)) <= NEAR_TIE / scale / 2 * LEVELS
        yield ChannelComparison(
            channel.name, channel.rival, int((off > 1).sum()), int((off == 1).sum()), int(near.sum())
        )


def _gap(certificate: FeatureCertificate, found: Settled) -> float:
    evidence, embedding = certificate.evidence, certificate.embedding
    pairs = [
        (evidence.cosines, found.cosines),
        (evidence.distances, found.distances),
        (None if embedding is None else embedding.values, np.frombuffer(found.embedding, "<f4")),
    ]
    gaps = [_largest(stated, ours) for stated, ours in pairs if stated is not None and ours is not None]
    return max(gaps, default=0.0)


def _largest(stated: tuple[float, ...], found: NDArray[np.float32] | tuple[float, ...]) -> float:
    if len(stated) != len(found):
        return float("inf")
    # A token matrix is as long as its tower makes it, so its rounding is too.
    scale = max(1.0, float(np.linalg.norm(np.asarray(found, np.float64), ord=np.inf)))
    return float(np.abs(np.asarray(stated) - np.asarray(found, np.float64)).max()) / scale
