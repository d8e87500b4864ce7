"""The embedded service from its first second to its last: loading, serving, and ending under an open stream."""

import json
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from holdfast_client import Client
from tests.system.conftest import Start
from tests.system.processes import ROOT, Running, begin

Answer = httpx.Response
CEILING_S = 240.0


@dataclass
class Life:
    """What was seen of one service."""

    loading: list[Answer] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    broken: Exception | None = None
    status: int | None = None
    log: str = ""


def until(met: Callable[[], Any], running: Running) -> Any:
    """What `met` gives once it gives something."""
    deadline = time.monotonic() + CEILING_S
    while not (found := met()):
        assert running.process.poll() is None, running.log.read_text()[-3000:]
        assert time.monotonic() < deadline, running.log.read_text()[-3000:]
        time.sleep(0.02)
    return found


def url_of(running: Running) -> str:
    """Where the service says that it listens."""
    found = until(lambda: re.search(r"listening on (http://[^\"]+)", running.log.read_text()), running)
    url: str = found.group(1)
    return url


def answered(url: str) -> Answer:
    return httpx.get(f"{url}/readyz", timeout=CEILING_S)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """A service that is asked while it loads, then interrupted while a job runs that somebody follows."""
    seen = Life()
    running = begin(["holdfast", "serve", "--port", "0"], tmp_path_factory.mktemp("life") / "log")
    try:
        url = url_of(running)
        body = {"input": {"text": "a", "image": {"data": "AA=="}}}
        seen.loading = [answered(url), httpx.post(f"{url}/v1/certifications", json=body, timeout=CEILING_S)]
        until(lambda: answered(url).is_success, running)
        with Client(url) as client:
            image = ROOT / "examples/unsafe.png"
            job = client.certify(text="a", image=image, max_draws=10**6, tolerance=0.0, stop="fixed")
        follower = threading.Thread(target=_follow, args=(f"{url}/v1/certifications/{job.id}/events", seen))
        follower.start()
        until(lambda: seen.streamed, running)
        seen.status = running.stop(signal.SIGINT)
        follower.join(CEILING_S)
    finally:
        running.process.kill()
        running.process.wait()
    seen.log = running.log.read_text()
    return seen


def _follow(url: str, seen: Life) -> None:
    try:
        with httpx.stream("GET", url, timeout=CEILING_S) as stream:
            for line in stream.iter_lines():
                seen.streamed.append(line)
    except httpx.HTTPError as error:
        seen.broken = error


def test_what_is_asked_while_models_load_is_told_so_and_when_to_ask_again(life: Life) -> None:
    assert [answer.status_code for answer in life.loading] == [503, 503]
    for answer in life.loading:
        assert answer.json()["type"] == "urn:holdfast:problem:loading"
        assert answer.json()["detail"].startswith("a worker is loading reference-")
        assert int(answer.headers["retry-after"]) > 0


def test_an_interrupt_ends_the_service_and_the_streams_of_its_followers_cleanly(life: Life) -> None:
    assert (life.status, life.broken) == (0, None)
    assert "event: progress" in life.streamed
    assert "Traceback" not in life.log


def test_every_line_of_the_log_is_json(life: Life) -> None:
    lines = [json.loads(line) for line in life.log.splitlines()]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, lines))
    assert not [line for line in lines if line["level"] == "ERROR"]
    assert "worker ready" in {line["message"] for line in lines}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_that_is_still_loading_ends_when_it_is_told_to(start: Start, number: signal.Signals) -> None:
    running = start(["holdfast", "serve", "--port", "0"])
    url = url_of(running)
    assert answered(url).json()["type"] == "urn:holdfast:problem:loading"
    assert running.stop(number) == 0
    log = running.log.read_text()
    assert "worker ready" not in log
    assert "Traceback" not in log


def test_a_model_that_cannot_be_loaded_ends_the_service_with_the_reason_in_a_line(start: Start, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "model.safetensors").touch()
    described = {"name": "mine", "kind": "encoder", "architecture": "clip", "mean": [0, 0, 0]}
    (encoder / "holdfast.json").write_text(json.dumps(described))
    (tmp_path / "holdfast.toml").write_text(f'models = ["mine"]\n[served.mine]\nfolder = "{encoder}"\n')
    running = start(["holdfast", "serve", "--port", "0"])
    assert running.process.wait(CEILING_S) == 2
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    (refusal,) = [line for line in lines if line["level"] == "ERROR"]
    assert "architecture=clip takes no layers, mean or std" in refusal["message"]
    assert "traceback" not in refusal
