"""The feature path as its users run it: the shipped encoder, a declared one, SDK, command line and verification."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast.certificates import verify
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.signing import check_signature
from holdfast_client import Client
from tests.system.processes import ENVIRONMENT, ROOT, begin, until_ready
from tests.waiting import PATIENCE_S, free_port

SIGNING_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
IMAGE = ROOT / "examples/unsafe.png"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A signing service with the shipped encoder, and with a copy of it under another name and noise."""
    folder, port = tmp_path_factory.mktemp("service"), free_port()
    shutil.copytree(Path(str(files("holdfast_worker.models"))) / "reference_encoder", folder / "mine")
    toml = 'models = ["reference-encoder", "mine"]\n[served.mine]\nfolder = "mine"\ndefaults = {sigma = 0.1}\n'
    (folder / "holdfast.toml").write_text(toml)
    service = begin(
        ["holdfast", "serve", "--port", str(port)],
        folder / "log",
        HOLDFAST_SIGNING_KEY=SIGNING_KEY,
        HOLDFAST_CONFIG=str(folder / "holdfast.toml"),
    )
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            until_ready(client, service)
            yield client
    finally:
        service.stop()


def faults(client: Client, certificate: FeatureCertificate) -> list[Any]:
    plain = certificate.model_dump(mode="json")
    found = [*verify(plain), *check_signature(plain, client.keys())]
    return [check for check in found if not check.ok]


ASKED: dict[str, dict[str, Any]] = {
    "the feature": {},
    "a prediction": {"prototypes": "objects"},
    "the smoothed direction": {"reference": "direction", "mean_bound": "empirical_bernstein"},
    "a target": {"target": (0.3, 0.1)},
    "another name": {"model": "mine", "prototypes": "objects"},
}


@pytest.mark.parametrize("name", ASKED)
def test_what_the_service_certifies_is_verified_offline_and_by_the_service(client: Client, name: str) -> None:
    certificate = client.certify_features(image=IMAGE, draws=1000, **ASKED[name]).wait(PATIENCE_S)
    assert faults(client, certificate) == []
    assert client.verify(certificate).valid


def test_the_shipped_scene_is_what_it_shows(client: Client) -> None:
    certificate = client.certify_features(image=IMAGE, draws=2000, prototypes="objects").wait(PATIENCE_S)
    assert certificate.prediction is not None
    assert certificate.prediction.class_name == "jerry can"
    radii = {row.method: row.radius or 0.0 for row in certificate.prediction.radii}
    assert radii["cap"] >= radii["prototype_condition"]
    assert min(radii["margin_cdf"], radii["clipped_cdf"], radii["vote"]) > 0.1
    assert all(row.radius is not None for row in certificate.radii)


def test_an_embedding_points_where_the_reference_does(client: Client) -> None:
    certificate = client.embed(image=IMAGE, score_draws=500)
    assert certificate.embedding is not None
    assert faults(client, certificate) == []
    assert certificate.embedding.shape == (certificate.dimension,)
    bound = certificate.embedding.similarity[0].cosine_at_least
    assert bound is not None
    assert 0 < bound < np.linalg.norm(certificate.embedding.values) <= 1


def test_a_token_level_embedding_is_certified_as_such(client: Client) -> None:
    certificate = client.embed(image=IMAGE, tokens=True, score_draws=200)
    assert certificate.embedding is not None
    assert len(certificate.embedding.shape) == 2
    assert faults(client, certificate) == []


def command(client: Client, *arguments: str) -> subprocess.CompletedProcess[str]:
    executable = str(Path(sys.executable).with_name("holdfast"))
    environment = {**ENVIRONMENT, "HOLDFAST_URL": client.url}
    return subprocess.run([executable, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


def test_the_command_line_certifies_verifies_and_replays(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "certificate.json"
    certified = command(client, "certify-features", str(IMAGE), "--draws", "500", "--out", str(file))
    assert certified.returncode == 0, certified.stderr
    assert json.loads(file.read_text())["kind"] == "feature"
    assert command(client, "verify", str(file)).returncode == 0
    replayed = command(client, "replay", str(file), "--image", str(IMAGE))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_an_altered_certificate_is_refused_and_named(client: Client) -> None:
    certificate = client.certify_features(image=IMAGE, draws=300).wait(PATIENCE_S).model_dump(mode="json")
    certificate["radii"][0]["radius"] = 5.0
    assert not client.verify(certificate).valid
    assert {check.field for check in verify(certificate) if not check.ok} >= {"radii"}
