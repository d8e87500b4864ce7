"""Which model a command means, and the fields that are laid over its settings."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from holdfast.settings import StartError
from holdfast_worker.inspection.naming import fields_of, meant, run, settings_path
from holdfast_worker.inspection.settings_file import SettingsFileError
from holdfast_worker.models.errors import ModelConfigError

names = st.from_regex(r"[a-z_][a-z_0-9]{0,9}", fullmatch=True).filter(lambda name: name not in ("name", "folder"))
values = st.one_of(st.integers(-(10**12), 10**12), st.floats(allow_nan=False, allow_infinity=False), st.booleans())
PAIRS = st.dictionaries(names, values, max_size=3)


@given(PAIRS)
def test_numbers_and_truths_are_read_as_toml_writes_them(fields: dict[str, Any]) -> None:
    assert fields_of([f"{name}={json.dumps(value)}" for name, value in fields.items()]) == fields


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("dtype=bfloat16", "bfloat16"),
        ('dtype="bfloat16"', "bfloat16"),
        ("vllm_url=http://a/?b=c", "http://a/?b=c"),
        ("heads=['a', 'b']", ["a", "b"]),
        ("defaults={beta = 0.5}", {"beta": 0.5}),
        ("policy=", ""),
        ("policy=1\nother = 2", "1\nother = 2"),
        ("policy=true story", "true story"),
    ],
)
def test_what_is_no_value_of_toml_is_a_text(word: str, value: Any) -> None:
    assert list(fields_of([word]).values()) == [value]


@pytest.mark.parametrize("word", ["dtype", "=1", "name=x", "folder=/m", "a-b=1", "a.=1", ".a=1", "1a=1", "a..b=1"])
def test_a_word_that_is_no_field_is_refused_by_itself(word: str) -> None:
    with pytest.raises(ModelConfigError, match=r"must be field=value, such as dtype=bfloat16; correct it"):
        fields_of(["device=cpu", word])


def test_the_last_of_two_words_for_one_field_counts() -> None:
    assert fields_of(["batch_limit=4", "batch_limit=8"]) == {"batch_limit": 8}


SERVED: dict[str, dict[str, Any]] = {
    "mine": {"folder": "/models/mine", "dtype": "float16", "defaults": {"beta": 0.25, "l0": {"tau": 0.3}}}
}


def test_a_served_name_means_its_folder_and_its_table_with_the_fields_over_it() -> None:
    folder, overrides = meant("mine", SERVED, {"dtype": "float32", "defaults.beta": 0.5})
    assert folder == "/models/mine"
    assert overrides == {"name": "mine", "dtype": "float32", "defaults": {"beta": 0.5, "l0": {"tau": 0.3}}}


def test_finding_out_what_is_meant_leaves_the_settings_as_they_are() -> None:
    before = copy.deepcopy(SERVED)
    meant("mine", SERVED, {"defaults.beta": 0.5, "defaults.l0.tau": 0.9, "defaults.slots": 3})
    assert before == SERVED


def test_a_packaged_name_means_itself_with_or_without_a_table() -> None:
    assert meant("reference-guard", {}, {"device": "cpu"}) == (
        "reference-guard",
        {"device": "cpu", "name": "reference-guard"},
    )
    table = {"reference-guard": {"batch_limit": 7}}
    assert meant("reference-guard", table, {})[1] == {"batch_limit": 7, "name": "reference-guard"}


def test_a_folder_is_called_what_its_own_settings_call_it_or_after_itself(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert meant(str(tmp_path / "plain"), {}, {})[1] == {"name": "plain"}
    (tmp_path / "plain" / "holdfast.json").write_text('{"name": "called"}')
    assert meant(str(tmp_path / "plain"), {}, {"slots": 1})[1] == {"name": "called", "slots": 1}


def test_a_name_that_is_nothing_is_passed_on_for_the_loader_to_refuse() -> None:
    assert meant("nothing-of-the-kind", SERVED, {}) == ("nothing-of-the-kind", {})


def test_a_field_of_a_field_that_has_none_is_refused() -> None:
    with pytest.raises(SettingsFileError, match=r"dtype\.x is a field of dtype, which must be a table"):
        meant("mine", SERVED, {"dtype.x": 1})


def test_the_file_of_settings_is_the_one_given_then_the_environments_then_the_usual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOLDFAST_CONFIG", "/etc/of-the-environment.toml")
    assert settings_path("given.toml") == Path("given.toml")
    assert settings_path(None) == Path("/etc/of-the-environment.toml")
    monkeypatch.delenv("HOLDFAST_CONFIG")
    assert settings_path(None) == Path("holdfast.toml")


@pytest.mark.parametrize("kind", [ModelConfigError, SettingsFileError, StartError])
def test_a_refusal_is_said_line_by_line_and_ends_with_one(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> int:
        raise kind("first\nsecond")

    assert run(refuse) == 1
    assert capsys.readouterr() == ("", "error: first\nerror: second\n")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (torch.OutOfMemoryError("full"), 1, "error: the model does not fit the device's memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_a_full_device_and_an_interruption_have_words_of_their_own(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def end() -> int:
        raise error

    assert run(end) == code
    assert capsys.readouterr().err.startswith(said)


def test_an_accident_is_not_dressed_up_as_a_refusal() -> None:
    def break_down() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(break_down)
    assert run(lambda: 0) == 0
