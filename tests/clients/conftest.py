import io
from collections.abc import Iterator

import pytest
from PIL import Image

from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.models import (
    Defaults,
    EncoderInfo,
    FieldInfo,
    GuardInfo,
    HeadInfo,
    L0Defaults,
    Limits,
    NoiseSpace,
)
from holdfast.queue.leases import Heartbeat
from holdfast_client import Client
from tests.clients.certificates import unsafe_certificate
from tests.clients.feature_certificates import HEAD
from tests.clients.gateway import Gateway, running_gateway


@pytest.fixture
def model() -> GuardInfo:
    return GuardInfo(
        name="reference-guard",
        fingerprint="sha256:" + "0" * 64,
        space=NoiseSpace(channels=3, height=64, width=64),
        alphabets=(485,),
        defaults=Defaults(slots=3, l0=L0Defaults(beta=0.1, tau=0.3)),
        limits=Limits(max_slots=8, max_text_bytes=200),
        tie_band=1e-5,
    )


@pytest.fixture
def tabular_model() -> GuardInfo:
    return GuardInfo(
        name="tabular-guard",
        kind="tabular",
        fingerprint="sha256:" + "1" * 64,
        space=NoiseSpace(channels=1, height=1, width=1),
        alphabets=(2, 3),
        fields=(
            FieldInfo(name="age"),
            FieldInfo(name="sex", values=("f", "m")),
            FieldInfo(name="city", values=("Bonn", "Lyon", "Rome")),
        ),
        defaults=Defaults(slots=0),
        limits=Limits(max_slots=0, max_text_bytes=200),
        tie_band=0.0,
    )


@pytest.fixture
def encoder() -> EncoderInfo:
    return EncoderInfo(
        name="reference-encoder",
        fingerprint="sha256:" + "3" * 64,
        space=NoiseSpace(channels=3, height=64, width=64),
        dimension=512,
        token_shape=(2, 3),
        heads=(HeadInfo.model_validate(HEAD),),
    )


@pytest.fixture
def certificate() -> Certificate:
    return unsafe_certificate()


@pytest.fixture
def gateway(model: GuardInfo, tabular_model: GuardInfo, encoder: EncoderInfo) -> Iterator[Gateway]:
    """A gateway that believes a worker serves two guards and an encoder."""
    with running_gateway() as running, Heartbeat(running.broker, "worker", [model, tabular_model, encoder]):
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
