"""Feature certificates checked by people who need not trust whoever hands them over."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.jobs import Verification
from holdfast.contract.models import EncoderInfo
from holdfast.signing import SigningKey, key_set, sign
from holdfast_client import Client, verify
from holdfast_client.cli import main
from tests.clients.feature_certificates import certified_embedding, certified_feature
from tests.clients.gateway import SIGNING_KEY

Capture = pytest.CaptureFixture[str]
KEY = SigningKey.from_text(SIGNING_KEY)


@pytest.fixture(params=[certified_feature, certified_embedding])
def unsigned(request: pytest.FixtureRequest, encoder: EncoderInfo) -> dict[str, Any]:
    certificate: dict[str, Any] = request.param(encoder)
    return certificate


@pytest.fixture
def signed(unsigned: dict[str, Any]) -> dict[str, Any]:
    return {**unsigned, "signature": sign(unsigned, KEY).model_dump(mode="json")}


def failed(verification: Verification) -> set[str]:
    return {check.field for check in verification.checks if not check.ok}


def test_a_feature_certificate_verifies_from_its_evidence_alone(
    unsigned: dict[str, Any], signed: dict[str, Any]
) -> None:
    assert verify(unsigned).valid
    assert verify(signed, key_set(KEY)).valid


def test_an_inflated_similarity_is_named(unsigned: dict[str, Any]) -> None:
    unsigned["bounds"][-1]["inner_product_at_least"] += 0.01
    assert failed(verify(unsigned)) == {"bounds"}


def test_the_service_checks_a_feature_certificate_as_the_client_does(client: Client, signed: dict[str, Any]) -> None:
    assert client.verify(FeatureCertificate.model_validate(signed)).valid
    assert verify(FeatureCertificate.model_validate(signed), client.keys()).valid
    altered = {**signed, "sigma": 10.0}
    assert failed(client.verify(altered)) == failed(verify(altered, client.keys())) != set()


def test_the_command_shows_what_was_checked_of_a_feature_certificate(
    signed: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "cert.json").write_text(json.dumps(signed))
    (tmp_path / "keys.json").write_text(key_set(KEY).model_dump_json())
    assert main(["verify", str(tmp_path / "cert.json"), "--keys", str(tmp_path / "keys.json")]) == 0
    out, messages = capsys.readouterr()
    assert out.startswith("valid: all ")
    assert "bounds" in out
    assert messages == ""


def test_the_command_fails_for_an_altered_feature_certificate(
    unsigned: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "cert.json").write_text(json.dumps({**unsigned, "sigma": 10.0}))
    assert main(["verify", str(tmp_path / "cert.json")]) == 1
    assert capsys.readouterr().out.startswith("NOT valid: ")
