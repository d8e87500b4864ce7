"""Jobs of encoders as a worker meets them: a small encoder, a spec, a settled image, a tally, a certificate."""

import base64
import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.features.spec import FeatureSpec, resolve_embedding, resolve_features
from holdfast.queue.jobs import JobInput, JobRecord
from holdfast.queue.orders import Order, Tally
from holdfast_service.certifier.features.view import FeatureView
from holdfast_worker.models import registry
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.sampling.features import ReadyFeatures, prepare_features, score, settle
from tests.workers.builders import SEED, png

ENCODER: dict[str, Any] = {
    "name": "small",
    "kind": "encoder",
    "architecture": "layers",
    "layers": [
        {"kind": "conv2d", "in": 3, "out": 6, "kernel": 4, "stride": 4},
        {"kind": "relu"},
        {"kind": "flatten"},
        {"kind": "linear", "in": 96, "out": 12},
    ],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "noise_height": 16,
    "noise_width": 16,
    "heads": ["prototypes", "linear"],
    "device": "cpu",
    "defaults": {"sigma": 0.5, "draws": 200, "selection_draws": 40},
}


def encoder_folder(folder: Path, **settings: Any) -> Path:
    """Writes an encoder of random weights with a head of either kind; the settings given are laid over `ENCODER`."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    save_file(
        {
            "0.weight": normal(6, 3, 4, 4) / 7,
            "0.bias": normal(6),
            "3.weight": normal(12, 96) / 9,
            "3.bias": normal(12) / 3,
        },
        folder / "model.safetensors",
    )
    prototypes, linear = normal(4, 12), normal(4, 12)
    (folder / "heads").mkdir()
    _save_head(folder, "prototypes", weight=prototypes / prototypes.norm(dim=1, keepdim=True))
    _save_head(folder, "linear", weight=linear, bias=normal(4) / 2)
    (folder / "holdfast.json").write_text(json.dumps(ENCODER | settings))
    return folder


def _save_head(folder: Path, kind: str, **tensors: torch.Tensor) -> None:
    metadata = {"classes": '["cat", "dog", "hen", "cow"]', "kind": kind, "version": "1", "clip": "0.1"}
    save_file(tensors, folder / "heads" / f"{kind}.safetensors", metadata=metadata)


def small_encoder(folder: Path, **settings: Any) -> Encoder:
    """The encoder of `encoder_folder`, loaded."""
    loaded = registry.load(encoder_folder(folder, **settings), {})
    assert isinstance(loaded, Encoder)
    return loaded


def feature_spec_of(encoder: Encoder, **asked: Any) -> FeatureSpec:
    """What a request with these parts means for the encoder."""
    body = {"model": encoder.info.name, "input": {"image": {"data": "given"}}} | asked
    return resolve_features(FeatureCertificationRequest.model_validate(body), encoder.info)


def embedding_spec_of(encoder: Encoder, **asked: Any) -> FeatureSpec:
    """As `feature_spec_of`, for an embedding."""
    body = {"model": encoder.info.name, "input": {"image": {"data": "given"}}} | asked
    return resolve_embedding(EmbeddingRequest.model_validate(body), encoder.info)


def ready_features(encoder: Encoder, spec: FeatureSpec, size: tuple[int, int] = (24, 20)) -> ReadyFeatures:
    """The image of an encoder's job, prepared and settled."""
    prepared = prepare_features(encoder, spec, JobInput(image_png=png(*size)))
    return ReadyFeatures(spec, SEED, prepared, settle(encoder, spec, SEED, prepared))


def feature_tally(encoder: Encoder, ready: ReadyFeatures, start: int, stop: int) -> Tally:
    """The tally of one order."""
    return score(encoder, [(Order("job", 0, start, stop), ready)])[0]


def levels_of(tally: Tally) -> NDArray[np.int64]:
    """A feature tally's levels, shape (channels, draws)."""
    draws = tally.stop - tally.start
    return np.frombuffer(base64.b64decode(tally.scores.levels), "<u2").reshape(-1, draws).astype(np.int64)


def feature_certificate_of(
    encoder: Encoder, ready: ReadyFeatures, cuts: tuple[int, ...], size: tuple[int, int]
) -> FeatureCertificate:
    """The certificate that the certifier writes from these orders."""
    spec = ready.spec
    view = FeatureView.begin(JobRecord("cert_0", "running", spec, ready.seed, datetime.now(UTC), size), spec)
    for end in itertools.pairwise(cuts):
        view = view.add(feature_tally(encoder, ready, *end))
    return view.certificate("draws_spent", ready.settled)
