"""The other engine: a real vLLM server on the loopback, asked over HTTP.

It is what `vllm serve` runs; that command itself looks for a distribution of the name vllm, which the CPU build is not.
"""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from holdfast_worker.models import registry
from holdfast_worker.models.errors import EngineLostError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.vllm.guard import VllmGuard
from tests.vllm.checkpoints import PACKAGED
from tests.vllm.test_agreement import TEXTS, draws_of
from tests.waiting import free_port

ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}
FLAGS = ("--enable-prompt-embeds", "--enable-mm-embeds", "--enforce-eager")
OPTIONS = {
    "--dtype": "float32",
    "--max-model-len": "512",
    "--block-size": "32",
    "--kv-cache-memory-bytes": str(128 << 20),
    "--limit-mm-per-prompt": '{"image": 0, "video": 0}',
    "--mm-processor-kwargs": '{"num_image_tokens": 16}',
    "--host": "127.0.0.1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server's address and its process."""
    port = free_port()
    command = [
        sys.executable,
        *("-m", "vllm.entrypoints.openai.api_server", "--model", str(PACKAGED)),
        *FLAGS,
        *itertools.chain(*OPTIONS.items()),
        *("--port", str(port)),
    ]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as file:
        own: dict[str, Any] = {"stdout": file, "stderr": subprocess.STDOUT, "env": os.environ | ENVIRONMENT}
        running = subprocess.Popen(command, start_new_session=True, **own)
    yield f"http://127.0.0.1:{port}", running
    os.killpg(running.pid, signal.SIGKILL)  # its engine would outlive it
    running.wait()


@pytest.fixture(scope="module")
def remote(server: tuple[str, subprocess.Popen[bytes]]) -> Iterator[VllmGuard]:
    """The guard that asks this server; loading it waits for the server to listen."""
    loaded = registry.load("reference-guard", {"device": "cpu", "engine": "vllm", "vllm_url": server[0]})
    assert isinstance(loaded, VllmGuard)
    yield loaded
    loaded.engine.stop()


def test_a_server_answers_as_transformers_does(remote: VllmGuard, plain: LlavaGuard) -> None:
    batch = [draws_of(plain, TEXTS[0], 24), draws_of(plain, TEXTS[1], 5, sigma=0.0, slots=2)]
    for wanted, found in zip(plain.margins(batch), remote.margins(batch), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_servers_guard_is_another_one_by_name(remote: VllmGuard, guard: VllmGuard, plain: LlavaGuard) -> None:
    assert len({remote.fingerprint, guard.fingerprint, plain.fingerprint}) == 3


def test_a_server_that_goes_is_lost_until_it_answers_again(
    server: tuple[str, subprocess.Popen[bytes]], remote: VllmGuard, plain: LlavaGuard
) -> None:
    os.kill(server[1].pid, signal.SIGKILL)
    with pytest.raises(EngineLostError, match="server is gone"):
        remote.margins([draws_of(plain, TEXTS[0], 2)])
    assert remote.engine.lost
