"""Every threat, verdict and method through the running service; each certificate verified without it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from holdfast.certificates import verify
from holdfast.contract.guard.certificates import Certificate
from holdfast.signing import SigningKey, check_signature
from holdfast_client import AsyncClient, Client
from holdfast_client import verify as verify_here
from tests.system.processes import ROOT, begin, until_ready
from tests.waiting import PATIENCE_S, free_port

SIGNING_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
EXAMPLES = {one["name"]: one for one in json.loads((ROOT / "examples/examples.json").read_text())}


def census(folder: Path) -> Path:
    """A linear guard on two categorical and one numeric field: rich is Unsafe."""
    folder.mkdir()
    fields = [{"name": "work", "values": ["none", "part", "full"]}, {"name": "home", "values": ["rent", "own"]}]
    means = {"fields": [*fields, {"name": "income"}], "means": [0.0], "stds": [1.0]}
    defaults = {"beta": 0.4, "sigma": 0.5, "tau": 0.4, "max_draws": 500}
    described = {"name": "census", "kind": "tabular", **means, "defaults": defaults}
    (folder / "holdfast.json").write_text(json.dumps(described))
    weight = np.array([[-0.5, 0.0, 0.5, -0.5, 0.5, 2.0]], np.float32)
    save_file({"layers.0.weight": weight, "layers.0.bias": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A signing service with a multimodal and a tabular guard."""
    folder, port = tmp_path_factory.mktemp("service"), free_port()
    toml = f'models = ["reference-guard", "census"]\n[served.census]\nfolder = "{census(folder / "census")}"\n'
    (folder / "holdfast.toml").write_text(toml)
    command = ["holdfast", "serve", "--port", str(port)]
    service = begin(command, folder / "log", HOLDFAST_SIGNING_KEY=SIGNING_KEY)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            until_ready(client, service)
            yield client
    finally:
        service.stop()


def scene(name: str) -> dict[str, Any]:
    return {"text": EXAMPLES[name]["text"], "image": ROOT / "examples" / EXAMPLES[name]["image"]}


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "suffix, unsafe": (scene("unsafe"), "unsafe"),
    "suffix, safe": ({**scene("safe"), "max_draws": 300}, "safe"),
    "a decision": ({**scene("unsafe"), "target": (4, 0.5)}, "unsafe"),
    "characters appended": ({**scene("unsafe"), "threat": "append", "max_characters": 5}, "unsafe"),
    "image only": ({**scene("unsafe"), "threat": "none"}, "unsafe"),
    "text only": ({**scene("unsafe"), "image_threat": "none"}, "unsafe"),
    "a decision by its own strata": ({**scene("unsafe"), "target": (4, 0.5), "method": "stratified"}, "unsafe"),
    "l0": ({**scene("unsafe"), "threat": "l0", "max_tokens": 2}, "unsafe"),
    "a guard per budget": ({**scene("unsafe"), "scope": "per_budget"}, "unsafe"),
    "joint alone, one tail": ({**scene("unsafe"), "method": "joint", "tails": 1}, "unsafe"),
    "stratum by stratum": ({**scene("unsafe"), "method": "stratified"}, "unsafe"),
    "Neyman-Pearson": ({**scene("unsafe"), "method": "neyman_pearson"}, "unsafe"),
    "absorbing, fixed": ({**scene("unsafe"), "token_kernel": "absorbing", "stop": "fixed"}, "unsafe"),
    "tabular, unsafe": ({"model": "census", "fields": {"work": "full", "home": "own", "income": 2.0}}, "unsafe"),
    "tabular, safe": ({"model": "census", "fields": {"work": "none", "home": "rent", "income": -2.0}}, "safe"),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_the_service_certifies_is_verified_offline_and_by_the_service(client: Client, name: str) -> None:
    asked, verdict = ASKED[name]
    certificate = client.certify(**{"max_draws": 120, **asked}).wait(PATIENCE_S)
    assert certificate.verdict == verdict
    plain = certificate.model_dump(mode="json")
    assert not [check for check in (*verify(plain), *check_signature(plain, client.keys())) if not check.ok]
    assert client.verify(certificate).valid


def test_an_altered_certificate_is_refused_by_the_service_and_offline(client: Client) -> None:
    certificate = client.certify(**scene("unsafe"), target=(2, 0.25)).wait(PATIENCE_S)
    better = certificate.model_copy(update={"tau": certificate.tau / 2})
    assert not client.verify(better).valid
    assert {check.field for check in verify(better.model_dump(mode="json")) if not check.ok} >= {"tau"}


def test_the_service_signs_with_the_key_it_publishes(client: Client) -> None:
    certificate: Certificate = client.certify(**scene("safe"), target=(0, 0.0)).wait(PATIENCE_S)
    assert certificate.signature is not None
    assert certificate.signature.kid == SigningKey.from_text(SIGNING_KEY).kid
    assert certificate.signature.kid in {key.kid for key in client.keys().keys}


ENDED: dict[str, tuple[dict[str, Any], str]] = {
    "a target": ({"target": (1, 0.25)}, "target"),
    "a wide tolerance": ({"tolerance": 0.5}, "tolerance"),
    "no tolerance": ({"tolerance": 0.0, "max_draws": 50}, "draws_spent"),
    "a fixed number": ({"stop": "fixed", "max_draws": 50}, "draws_spent"),
    "the other verdict alone": ({"verdict": "safe", "max_draws": 500}, "not_certifiable"),
}


@pytest.mark.parametrize("name", ENDED)
def test_sampling_ends_for_the_reason_that_was_asked_for(client: Client, name: str) -> None:
    asked, reason = ENDED[name]
    evidence = client.certify(**{"max_draws": 400, **scene("unsafe"), **asked}).wait(PATIENCE_S).evidence
    assert evidence.stopped == reason
    assert evidence.draws == 50 if reason == "draws_spent" else evidence.draws < 400
    assert evidence.passes == evidence.draws * evidence.tails * len(evidence.cells)


def test_a_decision_takes_a_handful_of_draws(client: Client) -> None:
    certificate = client.certify(**scene("unsafe"), target=(1, 0.25), tau=0.01).wait(PATIENCE_S)
    assert certificate.target is not None
    assert certificate.target.verdict == "unsafe"
    assert certificate.evidence.draws <= 8


async def test_the_asynchronous_client_follows_certifies_and_checks(client: Client) -> None:
    async with AsyncClient(client.url) as other:
        job = await other.certify(**scene("unsafe"), target=(2, 0.25))
        draws = [progress.draws async for progress in job]
        certificate = await job.wait(600)
        assert (await other.verify(certificate)).valid
        keys = await other.keys()
    assert draws == sorted(draws)
    assert draws[-1] == certificate.evidence.draws
    assert verify_here(certificate, keys).valid
