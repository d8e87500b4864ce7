"""The command line against the real gateway."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.contract.certificates import Certificate
from holdfast_client.cli import main
from tests.clients.gateway import Gateway

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def asked(gateway: Gateway, image: bytes, tmp_path: Path) -> list[str]:
    (tmp_path / "image.png").write_bytes(image)
    return ["certify", "--url", gateway.url, "--text", "what you see", "--image", str(tmp_path / "image.png")]


def python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_json_is_the_certificate_and_nothing_else(
    gateway: Gateway, asked: list[str], certificate: Certificate, capsys: Capture
) -> None:
    with gateway.finishing_the_next_job(certificate):
        assert main([*asked, "--json"]) == 0
    printed = Certificate.model_validate_json(capsys.readouterr().out)
    assert printed == certificate.model_copy(update={"id": printed.id})


@pytest.mark.parametrize("options", [[], ["--no-progress"]])
def test_certify_shows_verdict_and_frontier_with_radii_cut(
    gateway: Gateway, asked: list[str], certificate: Certificate, capsys: Capture, options: list[str]
) -> None:
    with gateway.finishing_the_next_job(certificate):
        assert main([*asked, *options]) == 0
    out = capsys.readouterr().out
    assert "unsafe: certified against up to 2 of 3 tokens" in out
    assert " 0.987 " in out
    assert "0.988" not in out


def test_ctrl_c_cancels_the_certification_and_says_so(gateway: Gateway, asked: list[str]) -> None:
    command = [sys.executable, "-m", "holdfast_client", *asked]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        job_id = process.stderr.readline().split()[0]
        process.send_signal(signal.SIGINT)
        out, messages = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert f"{job_id} is cancelled" in messages
    assert gateway.state(job_id) == "cancelled"


def test_a_refusal_shows_title_and_fields_and_fails(asked: list[str], capsys: Capture) -> None:
    assert main([*asked, "--slots", "9"]) == 1
    out, messages = capsys.readouterr()
    assert out == ""
    assert "A value is out of range" in messages
    assert "threat.text.slots: slots=9 must be at most 8" in messages


def test_an_image_that_is_not_there_is_an_error_with_its_remedy(capsys: Capture) -> None:
    assert main(["certify", "--text", "t", "--image", "nowhere.png"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_an_error_with_its_remedy(capsys: Capture) -> None:
    assert main(["models", "--url", "http://127.0.0.1:9"]) == 1
    assert "start one with `holdfast serve`" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["certify"], ["nonsense"], ["models", "--epsilons", "1"]])
def test_wrong_usage_exits_with_two(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(argv)
    assert exited.value.code == 2


def test_epsilons_are_numbers_with_commas(asked: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([*asked, "--epsilons", "0;1"])
    assert "such as 0,0.25,0.5" in capsys.readouterr().err


def test_models_are_listed(gateway: Gateway, capsys: Capture) -> None:
    assert main(["models", "--url", gateway.url]) == 0
    assert f"reference-guard: sha256:{'0' * 64}" in capsys.readouterr().out.replace("\n", "")


def test_help_lists_serve_and_the_version_is_told(capsys: Capture) -> None:
    for option in ("--help", "--version"):
        with pytest.raises(SystemExit) as exited:
            main([option])
        assert exited.value.code == 0
    out = capsys.readouterr().out
    assert "serve      " in out
    assert "holdfast 0." in out


def test_a_command_without_its_extra_names_the_extra() -> None:
    run = python(
        "import sys; sys.modules['redis'] = None\nfrom holdfast_client.cli import main\nsys.exit(main(['serve']))"
    )
    assert run.returncode == 1
    assert run.stderr.startswith("holdfast serve needs the service extra: pip install 'holdfast[service,worker]'\n")
    assert "Traceback" not in run.stderr


def test_another_parts_command_gets_the_arguments_and_gives_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "more-1.dist-info").mkdir()
    (tmp_path / "more-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1\n")
    (tmp_path / "more-1.dist-info" / "entry_points.txt").write_text("[holdfast.commands]\ncount = more:count\n")
    (tmp_path / "more.py").write_text("def count(argv):\n    return len(argv)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["count", "--help", "x", "--url"]) == 3


def test_the_command_line_starts_without_the_heavy_parts() -> None:
    heavy = {
        "holdfast.certificates",
        "holdfast.queue",
        "holdfast_service",
        "holdfast_worker",
        "numpy",
        "redis",
        "torch",
    }
    run = python(f"import sys, holdfast_client.cli; sys.exit(repr({heavy} & set(sys.modules)))")
    assert run.stderr.strip() == "set()"
