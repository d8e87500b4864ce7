"""What the documentation tells people to type works: commands are run or parsed, or are targets that CI runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast_client import Client
from holdfast_lab.cli import parser
from tests.system.processes import ENVIRONMENT, ROOT, begin, free_port, until_ready

README = (ROOT / "README.md").read_text("utf-8")
FEATURES = (ROOT / "docs/features.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)


def commands(page: str = README) -> list[str]:
    joined = "\n".join(blocks("console", page)).replace("\\\n", " ")
    return [line.removeprefix("$ ").strip() for line in joined.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An embedded service, and the environment that points its clients to it."""
    port = free_port()
    running = begin(["holdfast", "serve", "--port", str(port)], tmp_path_factory.mktemp("docs") / "log")
    url = f"http://127.0.0.1:{port}"
    try:
        with Client(url) as client:
            until_ready(client, running)
        scripts = str(Path(sys.executable).parent)
        yield {**ENVIRONMENT, "HOLDFAST_URL": url, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    finally:
        running.stop()


def test_every_make_command_in_the_readme_is_a_target() -> None:
    targets = [shlex.split(command)[1] for command in commands() if command.startswith("make ")]
    assert {"run", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) for target in targets)


@pytest.mark.parametrize(
    ("page", "told"),
    [(README, {"certify", "keys", "verify"}), (FEATURES, {"certify-features", "embed"})],
    ids=["README", "features"],
)
def test_every_client_command_runs(service: dict[str, str], tmp_path: Path, page: str, told: set[str]) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    clients = [command for command in commands(page) if command.startswith("holdfast ")]
    assert told <= {command.split()[1] for command in clients}
    for command in clients:  # in a folder of their own, where the later ones read what the earlier ones saved
        shell = ["sh", "-c", command]
        answer = subprocess.run(shell, cwd=tmp_path, env=service, capture_output=True, text=True)
        assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"


def test_the_python_examples_in_the_readme_run(service: dict[str, str]) -> None:
    assert blocks("python")
    for program in blocks("python"):
        answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=service, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr


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
