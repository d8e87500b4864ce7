"""The service as its operators run it: real processes, started by the commands of docker-compose.yml."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from holdfast_client import Client
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
    "OMP_NUM_THREADS": "1",  # several workers share these cores
    "OMP_WAIT_POLICY": "PASSIVE",
    "HOLDFAST_ROOT_SEED": "a seed for tests",
    "HF_HUB_OFFLINE": "1",
}


@dataclass(frozen=True)
class Running:
    """One process of the service, and where its log goes."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"did not stop:\n{self.log.read_text()[-3000:]}") from None


def begin(command: list[str], log: Path, **environment: str) -> Running:
    """Starts `command` from this environment's scripts, with its output in `log`."""
    executable = str(Path(sys.executable).with_name(command[0]))
    with log.open("wb") as output:
        env = {**ENVIRONMENT, **environment}
        process = subprocess.Popen([executable, *command[1:]], env=env, stdout=output, stderr=output, cwd=log.parent)
    return Running(process, log)


def compose_command(service: str) -> list[str]:
    command: list[str] = COMPOSE[service]["command"]
    return command


def until_ready(client: Client, running: Running, *, workers: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while running.process.poll() is None and time.monotonic() < deadline:
        try:
            if client.ready() and metric(client, "holdfast_live_workers") >= workers:
                return
        except Exception as error:
            last: object = error
        else:
            last = "not ready"
        time.sleep(0.2)
    raise AssertionError(f"not ready ({last}):\n{running.log.read_text()[-3000:]}")


def metric(client: Client, name: str) -> float:
    lines = httpx.get(f"{client.url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))
