"""Writing a model into the user's file of settings: what must change, and nothing else."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from holdfast_worker.inspection.settings_file import (
    SettingsFileError,
    read_settings_file,
    with_model,
    write_settings_file,
)

FIELDS: dict[str, Any] = {"folder": "/m", "batch_limit": 8}
SERVED = ("reference-guard",)
COMMENTED = """\
# ours
port = 8420  # of the gateway
models = [  # served
  "a",
  "b",  # the second ]
]

[served.a]
folder = "/a"  # moved in May
defaults = {beta = 0.25}

[served.b]
folder = "/b"
"""


def changed(text: str, name: str = "new", fields: dict[str, Any] = FIELDS) -> dict[str, Any]:
    return tomllib.loads(with_model(text, name, fields, usual=SERVED))


def test_an_empty_file_serves_what_was_served_and_the_model() -> None:
    assert changed("") == {"models": ["reference-guard", "new"], "served": {"new": FIELDS}}


@pytest.mark.parametrize(
    "models",
    [
        'models = ["a"]',
        "models = []",
        'models = ["a",]',
        'models = ["a"]  # see [1]',
        'models = [\n  "a"  # first\n]',
        "models = ['a', \"]\"]",
    ],
)
def test_the_name_joins_the_models_however_they_are_written(models: str) -> None:
    before = tomllib.loads(models)["models"]
    assert changed(f"port = 1\n{models}\n[served.a]\nfolder = 'f'\n")["models"] == [*before, "new"]


def test_what_is_there_keeps_its_lines_and_comments() -> None:
    after = with_model(COMMENTED, "new", FIELDS, usual=SERVED)
    kept = [line for line in COMMENTED.splitlines() if line not in ("]", "")]
    assert [line for line in after.splitlines() if line in kept] == kept
    assert tomllib.loads(after)["models"] == ["a", "b", "new"]


def test_a_table_that_is_there_is_changed_in_the_given_fields_only() -> None:
    after = with_model(COMMENTED, "a", {"folder": "/else", "batch_limit": 8}, usual=SERVED)
    table = {"folder": "/else", "defaults": {"beta": 0.25}, "batch_limit": 8}
    assert tomllib.loads(after) == {
        **tomllib.loads(COMMENTED),
        "served": {"a": table, "b": {"folder": "/b"}},
    }
    assert "# ours" in after


def test_adding_twice_is_adding_once() -> None:
    once = with_model(COMMENTED, "new", FIELDS, usual=SERVED)
    assert with_model(once, "new", FIELDS, usual=SERVED) == once


def test_a_dotted_field_is_a_field_of_a_field() -> None:
    fields = {"folder": "/m", "defaults.tau": 4.6e-05, "defaults.beta": 0.5}
    first = with_model("", "new", fields, usual=SERVED)
    assert changed(first, fields={"defaults.tau": 0.3})["served"]["new"]["defaults"] == {"tau": 0.3, "beta": 0.5}


@pytest.mark.parametrize("name", ["a b", 'a"b', "a.b", "日本", "[x]"])
def test_any_name_is_quoted_as_it_needs(name: str) -> None:
    assert changed(COMMENTED, name)["served"][name] == FIELDS


@pytest.mark.parametrize(
    "value", ["C:\\models\\x", 'a "quoted" \n text', "😀", [1, 2], {"a": [True, "b"]}, 0.1, 1e-7, False]
)
def test_any_value_is_read_back_as_it_was_given(value: Any) -> None:
    assert changed("", fields={"folder": value})["served"]["new"] == {"folder": value}


@pytest.mark.parametrize(
    "text",
    [
        'served = {a = {folder = "/a"}}\n',
        "[served]\na.folder = '/a'\nnew.folder = '/b'\n",
        'served.new = {folder = "/a"}\n',
        '"models" = ["a"]\n',
        '[served.new]\nfolder = "/a"\n[served.new.defaults]\nbeta = 1\n',
    ],
)
def test_a_table_spelt_in_an_unknown_way_is_left_alone_and_the_lines_to_put_in_are_named(text: str) -> None:
    with pytest.raises(SettingsFileError, match=r"put 'new' into models, and in:\n\[served\.new\]\nfolder = \"/m\""):
        changed(text, fields={"folder": "/m", "defaults.beta": 0.5})


def test_a_field_of_something_without_fields_is_refused() -> None:
    with pytest.raises(SettingsFileError, match=r"folder\.x is a field of folder, which must be a table"):
        changed(COMMENTED, "a", {"folder.x": 1})


@pytest.mark.parametrize("text", ["models = [", "models = 3", "served = []", "\x00"])
def test_a_file_that_is_no_settings_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "h.toml").write_text(text)
    with pytest.raises(SettingsFileError, match="correct it"):
        read_settings_file(tmp_path / "h.toml")
    assert (tmp_path / "h.toml").read_text() == text


def test_a_file_is_replaced_in_one_step_behind_its_link_with_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("port = 1\n")
    (tmp_path / "real.toml").chmod(0o600)
    (tmp_path / "h.toml").symlink_to(tmp_path / "real.toml")
    write_settings_file(tmp_path / "h.toml", "port = 2\n")
    assert (tmp_path / "h.toml").is_symlink()
    assert (tmp_path / "real.toml").read_text() == "port = 2\n"
    assert stat.S_IMODE((tmp_path / "real.toml").stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["h.toml", "real.toml"]


def test_a_write_that_fails_leaves_the_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "h.toml").write_text("port = 1\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SettingsFileError, match="No space left on device"):
        write_settings_file(tmp_path / "h.toml", "port = 2\n")
    assert (tmp_path / "h.toml").read_text() == "port = 1\n"
    assert os.listdir(tmp_path) == ["h.toml"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsFileError, match="cannot be written"):
        write_settings_file(tmp_path / "absent" / "h.toml", "")
