"""Certificates checked by people who need not trust whoever hands them over."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import KeySet, Verification
from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast.signing import SigningKey, key_set, sign
from holdfast_client import Client, verify
from holdfast_client.cli import main
from holdfast_client.verification import Checkable
from tests.clients.certified import certified, certified_embedding, certified_feature
from tests.clients.gateway import SIGNING_KEY, Gateway
from tests.waiting import PATIENCE_S

Capture = pytest.CaptureFixture[str]
KEY = SigningKey.from_text(SIGNING_KEY)
OTHER_KEY = SigningKey.from_text("A" * 43)


@pytest.fixture(params=["guard", "feature", "embedding"])
def unsigned(request: pytest.FixtureRequest, model: GuardInfo, encoder: EncoderInfo) -> dict[str, Any]:
    """A certificate of every kind."""
    if request.param == "guard":
        return certified(model)
    return (certified_feature if request.param == "feature" else certified_embedding)(encoder)


@pytest.fixture
def signed(unsigned: dict[str, Any]) -> dict[str, Any]:
    return {**unsigned, "signature": sign(unsigned, KEY).model_dump(mode="json")}


def saved(folder: Path, content: object, name: str = "cert.json") -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)
    return str(folder / name)


def failed(verification: Verification) -> set[str]:
    assert verification.valid == all(check.ok for check in verification.checks)
    return {check.field for check in verification.checks if not check.ok}


def test_a_certificate_verifies_from_its_evidence_alone(unsigned: dict[str, Any], signed: dict[str, Any]) -> None:
    for certificate in (unsigned, signed):
        assert failed(verify(certificate)) == set()


def as_object(certificate: dict[str, Any]) -> Certificate | FeatureCertificate:
    kind = FeatureCertificate if certificate["kind"] == "feature" else Certificate
    return kind.model_validate(certificate)


def inflated(certificate: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A copy that claims a little more, and where."""
    copy = json.loads(json.dumps(certificate))
    if copy["kind"] == "feature":
        copy["bounds"][-1]["inner_product_at_least"] += 0.01
        return copy, "bounds"
    copy["frontier"][0]["radius"] += 0.01
    copy["frontier"][0]["native_radius"] += 0.01
    return copy, "frontier"


@pytest.mark.parametrize("form", [as_object, json.dumps, lambda certificate: json.dumps(certificate).encode()])
def test_the_sdks_own_object_its_json_and_its_bytes_verify_as_the_parsed_document_does(
    client: Client, signed: dict[str, Any], form: Callable[[dict[str, Any]], Checkable]
) -> None:
    assert verify(form(signed), key_set(KEY)) == verify(signed, key_set(KEY))
    assert client.verify(form(signed)) == client.verify(signed)
    assert client.verify(form(signed)).valid
    altered, field = inflated(signed)
    assert failed(verify(form(altered), key_set(KEY))) == failed(client.verify(form(altered))) >= {field}


def test_certificates_that_were_just_waited_for_verify(
    gateway: Gateway, client: Client, image: bytes, model: GuardInfo, encoder: EncoderInfo
) -> None:
    job = client.certify(text="t", image=image)
    gateway.finish(job.id, Certificate.model_validate(certified(model)))
    assert verify(job.wait(PATIENCE_S)).valid
    features = client.certify_features(image=image)
    gateway.finish(features.id, FeatureCertificate.model_validate(certified_feature(encoder)))
    assert verify(features.wait(PATIENCE_S)).valid


@pytest.mark.parametrize(
    ("text", "why"),
    [("cert.json", "is no JSON"), (b"[]", "must be a JSON object"), ('{"tau": 1, "tau": 2}', "given twice")],
)
def test_what_is_no_certificates_json_is_an_error_with_the_remedy(text: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"{why}.*; give what `holdfast certify --json` printed"):
        verify(text)


def test_a_number_that_claims_more_than_the_evidence_is_named(unsigned: dict[str, Any]) -> None:
    altered, field = inflated(unsigned)
    assert failed(verify(altered)) == {field}


def test_invented_evidence_needs_the_signature_to_be_found(model: GuardInfo) -> None:
    signature = sign(certified(model), KEY).model_dump(mode="json")
    invented = {**certified(model, draws=2000), "signature": signature}
    assert failed(verify({**invented, "signature": None})) == set()
    assert "evidence" in failed(verify(invented, key_set(KEY)))


def test_keys_decide_who_may_sign(unsigned: dict[str, Any], signed: dict[str, Any]) -> None:
    assert failed(verify(signed, key_set(KEY))) == set()
    assert failed(verify(signed, key_set(OTHER_KEY))) == {"signature"}
    assert failed(verify(unsigned, key_set(KEY))) == {"signature"}


def test_the_service_gives_its_keys_and_checks_as_the_client_does(
    client: Client, signed: dict[str, Any], unsigned: dict[str, Any]
) -> None:
    keys = client.keys()
    assert keys == key_set(KEY)
    for certificate in (signed, unsigned, inflated(signed)[0]):
        assert failed(client.verify(certificate)) == failed(verify(certificate, keys))


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_without_keys_the_command_says_that_nobody_vouches_for_the_evidence(
    signed: dict[str, Any], unsigned: dict[str, Any], tmp_path: Path, capsys: Capture, options: list[str]
) -> None:
    assert main(["verify", saved(tmp_path, signed), *options]) == 0
    out, messages = capsys.readouterr()
    assert "valid" in out
    assert not [line for line in out.splitlines() if line.split()[1:2] == ["signature"]]
    assert ("not_checked" in out) if options else ("Not checked, as no evidence decides it" in out)
    assert messages.startswith("The signature was not checked")
    assert main(["verify", saved(tmp_path, unsigned), *options]) == 0
    assert capsys.readouterr().err.startswith("The certificate is unsigned")


def test_the_command_fails_for_an_altered_certificate_and_shows_what_failed_first(
    signed: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    altered, field = inflated(signed)
    assert main(["verify", saved(tmp_path, altered)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("NOT valid: ")
    assert out.index(field) < out.rindex("FAILED") < out.index(" ok ")


def test_keys_are_printed_as_verify_takes_them(
    gateway: Gateway, signed: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    assert main(["keys", "--url", gateway.url]) == 0
    keys = capsys.readouterr().out
    assert KeySet.model_validate_json(keys) == key_set(KEY)
    assert main(["verify", saved(tmp_path, signed), "--keys", saved(tmp_path, keys, "keys.json")]) == 0
    out, messages = capsys.readouterr()
    assert out.startswith("valid: ")
    assert messages == ""


@pytest.mark.parametrize(("key", "status"), [(KEY, 0), (OTHER_KEY, 1)])
def test_the_services_keys_are_asked_for_where_its_url_is_given(
    gateway: Gateway, unsigned: dict[str, Any], tmp_path: Path, key: SigningKey, status: int
) -> None:
    certificate = {**unsigned, "signature": sign(unsigned, key).model_dump(mode="json")}
    assert main(["verify", saved(tmp_path, certificate), "--url", gateway.url]) == status


def test_standard_input_is_read_and_json_is_the_checks_and_nothing_else(
    unsigned: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(unsigned).encode())))
    assert main(["verify", "-", "--json"]) == 0
    assert Verification.model_validate_json(capsys.readouterr().out) == verify(unsigned)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("{", "is no JSON"),
        ("[]", "must be a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"tau": 1, "tau": 2}', "a field is given twice"),
        ('{"tau": NaN}', "NaN is no number"),
        ('{"tau": 1e999}', "a number is too large"),
    ],
)
def test_what_is_no_certificate_cannot_be_checked(content: str, remedy: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["verify", saved(tmp_path, content)]) == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize("keys", ["{}", '{"keys": [{"kid": "k", "x": "AA"}]}'])
def test_keys_that_are_none_are_an_error(keys: str, signed: dict[str, Any], tmp_path: Path, capsys: Capture) -> None:
    assert main(["verify", saved(tmp_path, signed), "--keys", saved(tmp_path, keys, "keys.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_files_and_services_that_are_not_there_leave_the_certificate_unchecked(
    signed: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    assert main(["verify", "nowhere.json"]) == 2
    assert main(["verify", saved(tmp_path, signed), "--keys", "nowhere.json"]) == 2
    assert main(["verify", saved(tmp_path, signed), "--url", "http://127.0.0.1:9"]) == 2
    assert "nowhere.json cannot be read (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["numpy", "cryptography"])
def test_without_its_extra_verify_names_the_extra(missing: str, unsigned: dict[str, Any], tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom holdfast_client.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "verify", saved(tmp_path, unsigned)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 2
    assert run.stderr.startswith("holdfast verify needs the verify extra: pip install 'holdfast[verify]'\n")
    assert "Traceback" not in run.stderr
