"""`make run` in miniature: the shipped examples on the embedded service, and nothing left behind."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, free_port

QUICKSTART = Path(__file__).parents[2] / "examples/quickstart.py"


def quickstart(folder: Path, **environment: str) -> tuple[int, str, str, int]:
    """Its exit status, output, errors and process group; the service that it starts is in the same group."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    with subprocess.Popen(
        [sys.executable, str(QUICKSTART), "--once"],
        env={**mine, "OMP_NUM_THREADS": "1", "HOLDFAST_PORT": str(free_port()), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    ) as run:
        out, errors = run.communicate(timeout=PATIENCE_S)
    return run.returncode, out, errors, run.pid


def test_the_examples_come_out_as_expected_and_no_process_is_left(tmp_path: Path) -> None:
    status, out, errors, group = quickstart(tmp_path, HOLDFAST_REDIS_URL="redis://127.0.0.1:9/0")
    assert (status, errors) == (0, "")
    assert "unsafe: certified against up to" in out
    assert "abstained" in out
    assert len(re.findall(r"^Draws +[\d,]+, each in 9 cells: [\d,]+ passes \(", out, re.MULTILINE)) == 2
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_service_that_dies_fails_the_quickstart_with_the_end_of_its_log(tmp_path: Path) -> None:
    status, out, _, group = quickstart(tmp_path, HOLDFAST_MODELS='["no-such-guard"]')
    assert status == 1
    assert "the service ended with status 2" in out
    assert "no-such-guard" in out
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_port_that_is_taken_is_told_before_anything_is_loaded_with_another_to_choose(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, errors, _ = quickstart(tmp_path, HOLDFAST_PORT=str(port))
    assert (status, errors) == (1, "")
    assert out.startswith(f"error: port {port} cannot be listened on (Address already in use)")
    assert f"choose another port: HOLDFAST_PORT={port % 65535 + 1} make run" in out
    assert "Starting" not in out


@pytest.mark.parametrize("port", ["http", "0", "65536"])
def test_a_port_that_is_none_is_told_with_the_rule(tmp_path: Path, port: str) -> None:
    status, out, _, _ = quickstart(tmp_path, HOLDFAST_PORT=port)
    assert status == 1
    assert f"HOLDFAST_PORT={port} must be a port, from 1 to 65535" in out
