"""Starts the embedded service, certifies every example and shows what was found.

Usage: `python examples/quickstart.py` stays until Ctrl-C, so that you can certify inputs of your own;
`python examples/quickstart.py --once` stops the service and exits: 0 if every verdict was the expected one.
The service listens on port 8420 of this machine, or on HOLDFAST_PORT.
"""

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console

from holdfast_client import (
    CertificationCancelledError,
    Client,
    ConnectionFailedError,
    ProblemError,
    ServiceStoppedError,
)
from holdfast_client.render import certificate_view, problem_view, terminal, watch

EXAMPLES = Path(__file__).parent / "examples.json"
DEFAULT_PORT = 8420
START_WITHIN_S = 600
STOP_WITHIN_S = 60


@dataclass(frozen=True)
class Example:
    """One input, and whether it should be certified `unsafe` or, being `safe`, not at all."""

    name: str
    text: str
    image: Path
    expected: str


class ServiceError(Exception):
    """The embedded service did not start, run or stop as it should."""


def read_examples(listing: Path) -> list[Example]:
    """The examples of a listing; image paths are relative to it."""
    return [
        Example(entry["name"], entry["text"], listing.parent / entry["image"], entry["expected"].lower())
        for entry in json.loads(listing.read_text(encoding="utf-8"))
    ]


@contextmanager
def embedded_service(console: Console) -> Iterator[tuple[Client, "subprocess.Popen[bytes]"]]:
    """Runs `holdfast serve` on a loopback port, 8420 or `HOLDFAST_PORT`, while the context is open."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "holdfast_client", "serve", "--host", "127.0.0.1", "--port", str(port)]
        environment = {name: value for name, value in os.environ.items() if name != "HOLDFAST_REDIS_URL"}
        service = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            with Client(f"http://127.0.0.1:{port}") as client:
                with console.status("Starting the service: loading the guard and running a first pass ..."):
                    wait_until_ready(client, service, log)
                yield client, service
        except BaseException:
            stop(service)
            raise
        if not stop(service):
            raise ServiceError(f"the service did not stop within {STOP_WITHIN_S} s of SIGTERM, so it was killed")


def free_port() -> int:
    """The port to serve on: where people and commands expect the service, unless the environment says otherwise.

    Raises:
        ServiceError: something listens there.
    """
    asked = os.environ.get("HOLDFAST_PORT") or str(DEFAULT_PORT)
    if not asked.isdecimal() or not 0 < int(asked) < 65536:
        raise ServiceError(f"HOLDFAST_PORT={asked} must be a port, from 1 to 65535; correct it")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(asked)))
        except OSError as error:
            raise ServiceError(
                f"port {asked} cannot be listened on ({error.strerror}), perhaps another service runs there; stop it,"
                f" or choose another port: HOLDFAST_PORT={int(asked) % 65535 + 1} make run"
            ) from None
    return int(asked)


def wait_until_ready(client: Client, service: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Returns once the service can take work.

    Raises:
        ServiceError: it died, or was not ready in time.
    """
    deadline = time.monotonic() + START_WITHIN_S
    while service.poll() is None and time.monotonic() < deadline:
        try:
            if client.ready():
                return
        except ConnectionFailedError:
            pass  # it does not listen yet
        time.sleep(0.2)
    status = service.poll()
    why = f"was not ready within {START_WITHIN_S} s" if status is None else f"ended with status {status}"
    log.seek(0)
    tail = "\n".join(log.read().decode(errors="replace").splitlines()[-20:])
    raise ServiceError(f"the service {why}; the end of its log:\n{tail}")


def stop(service: "subprocess.Popen[bytes]") -> bool:
    """Ends the service with SIGTERM; by force, and False, where it does not stop in time."""
    service.terminate()
    try:
        service.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        service.kill()
        service.wait()
        return False
    return True


def certify(client: Client, example: Example, console: Console) -> bool:
    """Asks how far one example's flag stands, and shows the certificate; whether it came out as expected.

    A safe example is not flagged, so nothing is certified of it; its Safe verdict is another question (`verdict`).
    """
    console.rule(f"{example.name}: expected {example.expected}")
    console.print(f"Text   {example.text}\nImage  {example.image.name}\n")
    try:
        certification = client.certify(text=example.text, image=example.image, verdict="unsafe")
        watch(certification, console)
        certificate = certification.wait()
    except (ProblemError, CertificationCancelledError) as error:
        console.print(problem_view(error))
        return False
    console.print(certificate_view(certificate))
    as_expected = (certificate.verdict == "unsafe") == (example.expected == "unsafe")
    if not as_expected:
        console.print(f"\nNot as expected: the verdict is {certificate.verdict}", style="bold red")
    console.print()
    return as_expected


def stay(client: Client, service: "subprocess.Popen[bytes]", example: Example, console: Console) -> None:
    """Keeps the service up until Ctrl-C."""
    console.print(
        f"The service runs at {client.url} until Ctrl-C; from another terminal:\n\n  {command(client.url, example)}\n",
        soft_wrap=True,
    )
    try:
        status = service.wait()
    except KeyboardInterrupt:
        return
    raise ServiceError(f"the service ended by itself with status {status}")


def command(url: str, example: Example) -> str:
    """What certifies the example from another terminal in this folder, whatever is on its PATH."""
    program, image = (here(path) for path in (Path(sys.executable).with_name("holdfast"), example.image))
    where = "" if url == f"http://127.0.0.1:{DEFAULT_PORT}" else f" --url {url}"
    return f"{shlex.quote(program)} certify --text {shlex.quote(example.text)} --image {shlex.quote(image)}{where}"


def here(path: Path) -> str:
    """The path as one types it in this folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def main() -> int:
    """Runs the quickstart and returns its exit status."""
    parser = argparse.ArgumentParser(description="Start the embedded service and certify the shipped examples.")
    parser.add_argument("--once", action="store_true", help="stop the service after the examples and exit")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped too
    console = terminal()
    examples = read_examples(EXAMPLES)
    try:
        with embedded_service(console) as (client, service):
            as_expected = [certify(client, example, console) for example in examples]
            if not options.once:
                stay(client, service, examples[0], console)
    except KeyboardInterrupt:
        return 130
    except (ServiceError, ServiceStoppedError, ConnectionFailedError) as error:
        console.print(problem_view(error), soft_wrap=True)
        return 1
    return 0 if all(as_expected) else 1


if __name__ == "__main__":
    sys.exit(main())
