"""From an order to its tally where an encoder is certified: what is settled first, what is drawn, what is scored.

The reference, the label and an answered embedding come from draws of their own noise channels, never from draws that
are scored (maths.md §6). What a draw's feature is depends on the job's seed and the draw's index alone.
"""

import asyncio
import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.certificates import LEVELS
from holdfast.certificates.noise.kernels import BLOCK
from holdfast.contract.base import ImageData
from holdfast.contract.features.requests import FeatureCertificationRequest, FeatureInput
from holdfast.contract.features.spec import EmbeddingSpec, FeatureSpec, resolve_features
from holdfast.queue import jobs
from holdfast.queue.broker import AsyncRedis
from holdfast.queue.jobs import JobInput, JobRecord
from holdfast.queue.orders import Order, Scores, Tally
from holdfast.queue.settled import Settled
from holdfast_worker.gaussian import noisy
from holdfast_worker.models.draws import PreparedInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.heads import Head
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.examples import SEED, picture_png
from holdfast_worker.models.vision.noise_space import decoded
from holdfast_worker.models.vision.towers import to_sphere

GUARD = 1e-6
"""What is taken off every inner product and margin, so that neither a level nor a vote owes anything to rounding.

They are float64 sums of at most 2^20 products of numbers up to 1, off by less than 1e-9: upwards as easily as
downwards, and then divided by the clip. A level is nearly 500 times as wide.
"""

_FLOAT = np.dtype("<f4")
_SELECTION, _EMBEDDING = "image/selection", "image/embedding"
_NUMBERS = 1 << 24  # of features held at once: 128 MiB in float64


@dataclass(frozen=True, eq=False)
class ReadyFeatures:
    """A job's image, ready for draws, and what was settled of it."""

    spec: FeatureSpec
    seed: str
    prepared: PreparedInput
    settled: Settled

    def __post_init__(self) -> None:
        classes = () if self.spec.head is None else self.spec.head.classes
        size, label = len(self.settled.reference) // _FLOAT.itemsize, self.settled.label
        if size != self.spec.dimension or label not in (range(len(classes)) if classes else (None,)):
            raise ValueError(
                f"the job was settled with a reference of {size} numbers and label {label}, must have"
                f" {self.spec.dimension} and one of {len(classes)} classes; run the same version on all workers"
            )


@dataclass(frozen=True, eq=False)
class DrawScores:
    """The scores of a range of draws, on the encoder's device.

    Attributes:
        values: float64, shape (channels, draws): reference, margins by rival, clipped margins by rival.
        hits: Draws whose own label is the settled one by more than ``GUARD``, bool, shape (draws,); ``None`` where
            votes are not certified.
    """

    values: Tensor
    hits: Tensor | None


def prepare_features(encoder: Encoder, spec: FeatureSpec, given: JobInput) -> PreparedInput:
    """Prepares an image for an encoder.

    Args:
        encoder: The encoder.
        spec: What is asked of it.
        given: The image as PNG.

    Raises:
        InputRefusedError: The image does not fit the encoder.
        ModelConfigError: The encoder lacks the head that the job names.
    """
    _head(encoder, spec)
    return encoder.prepare(decoded(given.image_png))


@torch.inference_mode()
def settle(encoder: Encoder, spec: FeatureSpec, seed: str, prepared: PreparedInput) -> Settled:
    """Finds the reference, the label and the embedding of a job.

    The reference is the feature of the image without noise, or the direction of the mean of the selection draws; the
    label is that of these draws' mean feature.
    """
    head, direction = _head(encoder, spec), spec.reference == "direction"
    mean = None
    if head is not None or direction:
        mean, _ = _means(_features(encoder, spec, seed, prepared, 0, spec.selection_draws, _SELECTION))
    unit = to_sphere(mean) if mean is not None and direction else to_sphere(_clean(encoder, spec, prepared).double())
    label = None if head is None or mean is None else int(_logits(head, mean).argmax())
    cosines, distances = _geometry(head, label, to_sphere(unit.float().double()))
    embedding = None if spec.embedding is None else _embedding(encoder, spec, spec.embedding, seed, prepared)
    return Settled(
        reference=_raw(unit),
        label=label,
        cosines=cosines,
        distances=distances,
        embedding=b"" if embedding is None else _raw(embedding),
        shape=() if embedding is None else tuple(embedding.shape),
    )


def _raw(values: Tensor) -> bytes:
    return values.float().cpu().numpy().astype(_FLOAT).tobytes()


def _clean(encoder: Encoder, spec: FeatureSpec, prepared: PreparedInput) -> Tensor:
    images = prepared.clean[None]
    return encoder.tokens(images, spec.sigma).flatten() if _by_tokens(spec) else encoder.features(images, spec.sigma)[0]


def _embedding(encoder: Encoder, spec: FeatureSpec, asked: EmbeddingSpec, seed: str, prepared: PreparedInput) -> Tensor:
    """The mean of unit features; of token matrices rescaled by their mean norm, for a language model to read."""
    mean, norm = _means(_features(encoder, spec, seed, prepared, 0, asked.draws, _EMBEDDING))
    return (mean * norm).view(encoder.token_shape) if asked.tokens else mean


def _means(parts: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean of the features' directions, float64, shape (E,), and of their lengths; one part in memory at a time."""
    total, length, draws = torch.zeros(()), torch.zeros(()), 0
    for part in parts:
        features = part.double()
        total = total + to_sphere(features).sum(dim=0)
        length = length + features.norm(dim=1).sum()
        draws += len(part)
    return total / draws, length / draws


def _geometry(head: Head | None, label: int | None, unit: Tensor) -> tuple[tuple[float, ...] | None, ...]:
    """Cosines of the reference with all prototypes, and distances of the label's from them."""
    if head is None or head.kind != "prototypes":
        return None, None
    rows = head.weight.double()
    cosines, distances = (rows @ unit).clamp(-1, 1), (rows[label] - rows).norm(dim=1).clamp(max=2)
    return tuple(cosines.tolist()), tuple(distances.tolist())


def _logits(head: Head, features: Tensor) -> Tensor:
    logits = features @ head.weight.double().T
    return logits if head.bias is None else logits + head.bias.double()


def score(encoder: Encoder, wanted: Sequence[tuple[Order, ReadyFeatures]]) -> list[Tally]:
    """Runs orders of any jobs of one encoder.

    Args:
        encoder: The encoder.
        wanted: Orders, with the inputs of their jobs.
    """
    found = [_levels(encoder, order, ready) for order, ready in wanted]
    host = torch.cat(found).cpu().numpy()  # one copy for all: each makes the device wait
    parts = np.split(host, np.cumsum([len(part) for part in found])[:-1])
    return [_tally(order, ready, part) for (order, ready), part in zip(wanted, parts, strict=True)]


@torch.inference_mode()
def _levels(encoder: Encoder, order: Order, ready: ReadyFeatures) -> Tensor:
    """Sorted levels of every channel, one after the other, and the votes; int32."""
    found = scores(encoder, ready, order.start, order.stop)
    levels = (found.values * LEVELS).floor().int().sort(dim=1).values
    votes = levels.new_zeros(1) if found.hits is None else found.hits.sum().int()[None]
    return torch.cat((levels.flatten(), votes))


def _tally(order: Order, ready: ReadyFeatures, found: NDArray[np.int32]) -> Tally:
    return Tally(
        start=order.start,
        stop=order.stop,
        found=Scores(
            levels=base64.b64encode(found[:-1].astype("<u2").tobytes()).decode(),
            votes=int(found[-1]) if "vote" in ready.spec.statements else None,
        ),
    )


@torch.inference_mode()
def scores(encoder: Encoder, ready: ReadyFeatures, start: int, stop: int) -> DrawScores:
    """Scores the draws ``[start, stop)`` on every channel that the job's statements need.

    Raises:
        ValueError: The range is empty or negative.
        ModelConfigError: The encoder lacks the head that the job names.
    """
    head = _head(encoder, ready.spec)
    settled = np.frombuffer(ready.settled.reference, _FLOAT).astype(np.float64)
    reference = to_sphere(torch.from_numpy(settled).to(encoder.device))
    parts = []
    for features in _features(encoder, ready.spec, ready.seed, ready.prepared, start, stop, "image"):
        units = to_sphere(features.double())
        margins = units.new_empty(len(units), 0) if head is None else _margins(head, ready.settled.label, units)
        parts.append(torch.cat(((units @ reference)[:, None], margins), dim=1) - GUARD)
    found = torch.cat(parts).T
    margins = found[1:]
    if head is not None and "clipped_cdf" in ready.spec.statements:
        found = torch.cat((found, (margins / head.clip).clamp(-1, 1)))
    hits = (margins > 0).all(dim=0) if "vote" in ready.spec.statements else None
    return DrawScores(((1 + found) / 2).clamp(0, 1), hits)


def _margins(head: Head, label: int | None, units: Tensor) -> Tensor:
    """The label's margin over every rival, in [-1, 1] for unit features; shape (draws, rivals)."""
    weight = head.weight.double()
    bias = weight.new_zeros(len(weight)) if head.bias is None else head.bias.double()
    rivals = torch.arange(len(weight), device=weight.device) != label
    rows, offsets = (weight[label] - weight)[rivals], (bias[label] - bias)[rivals]
    margins: Tensor = (units @ rows.T + offsets) / (rows.norm(dim=1) + offsets.abs())
    return margins


def _features(
    encoder: Encoder, spec: FeatureSpec, seed: str, prepared: PreparedInput, start: int, stop: int, channel: str
) -> Iterator[Tensor]:
    """Features of the draws, or flattened token matrices of any length, in parts of a size that memory holds."""
    if not 0 <= start < stop:
        raise ValueError(f"draws [{start}, {stop}) must satisfy 0 <= start < stop; ask for a nonempty range")
    most = min(_NUMBERS // spec.dimension, encoder.batching.limit) if _by_tokens(spec) else _NUMBERS // spec.dimension
    step = max(1, most // BLOCK) * BLOCK
    for first in range(start, stop, step):
        last = min(first + step, stop)
        if not _by_tokens(spec):
            yield encoder.draw_features(prepared, seed, spec.sigma, first, last, channel=channel)
        else:
            clean = prepared.clean[None]
            images = noisy(clean, sigma=spec.sigma, seed=seed, start=first, stop=last, channel=channel)
            yield encoder.tokens(images, spec.sigma).flatten(1)


def _by_tokens(spec: FeatureSpec) -> bool:
    return spec.embedding is not None and spec.embedding.tokens


def _head(encoder: Encoder, spec: FeatureSpec) -> Head | None:
    if spec.head is None:
        return None
    head = encoder.heads.get(spec.head.name)
    if head is None or head.fingerprint != spec.head.fingerprint:
        raise ModelConfigError(
            f"head {spec.head.name} has fingerprint {None if head is None else head.fingerprint}, must have the job's"
            f" {spec.head.fingerprint}; serve the same heads on all workers"
        )
    return head


@dataclass(frozen=True, eq=False)
class EncoderKind:
    """What a worker does with an encoder; see ``Kind``."""

    model: Encoder

    async def prepare(self, redis: AsyncRedis, record: JobRecord, given: JobInput) -> ReadyFeatures | None:
        """As ``Kind.prepare``; finds what is settled, or settles it for all workers."""
        spec, seed = record.spec, record.seed
        if not isinstance(spec, FeatureSpec):
            raise TypeError(f"job {record.id} asks an encoder for votes, must ask for features; name a guard")
        prepared = await asyncio.to_thread(prepare_features, self.model, spec, given)
        fields = await jobs.read_settled(redis, record.id)
        if not fields:
            found = await asyncio.to_thread(settle, self.model, spec, seed, prepared)
            # Another worker may have been first, and on another device its floats differ: what the queue says counts.
            fields = await jobs.settle(redis, record.id, found.to_fields())
        return ReadyFeatures(spec, seed, prepared, Settled.from_fields(fields)) if fields else None

    def run(self, batch: Sequence[tuple[Order, ReadyFeatures]]) -> list[Tally]:  # noqa: D102
        return score(self.model, batch)

    def room(self, order: Order, ready: ReadyFeatures) -> int:  # noqa: D102
        return self.model.batching.room()

    def warm_up(self) -> None:  # noqa: D102
        info = self.model.info
        request = FeatureCertificationRequest(
            model=info.name,
            input=FeatureInput(image=ImageData(data="given")),
            prototypes=info.heads[0].name if info.heads else None,
        )
        spec = resolve_features(request, info).model_copy(update={"selection_draws": 4})
        given = JobInput(image_png=picture_png(0, info.space.height, info.space.width))
        prepared = prepare_features(self.model, spec, given)
        ready = ReadyFeatures(spec, SEED, prepared, settle(self.model, spec, SEED, prepared))
        self.run([(Order("warm-up", 0, 0, 4), ready)])
