"""Settings: documented where they are defined and in the docs, read in the stated order, and refused in one line."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from holdfast.roles import known_roles, read
from holdfast.settings import ProcessSettings, StartError
from holdfast_service.settings import ServiceSettings
from holdfast_worker.settings import WorkerSettings

DOCS = (Path(__file__).parents[1] / "docs/configuration.md").read_text("utf-8")
SETTINGS: list[type[ProcessSettings]] = [ServiceSettings, WorkerSettings]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and an environment without settings."""
    for name in [name for name in os.environ if name.startswith("HOLDFAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(kind: type[ProcessSettings] = ServiceSettings, config: str | None = None) -> str:
    with pytest.raises(StartError) as refused:
        read(kind, config=config)
    return str(refused.value)


@pytest.mark.parametrize("settings", [ProcessSettings, *SETTINGS])
def test_every_setting_is_documented_with_its_meaning_and_default(settings: type[ProcessSettings]) -> None:
    for name, field in settings.model_fields.items():
        default = "none" if field.default is None else f"`{field.default}`"
        assert f"| `{name}` | {default} | {field.description} |" in DOCS


def test_every_role_of_the_service_has_its_settings() -> None:
    found = {name: role.settings for name, role in known_roles().items()}
    assert found == {"gateway": ServiceSettings, "certifier": ServiceSettings, "worker": WorkerSettings}


def test_flags_go_over_the_environment_over_the_file_over_the_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "holdfast.toml").write_text('port = 1\nhost = "h"\nretention_s = 7\n')
    monkeypatch.setenv("HOLDFAST_PORT", "2")
    monkeypatch.setenv("HOLDFAST_HOST", "env")
    settings = read(ServiceSettings, given={"host": "flag"})
    assert (settings.port, settings.host, settings.retention_s) == (2, "flag", 7)
    assert settings.max_active_jobs == ServiceSettings().max_active_jobs


def test_one_file_and_one_environment_serve_every_role(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "holdfast.toml").write_text('port = 1\nlinger_s = 0.5\n[served.m]\nfolder = "f"\n')
    monkeypatch.setenv("HOLDFAST_MAX_ACTIVE_JOBS", "3")
    monkeypatch.setenv("HOLDFAST_MODELS", '["m", "n"]')
    service, worker = read(ServiceSettings, given={"models": ["x"]}), read(WorkerSettings, given={"port": 5})
    assert (service.port, service.max_active_jobs) == (1, 3)
    assert (worker.models, worker.linger_s, worker.served) == (("m", "n"), 0.5, {"m": {"folder": "f"}})


def test_the_file_is_the_one_that_is_asked_for_then_the_environments_then_the_folders(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, port in (("holdfast", 1), ("environment", 2), ("asked", 3)):
        (folder / f"{name}.toml").write_text(f"port = {port}\n")
    ports = [read(ServiceSettings).port]
    monkeypatch.setenv("HOLDFAST_CONFIG", "environment.toml")
    ports += [read(ServiceSettings).port, read(ServiceSettings, config="asked.toml").port]
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    ports += [read(ServiceSettings).port]
    assert ports == [1, 2, 3, ServiceSettings().port]


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_name_that_is_nobodys_is_refused_with_the_nearest_that_is_somebodys(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ProcessSettings]
) -> None:
    (folder / "holdfast.toml").write_text("prot = 9000\nzzz = 1\n")
    monkeypatch.setenv("HOLDFAST_ROOT_SEAD", "a secret")
    assert refusal(kind).splitlines() == [
        "holdfast.toml: prot is no setting; did you mean port?",
        "holdfast.toml: zzz is no setting; drop or correct it",
        "HOLDFAST_ROOT_SEAD is no setting; did you mean HOLDFAST_ROOT_SEED?",
    ]


def test_environment_names_that_are_no_settings_of_ours_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOLDFAST_URL", "HOLDFAST_DATA", "HOLD", "HOLDFASTER"):
        monkeypatch.setenv(name, "x")
    assert read(ServiceSettings) == ServiceSettings()


@pytest.mark.parametrize("named", ["flag", "environment"])
def test_a_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    if named == "environment":
        monkeypatch.setenv("HOLDFAST_CONFIG", "nothere.toml")
    told = refusal(config="nothere.toml" if named == "flag" else None)
    assert told == "nothere.toml does not exist; correct the name of the settings' file, or make one there"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"port = 1\nhost = x\n", "holdfast.toml: line 2, column 8: Invalid value; "),
        (b"port = [", "holdfast.toml: end of document: Invalid value; "),
        (b"port = 1\nport = 2\n", "holdfast.toml: line 2, column 9: Cannot overwrite a value; "),
        (b'host = "\xff"', "holdfast.toml must be UTF-8; "),
    ],
)
def test_a_file_that_is_no_toml_is_told_where(folder: Path, content: bytes, told: str) -> None:
    (folder / "holdfast.toml").write_bytes(content)
    assert refusal().startswith(told)
    assert len(refusal().splitlines()) == 1


def test_a_folder_is_no_file_of_settings(folder: Path) -> None:
    assert refusal(config=str(folder)).startswith(f"{folder} cannot be read (Is a directory); ")


def test_values_out_of_range_are_a_line_each_with_the_place_they_stand_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "holdfast.toml").write_text("port = 90000\nsweep_every_s = nan\n")
    monkeypatch.setenv("HOLDFAST_RETENTION_S", "soon")
    assert sorted(refusal().splitlines()) == [
        "HOLDFAST_RETENTION_S='soon': must be a valid integer, unable to parse string as an integer; correct it",
        "holdfast.toml: port=90000: must be less than or equal to 65535; correct it",
        "holdfast.toml: sweep_every_s=nan: must be a finite number; correct it",
    ]


def test_a_list_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_MODELS", "reference-guard")
    assert refusal(WorkerSettings) == "HOLDFAST_MODELS must be JSON, an array; correct it"


def test_a_refusal_shows_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_REDIS_URL", "http://:hidden@127.0.0.1/0")
    monkeypatch.setenv("HOLDFAST_SIGNING_KEY", "hidden")
    (folder / "holdfast.toml").write_text("root_seed = [4711]\n")
    told = refusal()
    assert [line.split(": ")[0] for line in sorted(told.splitlines())] == [
        "HOLDFAST_REDIS_URL", "HOLDFAST_SIGNING_KEY", "holdfast.toml",
    ]  # fmt: skip
    assert "hidden" not in told
    assert "4711" not in told


def test_secrets_do_not_show() -> None:
    secret = SecretStr("redis://:hidden@127.0.0.1/0")
    assert "hidden" not in repr(ServiceSettings(root_seed=SecretStr("hidden"), redis_url=secret))


def test_settings_are_read_once_and_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ServiceSettings().port = 1  # type: ignore[misc]


KNOWN = sorted({name for kind in SETTINGS for name in kind.model_fields})


@pytest.mark.parametrize("name", KNOWN)
def test_a_slip_of_the_pen_is_answered_with_the_setting_that_was_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    slip = f"{name[0]}{name[2:]}" if len(name) > 4 else f"{name}{name[-1]}"
    (folder / "holdfast.toml").write_text(f"{slip} = 1\n")
    monkeypatch.setenv(f"HOLDFAST_{slip.upper()}", "1")
    assert refusal().splitlines() == [
        f"holdfast.toml: {slip} is no setting; did you mean {name}?",
        f"HOLDFAST_{slip.upper()} is no setting; did you mean HOLDFAST_{name.upper()}?",
    ]


@pytest.mark.parametrize("kind", SETTINGS)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_name_is_taken_by_the_roles_that_have_it_and_passed_over_by_the_others(
    folder: Path, kind: type[ProcessSettings], data: st.DataObject
) -> None:
    defaults = {name: field.default for name, field in ServiceSettings.model_fields.items()}
    numbers = {name: value for name, value in defaults.items() if type(value) is int and value > 0}
    asked = data.draw(st.dictionaries(st.sampled_from(sorted(numbers)), st.integers(1, 1000), max_size=3))
    (folder / "holdfast.toml").write_text("".join(f"{name} = {value}\n" for name, value in asked.items()))
    found = read(kind)
    mine = {name: value for name, value in asked.items() if name in kind.model_fields}
    assert found == kind().model_copy(update=mine)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.from_regex(r"[a-z][a-z_]{0,30}", fullmatch=True).filter(lambda name: name not in KNOWN))
def test_whatever_is_nobodys_is_refused_in_one_line_that_names_it(folder: Path, name: str) -> None:
    (folder / "holdfast.toml").write_text(f"{name} = 1\n")
    (told,) = refusal().splitlines()
    assert re.fullmatch(rf"holdfast\.toml: {name} is no setting; (did you mean \w+\?|drop or correct it)", told)
    assert "did you mean" not in told or told.split()[-1][:-1] in KNOWN
