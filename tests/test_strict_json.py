"""JSON that two readers could take in two ways is refused, in words that repeat nothing of it."""

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
        ("", "Expecting value at character 0"),
        (b'"\xff"', "it is not UTF-8"),
    ],
)
def test_what_is_refused_says_why_and_repeats_nothing(content: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match="^" + why.replace("'", ".") + "$") as refusal:
        strict_json(content)
    assert SECRET not in str(refusal.value)
    assert refusal.value.__cause__ is None
