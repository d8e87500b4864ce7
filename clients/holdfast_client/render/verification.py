"""The checks of a certificate on a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.contract.jobs import Check, Verification


def verification_view(verification: Verification) -> RenderableType:
    """The outcome in one line, then every check, those that failed first, and what was not checked."""
    table = Table("check", "outcome", "detail")
    for check in sorted(verification.checks, key=lambda check: check.ok):
        table.add_row(_shown(check.field), *_outcome(check))
    return Group(_summary(verification), "", table, *_not_checked(verification))


def _not_checked(verification: Verification) -> list[RenderableType]:
    if not verification.not_checked:
        return []
    names = ", ".join(verification.not_checked)
    return ["", _shown(f"Not checked, as no evidence decides it, and held by the signature alone: {names}.")]


def _summary(verification: Verification) -> Text:
    count = len(verification.checks)
    if verification.valid:
        return Text(f"valid: all {count} checks hold", style="bold green")
    failed = sum(not check.ok for check in verification.checks)
    return Text(f"NOT valid: {failed} of {count} checks failed", style="bold red")


def _outcome(check: Check) -> tuple[Text, Text]:
    return (Text("ok", style="green") if check.ok else Text("FAILED", style="bold red")), _shown(check.detail)


def _shown(text: str) -> Text:
    """The text without control characters: it may quote a file that someone else wrote."""
    return Text("".join(character if character.isprintable() else "?" for character in text), overflow="fold")
