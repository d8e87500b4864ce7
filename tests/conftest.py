"""What tests of several folders stand on: a real Redis, an in-process broker, one served model."""

import functools
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from holdfast.contract.models import Defaults, GuardInfo, Limits, NoiseSpace
from holdfast.queue.broker import Broker, connect
from tests.waiting import free_port, until


def pytest_configure() -> None:
    """One thread for each test process and what it starts, whose number is that of the cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if importlib.util.find_spec("hypothesis"):  # the environment of vLLM goes without
        from hypothesis import HealthCheck, settings

        settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("busy")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of this session's own; skips where none is installed, except in CI."""
    binary = shutil.which("redis-server")
    if binary is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("redis-server is not installed; install it to run the tests on a real queue")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--maxmemory-policy", "noeviction"]
    folder = tmp_path_factory.mktemp("redis")
    with subprocess.Popen([binary, *options], cwd=folder, stdout=subprocess.DEVNULL) as server:
        with redis.Redis(port=port) as client:
            until(functools.partial(_answers, client, server))
        yield f"redis://127.0.0.1:{port}"
        server.terminate()


def _answers(client: redis.Redis, server: "subprocess.Popen[bytes]") -> bool:
    assert server.poll() is None, "redis-server ended before it answered"
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of data that is not ours to publish; tests that need it are marked `data`."""
    named = os.environ.get("HOLDFAST_DATA", "")
    if not named or not Path(named).is_dir():
        pytest.fail(f"HOLDFAST_DATA={named!r} must name a folder; see tests/data/README.md for what it holds")
    return Path(named)


@pytest.fixture
def broker() -> Broker:
    """An in-process queue, empty."""
    return connect(None)


@pytest.fixture
def model() -> GuardInfo:
    """A served guard of 101 replacement tokens, so that β is at most 100/101 for the uniform kernel."""
    return GuardInfo(
        name="reference-guard",
        fingerprint="sha256:0123",
        space=NoiseSpace(channels=3, height=64, width=64),
        alphabets=(101,),
        defaults=Defaults(slots=8, beta=0.25, sigma=0.25, tau=0.01, max_draws=900),
        tie_band=0.0,
        limits=Limits(max_slots=16, max_text_bytes=2000, token_kernels=("uniform", "absorbing")),
    )
