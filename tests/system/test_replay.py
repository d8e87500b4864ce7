"""A certificate of the running service, replayed by another process from nothing but its own words."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.contract.guard.certificates import Certificate
from holdfast_client import Client
from tests.system.processes import ENVIRONMENT, ROOT, begin, until_ready
from tests.waiting import PATIENCE_S, free_port

EXAMPLES = {example["name"]: example for example in json.loads((ROOT / "examples/examples.json").read_text())}
TEXT = EXAMPLES["unsafe"]["text"]
IMAGES = {name: ROOT / "examples" / example["image"] for name, example in EXAMPLES.items()}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The embedded service, as operators start it."""
    port = free_port()
    service = begin(["holdfast", "serve", "--port", str(port)], tmp_path_factory.mktemp("replay") / "log")
    try:
        with Client(f"http://127.0.0.1:{port}") as found:
            until_ready(found, service)
            yield found
    finally:
        service.stop()


def certify(client: Client, folder: Path, **options: Any) -> tuple[Certificate, str]:
    """A certificate of the Unsafe example, and the file that keeps it."""
    certificate = client.certify(text=TEXT, image=IMAGES["unsafe"], max_draws=100, **options).wait(PATIENCE_S)
    (folder / "cert.json").write_text(certificate.model_dump_json())
    return certificate, str(folder / "cert.json")


def replayed(*arguments: str, image: str = "unsafe") -> subprocess.CompletedProcess[str]:
    holdfast = str(Path(sys.executable).with_name("holdfast"))
    command = [holdfast, "replay", *arguments, "--text", TEXT, "--image", str(IMAGES[image])]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [{}, {"threat": "l0", "max_tokens": 2, "beta": 0.5, "tau": 0.1}])
def test_every_vote_of_a_certificate_is_found_again(client: Client, tmp_path: Path, options: dict[str, Any]) -> None:
    certificate, file = certify(client, tmp_path, **options)
    answer = replayed(file, "--share", "1", "--json")
    found = json.loads(answer.stdout)
    assert (answer.returncode, found["equal"]) == (0, True), answer.stderr
    assert found["draws"] == certificate.evidence.draws
    assert sum(block["passes"] for block in found["compared"]) == certificate.evidence.passes > 0


def test_another_image_does_not_pass_for_the_one_that_was_certified(client: Client, tmp_path: Path) -> None:
    _, file = certify(client, tmp_path)
    answer = replayed(file, image="safe")
    assert answer.returncode == 1, answer.stderr
    assert "votes differ" in answer.stdout
