"""What the documentation tells people to type works: commands are run or parsed, or are targets that CI runs."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from holdfast_client.service import DEFAULT_URL
from holdfast_lab.cli import parser
from tests.system.processes import ENVIRONMENT, ROOT, Running, begin
from tests.waiting import PATIENCE_S, free_port

README = (ROOT / "README.md").read_text("utf-8")
FEATURES = (ROOT / "docs/features.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


pytestmark = pytest.mark.timeout(1800)  # on a busy machine, certifying takes minutes


@dataclass(frozen=True)
class Service:
    """A running service: what it said, and the environment in which its clients are typed."""

    said: str
    environment: dict[str, str]


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str = README) -> list[str]:
    joined = "\n".join(blocks("console", page)).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in joined.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """What `make run` leaves running, on a port of its own, and the environment of who types the commands then."""
    port, log = free_port(), tmp_path_factory.mktemp("docs") / "log"
    running = begin(["python", str(ROOT / "examples/quickstart.py")], log, HOLDFAST_PORT=str(port))
    try:
        yield Service(
            until_it_says(running, "until Ctrl-C"), {**ENVIRONMENT, "HOLDFAST_URL": f"http://127.0.0.1:{port}"}
        )
    finally:
        assert running.stop(signal.SIGTERM) == 128 + signal.SIGTERM, log.read_text("utf-8")


def until_it_says(running: Running, words: str, seconds: float = PATIENCE_S) -> str:
    """Its output up to the end, which is waited for until the words and what comes with them are there."""
    deadline = time.monotonic() + seconds
    while words not in (said := running.log.read_text("utf-8")):
        assert running.process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)
    return said


def typed(script: str, service: Service, folder: Path) -> None:
    """Types the commands one after the other, as in the repository's root; the first that fails ends it."""
    for name, here in (("examples", ROOT / "examples"), (".venv", Path(sys.prefix))):
        (folder / name).symlink_to(here)
    shell = ["sh", "-ec", script]
    answer = subprocess.run(shell, cwd=folder, env=service.environment, capture_output=True, text=True)
    assert answer.returncode == 0, f"{script}\n{answer.stdout}\n{answer.stderr}"


def test_every_make_command_in_the_readme_is_a_target() -> None:
    targets = [shlex.split(command)[1] for command in commands() if command.startswith("make ")]
    assert {"run", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) for target in targets)


def test_make_run_starts_what_these_tests_start_on_the_port_that_clients_ask() -> None:
    outside = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "ONCE")}
    command = ["make", "-n", "run"]
    run = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert shlex.split(lines[-1]) == [".venv/bin/python", "examples/quickstart.py"]
    quickstart = (ROOT / "examples/quickstart.py").read_text("utf-8")
    assert f"DEFAULT_PORT = {httpx.URL(DEFAULT_URL).port}\n" in quickstart
    assert f"at {DEFAULT_URL} " in README


def test_the_command_that_make_run_prints_works_as_it_is(service: Service, tmp_path: Path) -> None:
    (command,) = (line for line in service.said.splitlines() if " certify --text " in line)
    typed(command.strip(), service, tmp_path)


@pytest.mark.parametrize(
    ("page", "told"),
    [(README, {"certify", "keys", "verify", "certify-features", "embed"}), (FEATURES, {"certify-features", "embed"})],
    ids=["README", "features"],
)
def test_every_command_of_a_client_runs_as_it_is_printed(
    service: Service, tmp_path: Path, page: str, told: set[str]
) -> None:
    lines = [command for command in commands(page) if not command.startswith("make ")]
    assert told <= {line.split()[1] for line in lines if line.startswith("holdfast ")}
    activate = [] if page == README else [". .venv/bin/activate"]  # the README says it itself
    typed("\n".join([*activate, *lines]), service, tmp_path)


def test_the_python_examples_in_the_readme_run(service: Service, tmp_path: Path) -> None:
    assert blocks("python")
    for number, program in enumerate(blocks("python")):
        (tmp_path / f"{number}.py").write_text(program)
    typed(". .venv/bin/activate\nfor program in *.py; do python $program; done", service, tmp_path)


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 150
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_changelog_names_this_version() -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert f"## [{version.group(1)}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_command_of_the_lab_is_one() -> None:
    lines = "".join(blocks("sh", FEATURES)).splitlines()
    assert {shlex.split(line)[1] for line in lines} >= {"train-head", "train-booster", "evaluate-booster"}
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "holdfast-lab"
        assert parser().parse_args(arguments).run
