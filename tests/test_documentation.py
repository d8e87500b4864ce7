"""The pages agree with each other and with the tree: links, indexes, versions and their dates."""

import re
from datetime import datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
IN_CODE = re.compile(r"`((?:holdfast|service|workers|clients|lab|tests|benchmarks|examples|deploy|docs)/[\w./-]+)`")


def versions() -> list[tuple[str, datetime]]:
    found = re.findall(
        r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})(?: (\d{2}:\d{2}) UTC)?$", CHANGELOG, re.MULTILINE
    )
    return [(number, datetime.fromisoformat(f"{date} {hour or '00:00'}")) for number, date, hour in found]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text("utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # it speaks of the past
        return
    missing = {name for name in IN_CODE.findall(page.read_text("utf-8")) if not (ROOT / name).exists()}
    assert not missing


def test_the_index_of_decisions_is_whole() -> None:
    index = ROOT / "docs/decisions/README.md"
    listed = {target for target, _ in LINK.findall(index.read_text("utf-8")) if target.startswith("0")}
    assert listed == {page.name for page in index.parent.glob("0*.md")}


def test_versions_descend_and_no_two_have_the_same_date() -> None:
    numbers = [tuple(map(int, number.split("."))) for number, _ in versions()]
    dates = [date for _, date in versions()]
    assert numbers == sorted(set(numbers), reverse=True)
    assert dates == sorted(set(dates), reverse=True)
    assert len(versions()) == len(re.findall(r"^## \[\d", CHANGELOG, re.MULTILINE))


def test_the_newest_version_is_the_packages() -> None:
    package = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), flags=re.MULTILINE)
    assert package is not None
    assert versions()[0][0] == package.group(1)
