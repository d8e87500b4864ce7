"""The command line against the real gateway."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.requests import TextThreatKind
from holdfast_client.cli import main
from tests.clients.certificates import changed
from tests.clients.commands import interrupted, submitted
from tests.clients.gateway import Gateway
from tests.waiting import PATIENCE_S

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def asked(gateway: Gateway, image: bytes, tmp_path: Path) -> list[str]:
    (tmp_path / "image.png").write_bytes(image)
    return ["certify", "--url", gateway.url, "--text", "what you see", "--image", str(tmp_path / "image.png")]


def python(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)


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
    job_id, out, messages = interrupted(asked)
    assert out == ""
    assert f"{job_id} is cancelled" in messages
    assert gateway.state(job_id) == "cancelled"


def test_a_refusal_shows_title_and_fields_and_fails(asked: list[str], capsys: Capture) -> None:
    assert main([*asked, "--slots", "9"]) == 1
    out, messages = capsys.readouterr()
    assert out == ""
    assert "A value cannot be accepted" in messages
    assert "threat.text.slots: slots=9 must be at most 8" in messages


def test_a_decision_query_gets_its_answer_in_the_first_line(
    gateway: Gateway, asked: list[str], certificate: Certificate, capsys: Capture
) -> None:
    target = {"tokens": 2, "epsilon": 0.5, "verdict": "unsafe"}
    with gateway.finishing_the_next_job(changed(certificate, target=target)):
        assert main([*asked, "--target", "2,0.5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Yes: unsafe is certified against 2 tokens and image radius 0.5\n")


def test_the_options_are_asked_for_as_they_are_given(gateway: Gateway, asked: list[str], capsys: Capture) -> None:
    options = ["--threat", "l0", "--max-tokens", "2", "--image-threat", "none", "--method", "joint"]
    more = ["--scope", "shared", "--verdict", "safe", "--max-draws", "60", "--tails", "2"]
    spec = gateway.spec(submitted([*asked, *options, *more]))
    assert (spec.text, spec.max_tokens, spec.sigma, spec.method) == ("l0", 2, 0.0, "joint")
    assert (spec.scope, spec.verdict, spec.max_draws, spec.tails) == ("shared", "safe", 60, 2)


def test_appended_characters_are_asked_for_by_their_number(gateway: Gateway, asked: list[str]) -> None:
    spec = gateway.spec(submitted([*asked, "--threat", "append", "--max-characters", "12"]))
    assert (spec.text, spec.max_tokens, spec.verdict, spec.draw_passes) == ("append", 12, "unsafe", 1)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["--max-characters", "3"], "max_characters belongs to append"),
        (["--threat", "append", "--max-tokens", "3"], "give max_characters instead"),
        (["--threat", "append", "--verdict", "safe"], "certifies Unsafe alone"),
        (["--method", "erase_and_check"], "ask for threat.text.kind=append"),
    ],
)
def test_what_does_not_belong_together_is_refused_with_the_remedy(
    asked: list[str], options: list[str], remedy: str, capsys: Capture
) -> None:
    assert main([*asked, *options]) == 1
    assert remedy in " ".join(capsys.readouterr().err.split())


def test_a_tabular_input_comes_from_a_file(gateway: Gateway, tmp_path: Path) -> None:
    fields = {"age": 41, "sex": "f", "city": "Rome"}
    (tmp_path / "person.json").write_text(json.dumps(fields))
    argv = ["certify", "--url", gateway.url, "--model", "tabular-guard", "--fields", str(tmp_path / "person.json")]
    assert gateway.spec(submitted(argv)).kind == "tabular"


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000])
def test_a_fields_file_that_is_no_object_is_an_error_that_shows_one(
    content: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "person.json").write_text(content)
    assert main(["certify", "--fields", str(tmp_path / "person.json")]) == 1
    assert 'such as {"age": 41, "city": "Rome"}' in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--image", "--fields"])
def test_a_file_that_is_not_there_is_an_error_with_its_remedy(option: str, capsys: Capture) -> None:
    given = ["--text", "t"] if option == "--image" else []
    assert main(["certify", *given, option, "nowhere"]) == 1
    assert f"{option} cannot be read (No such file or directory); give" in capsys.readouterr().err


def test_a_service_that_is_not_there_is_an_error_with_its_remedy(capsys: Capture) -> None:
    assert main(["models", "--url", "http://127.0.0.1:9"]) == 1
    assert "start one with `holdfast serve`" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["models", "--epsilons", "1"], ["verify"]])
def test_wrong_usage_exits_with_two(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(argv)
    assert exited.value.code == 2


def test_whether_a_text_alone_can_be_certified_is_left_to_the_service(gateway: Gateway, capsys: Capture) -> None:
    assert main(["certify", "--url", gateway.url, "--text", "t", "--image-threat", "none"]) == 1
    out, messages = capsys.readouterr()
    assert out == ""
    assert messages.startswith("error: A value cannot be accepted\n")
    assert "image" in messages


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ([], "give --text and --image, or --fields"),
        (["--text", "t"], "give --text and --image, or --fields"),
        (["--text", "t", "--fields", "f.json"], "drop --text, --image and --suffix"),
        (["--epsilons", "0;1"], "such as 0,0.25,0.5"),
        (["--target", "3"], "such as 3,0.5"),
        (["--threat", "all"], "choose from"),
    ],
)
def test_wrong_options_of_certify_exit_with_two_and_the_remedy(
    options: list[str], remedy: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["certify", *options])
    assert exited.value.code == 2
    assert remedy in capsys.readouterr().err


def test_the_help_of_certify_shows_every_way_to_ask(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["certify", "--help"])
    out = capsys.readouterr().out
    for example in ("--target 3,0.5", "--threat none", "--image-threat none", "--threat l0", "--fields person.json"):
        assert f"{example}\n" in out or f"{example} " in out
    assert "--threat append --max-characters 20\n" in out


def test_the_help_of_certify_teaches_what_each_threat_covers_and_what_it_does_not(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["certify", "--help"])
    out = capsys.readouterr().out
    taught = [line.split()[0] for line in out.splitlines() if re.match(r"  (?:suffix|append|l0|none)   ", line)]
    assert sorted(taught) == sorted(get_args(TextThreatKind))
    told = " ".join(out.split())
    for limit in (
        "not glued to the text",
        "nothing is rewritten, inserted",
        "Unsafe alone",
        "the guard's alphabet alone",
    ):
        assert limit in told


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


@pytest.fixture
def more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another part, with a command of its own and one of `models`; both return how many arguments they got."""
    (tmp_path / "more-1.dist-info").mkdir()
    (tmp_path / "more-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: more\nVersion: 1\n")
    registered = "[holdfast.commands]\ncount = more:count\n[holdfast.models]\ncount = more:count\nlost = absent:lost\n"
    (tmp_path / "more-1.dist-info" / "entry_points.txt").write_text(registered)
    (tmp_path / "more.py").write_text("def count(argv):\n    return len(argv)\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("more")
@pytest.mark.parametrize("command", [["count"], ["models", "count"]])
def test_another_parts_command_gets_the_arguments_and_gives_the_status(command: list[str]) -> None:
    assert main([*command, "--help", "x", "--url"]) == 3


@pytest.mark.usefixtures("more")
def test_a_command_of_models_without_its_part_says_what_it_needs(capsys: Capture) -> None:
    assert main(["models", "lost"]) == 1
    assert capsys.readouterr().err.startswith("holdfast models lost needs a package that is not installed")


@pytest.mark.parametrize("word", ["nonsense", "count"])
def test_an_unknown_word_after_models_is_wrong_usage(word: str) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["models", word])
    assert exited.value.code == 2


def test_the_help_of_models_names_what_examines_models_here(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["models", "--help"])
    out = capsys.readouterr().out
    assert all(f"holdfast models {word}" in out for word in ("add", "list", "check"))


def test_the_command_line_starts_without_the_heavy_parts() -> None:
    heavy = {
        "cryptography",
        "holdfast.certificates",
        "holdfast.queue",
        "holdfast.signing",
        "holdfast_service",
        "holdfast_worker",
        "numpy",
        "redis",
        "torch",
    }
    run = python(f"import sys, holdfast_client.cli; sys.exit(repr({heavy} & set(sys.modules)))")
    assert run.stderr.strip() == "set()"
