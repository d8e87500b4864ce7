"""JSON that two readers could take in two ways is refused, in words that repeat nothing of it."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contract.strict_json import strict_json

SECRET = "the-input-itself"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_was_written_is_read(value: object) -> None:
    assert strict_json(json.dumps(value)) == value
    assert strict_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (f'{{"{SECRET}": 1, "{SECRET}": 2}}', "a field is given twice"),
        (f'[{{"a": {{"{SECRET}": 1, "{SECRET}": 1}}}}]', "a field is given twice"),
        ("[NaN]", "NaN is no number"),
        ("[Infinity]", "Infinity is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "a number is too large"),
        ("[-1e999]", "a number is too large"),
        ("1" * 401, "a number is too large"),
        ("1" * 10_000, "a number is too large"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a":' * 100_000, "it is nested too deeply"),
        (f'{{"{SECRET}" 1}}', "Expecting ':' delimiter at character 20"),
        (f'["{SECRET}', "Unterminated string starting at character 1"),
        ("", "Expecting value at character 0"),
        (b'"\xff"', "it is not UTF-8"),
        (b'"\xed\xa0\xbd"', "it is not UTF-8"),
        (b'"\xc0\xaf"', "it is not UTF-8"),
        ('"\u00e9"'.encode("utf-16"), "it is not UTF-8"),
        ('"a"'.encode("utf-16-le"), "Invalid control character at character 1"),
        ('"a"'.encode("utf-32-be"), "Expecting value at character 0"),
    ],
)
def test_what_is_refused_says_why_and_repeats_nothing(content: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match="^" + why.replace("'", ".") + "$") as refusal:
        strict_json(content)
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None


@given(VALUES, VALUES, st.text())
def test_a_field_that_is_given_twice_is_refused_however_deep_and_whatever_it_holds(
    one: object, other: object, name: str
) -> None:
    twice = f"{{{json.dumps(name)}: {json.dumps(one)}, {json.dumps(name)}: {json.dumps(other)}}}"
    for content in (twice, f"[1, {twice}]", f'{{"a": {{"b": [{twice}]}}}}'):
        with pytest.raises(ValueError, match=r"^a field is given twice$"):
            strict_json(content)


def test_a_name_that_is_escaped_is_the_same_name() -> None:
    with pytest.raises(ValueError, match=r"^a field is given twice$"):
        strict_json(r'{"tau": 1, "\u0074au": 2}')
    assert strict_json(r'{"tau": 1, "Tau": 2}') == {"tau": 1, "Tau": 2}


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_that_can_be_written_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        value = strict_json(content)
        assert strict_json(json.dumps(value)) == value


@given(VALUES)
def test_what_is_cut_short_is_refused_and_not_repeated(value: object) -> None:
    content = json.dumps({SECRET: value})
    for cut in range(1, len(content), max(1, len(content) // 7)):
        with pytest.raises(ValueError, match=r"at character \d+$") as refusal:
            strict_json(content[:cut])
        assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("1" * 400, int("1" * 400)), ("1.7976931348623157e308", 1.7976931348623157e308), ("1e-999", 0.0), ("-0.0", 0.0),
        (' \n{"a": 1} \t', {"a": 1}), (b"\xef\xbb\xbf3", 3), ('"\\ud83d"', "\ud83d"),
    ],
)  # fmt: skip
def test_what_is_unusual_but_json_is_read(content: str | bytes, value: object) -> None:
    assert strict_json(content) == value


def test_four_hundred_levels_are_not_too_deep() -> None:
    value, depth = strict_json("[" * 400 + "]" * 400), 1
    while value:
        (value,), depth = value, depth + 1
    assert depth == 400


@pytest.mark.parametrize(
    "content", ["{'a': 1}", "[1,]", "01", "+1", ".5", "1.", "0x10", "nan", "True", '"\t"', "1 2", "//"]
)
def test_what_only_other_languages_write_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match=r"at character \d+$"):
        strict_json(content)
