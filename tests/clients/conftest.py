import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from PIL import Image

from holdfast.contract.certificates import (
    CellEvidence,
    Certificate,
    Evidence,
    FrontierPoint,
    ModelRef,
    NoiseUsed,
    Space,
    ThreatUsed,
    WorstCase,
)
from holdfast.contract.models import Defaults, Limits, ModelInfo, NoiseSpace
from holdfast.queue.leases import Heartbeat
from holdfast_client import Client
from tests.clients.gateway import Gateway, running_gateway

RADII = (1.23456789, 0.98765, 0.0004, None)


@pytest.fixture
def model() -> ModelInfo:
    return ModelInfo(
        name="reference-guard",
        fingerprint="sha256:" + "0" * 64,
        space=NoiseSpace(channels=3, height=64, width=64),
        alphabet_size=485,
        defaults=Defaults(slots=3),
        limits=Limits(max_slots=8, max_text_bytes=200),
    )


@pytest.fixture
def certificate() -> Certificate:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    return Certificate(
        id="cert_000000000000" + "0" * 16,
        created_at=now,
        finished_at=now,
        verdict="unsafe",
        frontier=tuple(
            FrontierPoint(tokens=tokens, radius=radius, method=None if radius is None else "stratified")
            for tokens, radius in enumerate(RADII)
        ),
        max_tokens=2,
        worst_case=(
            WorstCase(tokens=0, epsilon=0.5, unsafe_probability_at_least=0.98769, passes_to_detect=2),
            WorstCase(tokens=3, epsilon=0.5, unsafe_probability_at_least=0.0, passes_to_detect=None),
        ),
        evidence=Evidence(
            passes=6400,
            cells=tuple(CellEvidence(leading_masked=k, draws=1600, unsafe=1590, lower=0.98) for k in range(4)),
            bound="any_time",
            alpha=0.01,
            alpha_split={"stratified": 1.0},
            stopped="tolerance",
        ),
        threat=ThreatUsed(slots=3),
        noise=NoiseUsed(token_kernel="uniform", beta=0.25, sigma=0.5),
        tau=4.6e-5,
        space=Space(channels=3, height=64, width=64, token_alphabet=485, input_height=64, input_width=64),
        model=ModelRef(name="reference-guard", fingerprint="sha256:" + "0" * 64),
        false_flag=None,
        seed="00",
        software="holdfast 0.1.0",
        notice=("The guarantee is for the smoothed guard.", "It holds with probability 1 - alpha."),
    )


@pytest.fixture
def gateway(model: ModelInfo) -> Iterator[Gateway]:
    """A gateway that believes a worker serves `model`."""
    with running_gateway() as running, Heartbeat(running.broker, "worker", [model]):
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.url) as connected:
        yield connected


@pytest.fixture
def image() -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (64, 64), "red").save(file, "PNG")
        return file.getvalue()
