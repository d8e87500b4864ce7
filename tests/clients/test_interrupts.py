"""Ctrl-C, and a service that stops or hangs: no traceback, no long wait, and a word on what becomes of the job."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from holdfast_client import (
    AsyncCertification,
    AsyncClient,
    Certificate,
    Certification,
    Client,
    ConnectionFailedError,
    Progress,
    ServiceStoppedError,
)
from holdfast_client.events import Following
from tests.clients.commands import interrupted, started
from tests.clients.gateway import Gateway
from tests.waiting import PATIENCE_S


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
        (["embed"], "interrupted; the few draws that were asked for go on"),
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
            out, messages = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (130, "")
    assert told in messages
    assert "Traceback" not in messages


def test_ctrl_c_when_the_service_has_gone_says_that_the_job_could_not_be_cancelled(
    gateway: Gateway, picture: str
) -> None:
    argv = ["certify", "--text", "t", "--image", picture, "--url", gateway.url]
    job_id, out, messages = interrupted(argv, gateway.vanish)
    assert out == ""
    assert f"interrupted; {job_id} could not be cancelled: no service answers at {gateway.url}" in messages


def test_cancelling_in_haste_asks_once_and_gives_up_on_a_service_that_hangs(silent: socket.socket) -> None:
    with Client(url_of(silent), timeout_s=3600.0) as client, pytest.raises(ConnectionFailedError, match="ReadTimeout"):
        client.certification("cert").cancel(timeout_s=0.2)
    silent.settimeout(0)
    silent.accept()[0].close()
    with pytest.raises(BlockingIOError):  # it was asked once
        silent.accept()


@pytest.mark.parametrize("options", [[], ["--no-progress"]])
def test_a_service_that_stops_tells_the_command_that_follows_that_the_job_is_lost(
    gateway: Gateway, picture: str, options: list[str]
) -> None:
    argv = ["certify", "--text", "t", "--image", picture, "--url", gateway.url, *options]
    with started(argv) as process:
        assert process.stderr is not None
        job_id = process.stderr.readline().split()[0]
        gateway.stop()
        out, messages = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (1, "")
    lost = f"error: the service has stopped, and {job_id} is lost with its in-process queue; start it, and submit the"
    assert messages == f"{lost} input again\n"


def test_a_service_that_vanishes_leaves_a_word_on_where_the_job_goes_on(gateway: Gateway, picture: str) -> None:
    with started(["certify", "--text", "t", "--image", picture, "--url", gateway.url]) as process:
        assert process.stderr is not None
        job_id = process.stderr.readline().split()[0]
        gateway.vanish()
        _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert messages.startswith("error: no service answers at")
    assert f"\n{job_id} goes on if the service's queue is in Redis; without one, it is lost\n" in messages


def follow(job: Certification[Certificate], seen: SimpleQueue[Progress]) -> None:
    for progress in job:
        seen.put(progress)


async def test_the_sdk_raises_that_the_service_has_stopped_with_and_without_await(
    gateway: Gateway, image: bytes
) -> None:
    seen: SimpleQueue[Progress] = SimpleQueue()

    async def follow_with_await(job: AsyncCertification[Certificate]) -> None:
        async for progress in job:
            seen.put(progress)

    async with AsyncClient(gateway.url) as one:
        job = await one.certify(text="t", image=image)
        with Client(gateway.url) as other:
            tasks = [
                asyncio.create_task(follow_with_await(job)),
                asyncio.create_task(asyncio.to_thread(follow, other.certification(job.id), seen)),
            ]
            await asyncio.to_thread(gateway.publish, job.id, 10)
            for _ in tasks:
                await asyncio.to_thread(seen.get, timeout=PATIENCE_S)
            await asyncio.to_thread(gateway.stop)
            for task in tasks:
                with pytest.raises(ServiceStoppedError, match=f"{job.id} is lost"):
                    await task


def test_a_job_that_outlasts_its_service_is_followed_further() -> None:
    following = Following()
    assert [following.read(line) for line in ("event: closing", 'data: {"id": "cert", "lost": false}', "")] == [
        None
    ] * 3
    lines = ("event: progress", "data: {}", "id: 7", "")
    assert [event.name for line in lines if (event := following.read(line)) is not None] == ["progress"]
    assert following.headers()["Last-Event-ID"] == "7"
