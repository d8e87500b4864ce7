"""The frontier on a terminal: as a table with its units, and as bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from holdfast.contract.certificates import Certificate, FrontierPoint
from holdfast_client import rounding

__all__ = ["FrontierPlot", "frontier_view"]

_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class FrontierPlot:
    """The frontier as bars: tokens d downwards, radius to the right; bars are cut, never rounded up."""

    frontier: Sequence[FrontierPoint]
    axis: str = "image radius"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        radii = [point.radius for point in self.frontier if point.radius is not None]
        end = rounding.axis_end(max(radii, default=0.0))
        if end == 0.0:
            return
        edge, corner, rule = "|+-" if options.ascii_only else "│└─"
        margin = max(len(str(point.tokens)) for point in self.frontier)
        width = max(10, min(60, options.max_width - margin - 16))
        for point in self.frontier:
            share = None if point.radius is None else point.radius / end
            yield Text.assemble(f"{point.tokens:>{margin}} {edge}", *_bar(point, share, width, options.ascii_only))
        yield Text(f"{'':{margin}} {corner}{rule * width}")
        yield Text(f"{'':{margin}}  0{self.axis:^{width - 1 - len(str(end))}}{end}")


def _bar(
    point: FrontierPoint, share: float | None, width: int, ascii_only: bool
) -> tuple[tuple[str, str], tuple[str, str]]:
    if share is None or point.radius is None:
        return ("", ""), (" not certified", "dim")
    eighths = int(share * width * 8)
    bar = "#" * (eighths // 8) if ascii_only else "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return (bar, "cyan"), (f" {rounding.radius(point.radius)}", "")


def frontier_view(certificate: Certificate) -> RenderableType:
    """The frontier of the certificate's verdict: its units, a row for each budget, and bars where radii may differ."""
    tokens = "categorical fields" if certificate.kind == "tabular" else "tokens"
    title = f"Frontier of the {certificate.verdict} verdict: attacker {tokens} d"
    if certificate.threat.image == "none":
        return Group(title, _table(certificate))
    what = "numeric" if certificate.kind == "tabular" else "image"
    units = f"{title} against certified {what} radius\n({_unit(certificate)})"
    parts: list[RenderableType] = [units, _table(certificate)]
    if certificate.target is None and len(certificate.frontier) > 1:
        parts += ["", FrontierPlot(certificate.frontier, axis=f"{what} radius")]
    return Group(*parts)


def _unit(certificate: Certificate) -> str:
    space = certificate.space
    if certificate.kind == "tabular":
        return f"L2, {space.width} standardised numeric fields"
    low, high = space.range
    return f"L2, {space.channels} x {space.height} x {space.width} pixels in [{low:g}, {high:g}]"


def _table(certificate: Certificate) -> Table:
    space = certificate.space
    shifts = certificate.threat.image != "none"
    native = shifts and space.native_operator_norm != 1
    columns = ["d", "radius" if shifts else "certified"]
    if native:
        columns.append(f"radius at the image's own {space.input_height} x {space.input_width}")
    table = Table(*columns, "method")
    for column in table.columns[:-1]:
        column.justify = "right"
    for point in certificate.frontier:
        radii = (point.radius, point.native_radius) if native else (point.radius,)
        cells = [_radius(radius) if shifts or radius is None else "yes" for radius in radii]
        table.add_row(str(point.tokens), *cells, point.method or "")
    return table


def _radius(radius: float | None) -> str | Text:
    return Text("not certified", style="dim") if radius is None else rounding.radius(radius)
