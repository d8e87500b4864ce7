"""The course of a training: a CSV that a resumed run continues, and its plot."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_WIDTH, _HEIGHT, _MARGIN = 640, 240, 30
_INKS: Final = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#7f8c8d")


class Curve:
    """Rows of step and losses, appended as they come."""

    def __init__(self, path: Path, columns: Sequence[str], *, done: int) -> None:
        """Opens the file and drops what lies after step `done`, which will be run again.

        Args:
            path: of the CSV; made if need be.
            columns: names of the losses.
            done: steps that the resumed checkpoint has behind it.
        """
        self._path, self._columns = path, ("step", *columns)
        rows = [row for row in _whole_rows(path, len(self._columns)) if int(row[0]) <= done]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(",".join(row) + "\n" for row in (self._columns, *rows)), "utf-8")

    def append(self, step: int, losses: Mapping[str, float]) -> None:
        """Adds the losses of the step that made `step` steps done."""
        values = (f"{losses[name]:.6g}" for name in self._columns[1:])
        with self._path.open("a", encoding="utf-8") as file:
            file.write(",".join((str(step), *values)) + "\n")

    def plot(self) -> None:
        """Writes the curves beside the CSV, as an SVG of the same name; each is scaled to its own highest value."""
        rows = [[float(value) for value in row] for row in _whole_rows(self._path, len(self._columns))]
        if not rows:
            return
        steps, *series = zip(*rows, strict=True)
        lines = [
            _line(name, steps, values, ink, index)
            for index, (name, values, ink) in enumerate(zip(self._columns[1:], series, _INKS, strict=False))
        ]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-size="11">'
        self._path.with_suffix(".svg").write_text("\n".join((head, *lines, "</svg>\n")), "utf-8")


def _whole_rows(path: Path, width: int) -> list[list[str]]:
    """The rows below the header; a last line that a kill tore off has no line break, and is none."""
    if not path.is_file():
        return []
    text = path.read_text("utf-8")
    rows = csv.reader(text[: text.rfind("\n") + 1].splitlines()[1:])
    return [row for row in rows if len(row) == width]


def _line(name: str, steps: Sequence[float], values: Sequence[float], ink: str, index: int) -> str:
    top = max(*values, 0.0) or 1.0
    across, up = (_WIDTH - 2 * _MARGIN) / steps[-1], (_HEIGHT - 2 * _MARGIN) / top
    points = (
        f"{_MARGIN + step * across:.1f},{_HEIGHT - _MARGIN - value * up:.1f}"
        for step, value in zip(steps, values, strict=True)
    )
    label = f'<text x="{_MARGIN + 150 * index}" y="16" fill="{ink}">{name}, top {top:.3g}</text>'
    return f'<polyline fill="none" stroke="{ink}" points="{" ".join(points)}"/>{label}'
