"""The frontier on a terminal: as a table with its units, and as bars."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from holdfast.contract.guard.certificates import Certificate, FrontierPoint
from holdfast_client.render import rounding
from holdfast_client.render.bars import Bar, BarPlot
from holdfast_client.render.units import pixels

__all__ = ["FrontierPlot", "frontier_view"]


@dataclass(frozen=True)
class FrontierPlot:
    """The frontier as bars: tokens d downwards, radius to the right; bars are cut, never rounded up."""

    frontier: Sequence[FrontierPoint]
    axis: str = "image radius"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        radii = [point.radius for point in self.frontier if point.radius is not None]
        if (end := rounding.axis_end(max(radii, default=0.0))) > 0:
            bars = [Bar(str(point.tokens), point.radius, _radius(point.radius)) for point in self.frontier]
            yield BarPlot(bars, self.axis, end)


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
    return pixels(space)


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
