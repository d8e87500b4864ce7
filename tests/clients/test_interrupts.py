"""Ctrl-C, and a service that stops or hangs: no traceback, no long wait, and a word on what becomes of the job."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_client import Client, ConnectionFailedError
from tests.clients.commands import ENDS_WITHIN_S, interrupted, started
from tests.clients.gateway import Gateway


@pytest.fixture
def picture(image: bytes, tmp_path: Path) -> str:
    (tmp_path / "image.png").write_bytes(image)
    return str(tmp_path / "image.png")


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def url_of(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["certify", "--text", "t", "--image"], "interrupted before the service answered; if it took the input"),
        (["certify-features"], "interrupted before the service answered; if it took the input"),
        (["embed"], "interrupted; the few passes that were asked for go on"),
    ],
)
def test_ctrl_c_before_the_service_has_answered_says_that_it_may_have_taken_the_input(
    silent: socket.socket, picture: str, command: list[str], told: str
) -> None:
    with started([*command, picture, "--url", url_of(silent)]) as process:
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            out, messages = process.communicate(timeout=ENDS_WITHIN_S)
    assert (process.returncode, out) == (130, "")
    assert told in messages
    assert "Traceback" not in messages


def test_ctrl_c_when_the_service_has_gone_says_that_the_job_could_not_be_cancelled(
    gateway: Gateway, picture: str
) -> None:
    argv = ["certify", "--text", "t", "--image", picture, "--url", gateway.url]
    job_id, out, messages = interrupted(argv, gateway.stop)
    assert out == ""
    assert f"interrupted; {job_id} could not be cancelled: no service answers at {gateway.url}" in messages


def test_cancelling_in_haste_asks_once_and_gives_up_on_a_service_that_hangs(silent: socket.socket) -> None:
    with Client(url_of(silent), timeout_s=3600.0) as client, pytest.raises(ConnectionFailedError, match="ReadTimeout"):
        client.certification("cert").cancel(timeout_s=0.2)
    silent.settimeout(0)
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):  # it was asked once
        silent.accept()
