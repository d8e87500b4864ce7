"""Edits of the user's file of settings, whatever is written in it: one thing changes, the rest keeps every byte."""

import difflib
import tomllib
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from holdfast_worker.inspection.settings_file import SettingsFileError, nested, with_model

USUAL = ("reference-guard", "reference-encoder")
names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)
comments = words.map(lambda text: f"# {text}")
scalars = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), words, st.floats(allow_nan=False, allow_infinity=False)
)
fields = st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), scalars, min_size=1, max_size=3)


def written(value: object) -> str:
    """A value as a person might write it."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[str], dict[str, dict[str, Any]]]:
    """A file with comments, keys and tables, the models in it, and the tables of served ones."""
    tables = draw(st.dictionaries(names, fields, max_size=3))
    models = draw(st.lists(st.one_of(names, *map(st.just, tables)), max_size=3, unique=True))
    lines = [draw(comments), "", f"port = {draw(st.integers(1, 65535))}  {draw(comments)}"]
    if draw(st.booleans()):
        inner = "".join(f"\n  {written(name)},  {draw(comments)}" for name in models)
        lines.append(f"models = [{inner}\n]  {draw(comments)}")
    else:
        lines.append(f"models = [{', '.join(map(written, models))}]")
    lines += ["", "[logging]", f'level = "info"  {draw(comments)}']
    for name, table in tables.items():
        lines += ["", draw(comments), f"[served.{name}]"]
        lines += [f"{key} = {written(value)}  {draw(comments)}" for key, value in table.items()]
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"])), models, tables


def kept(before: str, after: str) -> bool:
    """Whether nothing was taken away: every byte of the one is in the other, in order."""
    rest = iter(after)
    return all(letter in rest for letter in before)


@settings(max_examples=50)
@given(documents(), names, fields)
def test_a_new_model_is_written_in_and_nothing_is_taken_away(document: Any, name: str, given_fields: Any) -> None:
    text, models, tables = document
    assume(name not in tables)
    after = with_model(text, name, given_fields, usual=USUAL)
    expected = tomllib.loads(text)
    expected["models"] = models if name in models else [*models, name]
    expected["served"] = {**tables, name: given_fields}
    assert tomllib.loads(after) == expected
    assert kept(text, after)


@settings(max_examples=50)
@given(documents(), fields)
def test_a_known_model_changes_in_the_lines_of_its_fields_and_in_no_other(document: Any, given_fields: Any) -> None:
    text, _, tables = document
    assume(tables)
    name = next(iter(tables))
    after = with_model(text, name, given_fields, usual=USUAL)
    assert tomllib.loads(after)["served"][name] == tables[name] | given_fields
    lines = difflib.ndiff(text.splitlines(), after.splitlines())
    gone = {line[2:].partition(" = ")[0] for line in lines if line.startswith("- ")}
    # The list of models may gain the name, where it begins or where it ends.
    assert {key for key in gone if key != "models" and not key.startswith("]")} <= set(given_fields)


@settings(max_examples=50)
@given(documents(), names, fields)
def test_writing_the_same_model_twice_changes_nothing_more(document: Any, name: str, given_fields: Any) -> None:
    text, _, _ = document
    once = with_model(text, name, given_fields, usual=USUAL)
    assert with_model(once, name, given_fields, usual=USUAL) == once


@settings(max_examples=50)
@given(documents(), names, names, fields)
def test_two_models_may_be_written_in_either_order(document: Any, one: str, two: str, given_fields: Any) -> None:
    text, _, tables = document
    assume(one != two and not {one, two} & set(tables))
    read = []
    for first, second in ((one, two), (two, one)):
        after = with_model(with_model(text, first, given_fields, usual=USUAL), second, given_fields, usual=USUAL)
        found = tomllib.loads(after)
        read.append(found | {"models": sorted(found["models"])})
    assert read[0] == read[1]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_keep_their_ends(end: str) -> None:
    text = end.join(['models = ["a"]', "[served.a]", 'folder = "/a"', ""])
    after = with_model(text, "b", {"folder": "/b"}, usual=USUAL)
    assert kept(text, after)
    assert after.count("\r\n") == text.count("\r\n")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), None, {"a": None}])
def test_a_value_that_toml_does_not_have_is_not_written(value: Any) -> None:
    with pytest.raises(SettingsFileError, match="cannot be changed with certainty"):
        with_model('models = ["a"]\n', "b", {"tau": value}, usual=USUAL)


def test_where_no_models_are_named_the_usual_ones_go_on_being_served() -> None:
    after = with_model("port = 1\n[served.x]\nfolder = '/x'\n", "mine", {"folder": "/m"}, usual=USUAL)
    assert tomllib.loads(after)["models"] == [*USUAL, "mine"]
    again = with_model("", USUAL[0], {"dtype": "float16"}, usual=USUAL)
    assert tomllib.loads(again)["models"] == list(USUAL)


def test_a_table_of_another_model_with_a_longer_name_is_not_taken_for_it() -> None:
    text = 'models = ["a"]\n[served.ab]\nfolder = "/ab"\n[served.a]\nfolder = "/a"\n'
    after = with_model(text, "a", {"folder": "/new"}, usual=USUAL)
    assert after == text.replace('"/a"\n', '"/new"\n')


@given(st.dictionaries(st.sampled_from(["a", "b.c", "b.d", "e.f.g"]), st.integers(), max_size=4))
def test_dotted_fields_nest_and_leave_their_neighbours(given_fields: dict[str, int]) -> None:
    table: dict[str, Any] = {"b": {"kept": 1}, "kept": 2}
    found = nested(given_fields, table)
    assert found is table
    assert (found["b"]["kept"], found["kept"]) == (1, 2)
    for key, value in given_fields.items():
        inner: Any = found
        for part in key.split("."):
            inner = inner[part]
        assert inner == value
