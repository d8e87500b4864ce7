"""A text without an image from end to end: certified, shown, verified here and there, and replayed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.certificates import verify
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.problems import InvalidValueError
from holdfast_client import Client
from tests.system.processes import ENVIRONMENT, begin, until_ready
from tests.waiting import free_port

TEXT = "We plan to use a torch right here for a minute."
TOML = '[served.reference-guard]\ntext_alone = true\n[served.shipped]\nfolder = "reference-guard"\n'
HOLDFAST = str(Path(sys.executable).with_name("holdfast"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A service of the shipped guard, as it is and told to answer texts alone."""
    folder, port = tmp_path_factory.mktemp("service"), free_port()
    (folder / "holdfast.toml").write_text(f'models = ["reference-guard", "shipped"]\n{TOML}')
    service = begin(["holdfast", "serve", "--port", str(port)], folder / "log")
    try:
        with Client(f"http://127.0.0.1:{port}") as found:
            until_ready(found, service)
            yield found
    finally:
        service.stop()


def run(folder: Path, *command: str, url: str = "") -> subprocess.CompletedProcess[str]:
    env = {**ENVIRONMENT, "HOLDFAST_URL": url}
    return subprocess.run([HOLDFAST, *command], cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("threat", ["suffix", "l0"])
def test_a_text_alone_is_certified_and_verified_and_replayed(client: Client, tmp_path: Path, threat: str) -> None:
    asked = ["--threat", threat, "--image-threat", "none", "--max-draws", "60", "--beta", "0.5", "--tau", "0.3"]
    done = run(tmp_path, "certify", "--text", TEXT, *asked, "--json", url=client.url)
    assert done.returncode == 0, done.stderr
    (tmp_path / "cert.json").write_text(done.stdout)
    certificate = Certificate.model_validate_json(done.stdout)
    space = certificate.space
    assert (space.input_height, space.input_width, space.native_operator_norm) == (None, None, None)
    assert any("the guard answered the text alone" in line for line in certificate.notice)
    assert not [check for check in verify(json.loads(done.stdout)) if not check.ok]
    assert client.verify(certificate).valid
    (tmp_path / "holdfast.toml").write_text(TOML)
    replayed = run(tmp_path, "replay", "cert.json", "--text", TEXT, "--share", "1", "--json")
    found = json.loads(replayed.stdout)
    assert found["differing"] == 0, replayed.stderr
    assert sum(block["passes"] for block in found["compared"]) == certificate.evidence.passes > 0


def test_a_text_alone_is_shown_without_a_word_of_an_image(client: Client, tmp_path: Path) -> None:
    done = run(tmp_path, "certify", "--text", TEXT, "--image-threat", "none", "--target", "1,0", url=client.url)
    assert done.returncode == 0, done.stderr
    assert "None" not in done.stdout
    assert "the text alone" in done.stdout


def test_the_shipped_guard_does_not_claim_to_answer_a_text_alone(client: Client) -> None:
    with pytest.raises(InvalidValueError, match="model shipped does not answer a text without an image; give one"):
        client.certify(text=TEXT, model="shipped", image_threat="none")


def test_replay_asks_for_what_was_certified(client: Client, tmp_path: Path) -> None:
    alone = client.certify(text=TEXT, image_threat="none", target=(0, 0.0)).wait(120)
    (tmp_path / "cert.json").write_text(alone.model_dump_json())
    (tmp_path / "holdfast.toml").write_text(TOML)
    image = str(Path(__file__).parents[2] / "examples/unsafe.png")
    done = run(tmp_path, "replay", "cert.json", "--text", TEXT, "--image", image)
    assert done.returncode == 1
    assert "error: the certificate is of a text alone; drop --image" in done.stderr
