"""A certificate on a terminal: everything that it says, in the order in which people ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from holdfast.contract.guard.certificates import Certificate, Evidence, FrontierPoint, TargetAnswer, WorstCase
from holdfast.contract.jobs import Verdict
from holdfast_client.render import rounding
from holdfast_client.render.bars import Bar, BarPlot
from holdfast_client.render.units import STOPPED, certified, pixels, resized

_STYLE: dict[Verdict, str] = {"unsafe": "bold red", "safe": "bold green", "abstained": "bold yellow"}


def certificate_view(certificate: Certificate) -> RenderableType:
    """Everything that a certificate says: the answer to its question, verdict, frontier, worst case, notice, notes."""
    parts: list[RenderableType] = []
    if certificate.target is not None:
        parts += [_answer(certificate, certificate.target), ""]
    parts += [_summary(certificate)]
    if certificate.verdict != "abstained":
        parts += ["", _frontier(certificate)]
    for table in _worst_case_tables(certificate):
        parts += ["", table]
    said = (*certificate.notice, *certificate.notes)
    return Group(*parts, "", *(Text(line, style="dim") for line in said))


def _answer(certificate: Certificate, target: TargetAnswer) -> Text:
    against = _attack(certificate, target.tokens, target.epsilon)
    if target.verdict is None:
        return Text(f"No: no verdict is certified against {against}", style=_STYLE["abstained"])
    return Text(f"Yes: {target.verdict} is certified against {against}", style=_STYLE[target.verdict])


def _attack(certificate: Certificate, tokens: int, epsilon: float) -> str:
    """One budget in words."""
    word, shifted = ("categorical field", "numeric") if certificate.kind == "tabular" else ("token", "image")
    parts = []
    if certificate.threat.text != "none":
        parts.append(f"{tokens} {word}" + ("" if tokens == 1 else "s"))
    if certificate.threat.image != "none":
        parts.append(f"{shifted} radius {epsilon}")
    return " and ".join(parts)


def _summary(certificate: Certificate) -> Table:
    evidence, signature = certificate.evidence, certificate.signature
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Verdict", _verdict(certificate))
    grid.add_row("Reason", certificate.reason)
    grid.add_row("Draws", _draws(evidence))
    if ties := sum(cell.near_ties for cell in evidence.cells):
        grid.add_row("Near ties", f"{ties:,} passes within {evidence.tie_band:g} of a tie, counted against every claim")
    grid.add_row("Alpha", f"{evidence.alpha} (risk that any number here is wrong)")
    grid.add_row("Guard", Text(f"{certificate.model.name} {certificate.model.fingerprint}", overflow="fold"))
    grid.add_row("Smoothing", _smoothing(certificate))
    if (flag := certificate.false_flag) is not None:
        share = f"at most {rounding.share_at_most(flag.rate_at_most)} at alpha={flag.alpha}"
        grid.add_row("False flags", f"{share} ({flag.flagged} of {flag.scenes:,} flagged, {flag.measured_on})")
    grid.add_row("Signature", "unsigned" if signature is None else f"signed by {signature.kid}")
    grid.add_row("Id", certificate.id)
    return grid


def _draws(evidence: Evidence) -> str:
    """What was paid for, and why no more."""
    cells = len(evidence.cells)
    each = [f"{count} {word}s" for count, word in ((evidence.tails, "tail"), (cells, "cell")) if count > 1]
    scored = f", each in {' x '.join(each)}: {evidence.passes:,} passes" if each else ""
    return f"{evidence.draws:,}{scored} ({STOPPED[evidence.stopped]})"


def _verdict(certificate: Certificate) -> Text:
    style = _STYLE[certificate.verdict]
    if certificate.verdict == "abstained" or certificate.max_tokens is None:
        return Text("abstained: nothing is certified", style=style)
    if certificate.threat.text == "none":
        against = "shifts of the numeric fields" if certificate.kind == "tabular" else "shifts of the image"
        return Text(f"{certificate.verdict}: certified against {against}", style=style)
    against = f"up to {certificate.max_tokens} {_places(certificate)}"
    return Text(f"{certificate.verdict}: certified against {against}", style=style)


def _places(certificate: Certificate) -> str:
    """Where the attacker's tokens may stand."""
    if certificate.kind == "tabular":
        return f"of {certificate.threat.slots} categorical fields"
    if certificate.threat.text == "append":
        return "appended code points"
    if certificate.threat.text == "suffix":
        return f"of {certificate.threat.slots} tokens"
    return f"of {certificate.evidence.positions} tokens"


def _smoothing(certificate: Certificate) -> str:
    noise, threat = certificate.noise, certificate.threat
    parts = []
    if threat.text in ("suffix", "l0"):
        parts.append(f"{noise.token_kernel} token kernel, beta={noise.beta}")
    if threat.image != "none":
        parts.append(f"sigma={noise.sigma}")
    parts.append(f"tau={certificate.tau}")
    if noise.scope == "per_budget":
        parts.append("a smoothed guard for each d")
    return ", ".join(parts)


@dataclass(frozen=True)
class FrontierPlot:
    """The frontier as bars: tokens d downwards, radius to the right; bars are cut, never rounded up."""

    frontier: Sequence[FrontierPoint]
    axis: str = "image radius"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        radii = [point.radius for point in self.frontier if point.radius is not None]
        if (end := rounding.axis_end(max(radii, default=0.0))) > 0:
            bars = [Bar(str(point.tokens), point.radius, certified(point.radius)) for point in self.frontier]
            yield BarPlot(bars, self.axis, end)


def _frontier(certificate: Certificate) -> RenderableType:
    """The frontier of the certificate's verdict: its units, a row for each budget, and bars where radii may differ."""
    title = f"Frontier of the {certificate.verdict} verdict: {_budgets(certificate)}"
    if certificate.threat.image == "none":
        return Group(title, _points(certificate))
    what = "numeric" if certificate.kind == "tabular" else "image"
    units = f"{title} against certified {what} radius\n({_unit(certificate)})"
    parts: list[RenderableType] = [units, _points(certificate)]
    if certificate.target is None and len(_rows(certificate)) > 1:
        parts += ["", FrontierPlot(certificate.frontier, axis=f"{what} radius")]
    return Group(*parts)


def _budgets(certificate: Certificate) -> str:
    """What d counts."""
    if certificate.kind == "tabular":
        return "attacker categorical fields d"
    return "code points appended" if certificate.threat.text == "append" else "attacker tokens d"


def _unit(certificate: Certificate) -> str:
    space = certificate.space
    if certificate.kind == "tabular":
        return f"L2, {space.width} standardised numeric fields"
    return pixels(space)


def _points(certificate: Certificate) -> Table:
    space = certificate.space
    shifts = certificate.threat.image != "none"
    native = shifts and resized(space)
    columns = ["d", "radius" if shifts else "certified"]
    if native:
        columns.append(f"radius at the image's own {space.input_height} x {space.input_width}")
    table = Table(*columns, "method")
    for column in table.columns[:-1]:
        column.justify = "right"
    for budget, point in _rows(certificate):
        radii = (point.radius, point.native_radius) if native else (point.radius,)
        cells = [certified(radius) if shifts or radius is None else "yes" for radius in radii]
        table.add_row(budget, *cells, point.method or "")
    return table


def _rows(certificate: Certificate) -> list[tuple[str, FrontierPoint]]:
    """A row for each budget; one for all of them where the theorem makes no difference between them."""
    if certificate.threat.text == "append":
        return [(_all_budgets(certificate), certificate.frontier[-1])]
    return [(str(point.tokens), point) for point in certificate.frontier]


def _all_budgets(certificate: Certificate) -> str:
    return f"0 to {certificate.threat.max_tokens}"


def _worst_case_tables(certificate: Certificate) -> list[RenderableType]:
    """The bounds that fit the verdict, both where there is none; those that bound nothing are left out."""
    flat = certificate.threat.text == "append"
    cells = [c for c in certificate.worst_case if not flat or c.tokens == certificate.threat.max_tokens]
    label = (lambda _: _all_budgets(certificate)) if flat else str
    tables: list[RenderableType] = []
    if certificate.verdict != "safe" and any(cell.unsafe_probability_at_least > 0 for cell in cells):
        whose, each = (" of some shortened text", " of each") if flat else ("", "")
        title = f"Worst case: Unsafe probability{whose} at least (plain passes{each} that detect it with 99 %)"
        shown = {(cell.tokens, cell.epsilon): _at_least(cell) for cell in cells}
        tables.append(Group(title, _grid(shown, label)))
    if certificate.verdict != "unsafe" and any(cell.unsafe_probability_at_most < 1 for cell in cells):
        shown = {
            (cell.tokens, cell.epsilon): rounding.probability_at_most(cell.unsafe_probability_at_most) for cell in cells
        }
        tables.append(Group("Worst case: Unsafe probability at most", _grid(shown, label)))
    return tables


def _grid(cells: dict[tuple[int, float], str], label: Callable[[int], str]) -> Table:
    epsilons: Sequence[float] = sorted({epsilon for _, epsilon in cells})
    table = Table("d", *(f"radius {epsilon}" for epsilon in epsilons))
    for column in table.columns:
        column.justify = "right"
    for tokens in sorted({tokens for tokens, _ in cells}):
        table.add_row(label(tokens), *(cells.get((tokens, epsilon), "") for epsilon in epsilons))
    return table


def _at_least(cell: WorstCase) -> str:
    if cell.passes_to_detect is None:
        return "0"
    return f"{rounding.probability_at_least(cell.unsafe_probability_at_least)} ({cell.passes_to_detect:,})"
