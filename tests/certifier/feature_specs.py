"""Specs and simulated workers for the certifier's tests: an encoder whose scores are normal around a known mean."""

import base64

import numpy as np

from holdfast.contract.features.spec import EmbeddingSpec, FeatureSpec
from holdfast.contract.models import HeadInfo, NoiseSpace
from holdfast.queue.orders import Order, Scores, Tally
from holdfast.queue.settled import Settled

HEAD = HeadInfo(
    name="objects", version="1", fingerprint="sha256:1", kind="prototypes", classes=("can", "socket", "strip"), clip=0.1
)


def spec(**changes: object) -> FeatureSpec:
    values = {
        "model": "encoder",
        "fingerprint": "sha256:0",
        "sigma": 0.25,
        "reference": "clean",
        "epsilons": (0.0, 0.25),
        "cosine_floors": (0.5,),
        "head": None,
        "mean_bound": "betting",
        "alpha": 0.001,
        "draws": 1000,
        "selection_draws": 100,
        "stop": "fixed",
        "tolerance": 0.02,
        "target": None,
        "embedding": None,
        "space": NoiseSpace(channels=3, height=64, width=64),
        "dimension": 64,
    }
    return FeatureSpec.model_validate({**values, **changes})


def settled(asked: FeatureSpec) -> Settled:
    values = np.full(64, 0.125, "<f4")
    has_head, embeds = asked.head is not None, asked.embedding is not None
    return Settled(
        reference=values.tobytes(),
        label=1 if has_head else None,
        cosines=(0.1, 0.9, 0.2) if has_head else None,
        distances=(1.2, 0.0, 1.1) if has_head else None,
        embedding=values.tobytes() if embeds else b"",
        shape=(64,) if embeds else (),
    )


def tally(asked: FeatureSpec, order: Order, mean: float) -> Tally:
    """What a worker reports: it depends on the draws' indexes alone."""
    channels = 1 + asked.rivals * (2 if asked.stop == "fixed" else 1)
    noise = np.stack([np.random.default_rng(index).normal(size=channels) for index in range(order.start, order.stop)])
    levels = np.sort(np.clip(np.floor((mean + 0.03 * noise.T) * 4096), 0, 4096).astype("<u2"), axis=1)
    votes = int((noise[:, 0] > -1.5).sum()) if asked.head is not None else None
    return Tally(order.start, order.stop, Scores(base64.b64encode(levels.tobytes()).decode(), votes))


ASKED = {
    "the feature alone": {},
    "a head": {"head": HEAD},
    "any time": {"head": HEAD, "stop": "any_time", "draws": 5000},
    "an embedding": {"embedding": EmbeddingSpec(draws=8, tokens=False, alpha=0.045), "cosine_floors": ()},
}
