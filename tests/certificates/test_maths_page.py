import ast
import re
from pathlib import Path

import pytest

from holdfast import certificates

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "maths.md"
Row = tuple[list[str], str, str]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """(names, test file, test) of the table function, proposition, test."""
    table = re.findall(r"^\| (`.+`) \| .+ \| `(\S+)::(\w+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [(re.findall(r"`(\w+)`", names), file, test) for names, file, test in table]


def defined() -> set[str]:
    """Every public function and class of the certificates."""
    found = set()
    for path in Path(certificates.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_every_public_name_has_its_proposition(rows: list[Row]) -> None:
    assert set(certificates.__all__) <= {name for names, _, _ in rows for name in names}


def test_every_name_on_the_page_is_one_of_ours_and_stands_once(rows: list[Row]) -> None:
    names = [name for found, _, _ in rows for name in found]
    assert len(names) == len(set(names))
    assert set(names) <= defined()


def test_every_named_test_exists(rows: list[Row]) -> None:
    for _, file, test in rows:
        assert f"def {test}(" in (HERE / file).read_text("utf-8"), f"{file}::{test}"


def test_every_section_that_the_code_cites_exists() -> None:
    root = HERE.parents[1]
    sections = set(re.findall(r"^## (\d+)\.", PAGE.read_text("utf-8"), re.MULTILINE))
    for folder in ("holdfast", "service", "workers", "lab"):
        for path in (root / folder).rglob("*.py"):
            for cited in re.findall(r"maths\.md[^)\n]*?§+([\d\-]+)", path.read_text("utf-8")):
                assert set(cited.split("-")) <= sections, f"{path.relative_to(root)} cites section {cited}"
