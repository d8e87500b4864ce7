"""The main job end to end: a real text and image in, one certificate out, however the service is spread."""

import json
import signal
from typing import Any

import pytest

from holdfast.certificates import verify
from holdfast.contract.guard.certificates import Certificate
from holdfast_client import Client
from tests.system.conftest import Start
from tests.system.processes import ROOT, Running, begin, compose_command, until_ready
from tests.waiting import PATIENCE_S, free_port

EXAMPLES = {example["name"]: example for example in json.loads((ROOT / "examples/examples.json").read_text())}
DRAWS = 150


def certify(client: Client, expected: str = "unsafe", **options: Any) -> Certificate:
    example = EXAMPLES[expected]
    image = ROOT / "examples" / example["image"]
    return client.certify(text=example["text"], image=image, max_draws=DRAWS, **options).wait(PATIENCE_S)


def same(certificate: Certificate) -> dict[str, Any]:
    """What follows from the draws: not who asked when, and after how many other questions."""
    said = certificate.model_dump(mode="json", exclude={"id", "created_at", "finished_at", "questions_asked"})
    return said | {"notice": [line for line in said["notice"] if not line.startswith("This client has asked")]}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The certificate of the Unsafe example from the embedded service."""
    port = free_port()
    service = begin(["holdfast", "serve", "--port", str(port)], tmp_path_factory.mktemp("embedded") / "log")
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            until_ready(client, service)
            certificate = certify(client)
    finally:
        code = service.stop()
    assert code == 0
    return certificate


def distributed(start: Start, redis_url: str, workers: int) -> tuple[Client, list[Running], list[Running]]:
    port = free_port()
    where = {"HOLDFAST_REDIS_URL": redis_url, "HOLDFAST_PORT": str(port)}
    control = [start(compose_command(role), **where) for role in ("gateway", "certifier")]
    crew = [start(compose_command("worker"), **where) for _ in range(workers)]
    client = Client(f"http://127.0.0.1:{port}")
    until_ready(client, control[0], workers=workers)
    return client, control, crew


def test_the_embedded_service_certifies_the_unsafe_example(embedded: Certificate) -> None:
    assert embedded.verdict == "unsafe"
    assert embedded.max_tokens is not None
    assert embedded.max_tokens >= 4
    assert embedded.evidence.draws <= DRAWS
    assert not [check for check in verify(embedded.model_dump(mode="json")) if not check.ok]


def test_processes_on_redis_give_the_certificate_of_the_embedded_service(
    embedded: Certificate, start: Start, redis_url: str
) -> None:
    client, control, crew = distributed(start, redis_url, workers=2)
    with client:
        assert same(certify(client)) == same(embedded)
        safe = certify(client, "safe")
    assert (safe.verdict, embedded.verdict) == ("safe", "unsafe")
    assert [process.stop() for process in (*control, *crew)] == [0, 0, 0, 0]


def test_killing_a_worker_in_the_middle_changes_nothing_but_the_time(
    embedded: Certificate, start: Start, redis_url: str
) -> None:
    client, _, crew = distributed(start, redis_url, workers=2)
    example = EXAMPLES["unsafe"]
    with client:
        job = client.certify(text=example["text"], image=ROOT / "examples" / example["image"], max_draws=DRAWS)
        next(progress for progress in job if progress.draws > 0)
        crew[0].process.send_signal(signal.SIGKILL)
        assert same(job.wait(PATIENCE_S)) == same(embedded)
    assert crew[1].process.poll() is None
