"""What is wrong with how the service is started: one line each and exit status 2, before anything is loaded."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.roles import known_roles
from tests.system.processes import ENVIRONMENT

BROKEN = {"no folder": "/nowhere/at/all", "no checkpoint": "empty", "no weights": "pickled", "no LLaVA": "other"}


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def serve(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Starts the service there, which is to refuse, and tells of every module that it imports."""
    command = [str(Path(sys.executable).with_name("holdfast")), "serve", *arguments]
    env = {**ENVIRONMENT, "PYTHONPROFILEIMPORTTIME": "1", **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def refusal(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines it was refused with; nothing heavy was imported before."""
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "holdfast.settings" in imported
    assert not imported & {"torch", "transformers", "fastapi", "scipy"}
    assert (done.returncode, done.stdout) == (2, "")
    return [line for line in lines if not line.startswith("import time:")]


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path: Path, taken: int) -> None:
    remedy = "stop what listens there, or choose another: --port, HOLDFAST_PORT"
    told = refusal(serve(tmp_path, "--port", str(taken)))
    assert told == [f"holdfast serve: port {taken} of 127.0.0.1 is in use; {remedy}"]


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.7"])
def test_a_host_that_is_not_this_machines_is_told(tmp_path: Path, host: str) -> None:
    (told,) = refusal(serve(tmp_path, "--host", host, "--port", "0"))
    assert told.startswith(f"holdfast serve: host {host} is no address")
    assert told.endswith("; correct --host, HOLDFAST_HOST")


def test_a_misspelt_setting_is_told(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text("prot = 9000\n")
    assert refusal(serve(tmp_path)) == ["holdfast serve: holdfast.toml: prot is no setting; did you mean port?"]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    (told,) = refusal(serve(tmp_path, "--config", "nothere.toml"))
    assert told.startswith("holdfast serve: nothere.toml does not exist; ")


def test_a_file_that_is_no_toml_is_told_where(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text("port = 1\nmodels = reference-guard\n")
    (told,) = refusal(serve(tmp_path))
    assert told.startswith("holdfast serve: holdfast.toml: line 2, column 10: ")


def test_all_that_is_wrong_with_any_role_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text("linger_s = -1\nretention_s = 0\n")
    told = refusal(serve(tmp_path, HOLDFAST_PORT="high"))
    assert len(told) == 3
    assert {line.split(":")[1].strip() for line in told} == {"holdfast.toml", "HOLDFAST_PORT='high'"}


def test_a_role_of_its_own_needs_a_queue_to_share(tmp_path: Path) -> None:
    (told,) = refusal(serve(tmp_path, "--role", "worker"))
    assert told.startswith("holdfast serve: --role worker needs --redis-url")


def test_a_model_that_is_not_known_is_told_with_the_nearest_that_is(tmp_path: Path) -> None:
    (told,) = refusal(serve(tmp_path, "--port", "0", "--model", "reference-gard"))
    assert told.startswith("holdfast serve: model 'reference-gard' ")
    assert told.endswith("; did you mean reference-guard?")


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_is_no_checkpoint_is_told(tmp_path: Path, name: str) -> None:
    for folder, kind in (("empty", None), ("pickled", "llava"), ("other", "bert")):
        (tmp_path / folder).mkdir()
        if kind is not None:
            (tmp_path / folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "pickled/pytorch_model.bin").touch()
    settings = f'models = ["reference-guard", "mine"]\n[served.mine]\nfolder = "{BROKEN[name]}"\n'
    (tmp_path / "holdfast.toml").write_text(settings)
    (told,) = refusal(serve(tmp_path, "--port", "0"))
    assert told.startswith("holdfast serve: model 'mine': ")
    assert BROKEN[name] in told or "model_type='bert'" in told


def test_a_misspelt_field_of_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "holdfast.toml").write_text("[served.reference-guard]\nmax_slot = 3\n")
    (told,) = refusal(serve(tmp_path, "--port", "0"))
    assert "reference-guard" in told
    assert "max_slot" in told


def test_a_role_is_refused_without_the_libraries_of_another(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['cryptography'] = sys.modules['fastapi'] = sys.modules['uvicorn'] = None\n"
        "from holdfast_service.serve import command\n"
        "sys.exit(command(['--role', 'worker', '--redis-url', 'redis://127.0.0.1:1', '--model', 'none']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("holdfast serve: model 'none' is none that ships")


def test_help_states_the_defaults_that_are_served(tmp_path: Path) -> None:
    done = serve(tmp_path, "--help")
    words = " ".join(done.stdout.split())
    defaults = {
        name: field.default for role in known_roles().values() for name, field in role.settings.model_fields.items()
    }
    for name in ("host", "port"):
        assert f"of the gateway (default: {defaults[name]})" in words
    assert f"may be repeated (default: {', '.join(defaults['models'])})" in words
