import re
from pathlib import Path

import pytest

from holdfast import certificates

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "maths.md"


@pytest.fixture(scope="module")
def rows():
    """(names, test file, test) of the table function, proposition, test."""
    table = re.findall(r"^\| (`.+`) \| .+ \| `(\S+)::(\w+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [(re.findall(r"`(\w+)`", names), file, test) for names, file, test in table]


def test_every_public_name_has_its_proposition_and_nothing_else_has(rows):
    names = [name for found, _, _ in rows for name in found]
    assert sorted(names) == sorted(certificates.__all__)


def test_every_named_test_exists(rows):
    for _, file, test in rows:
        assert f"def {test}(" in (HERE / file).read_text("utf-8"), f"{file}::{test}"
