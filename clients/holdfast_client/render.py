"""Certificates, problems and progress on a terminal."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from holdfast.contract.certificates import Certificate, FrontierPoint, Progress, Stopped, WorstCase
from holdfast.contract.models import ModelInfo
from holdfast.contract.problems import ProblemError
from holdfast_client import rounding

__all__ = ["FrontierPlot", "certificate_view", "frontier_in_short", "models_table", "problem_view", "terminal", "watch"]

_STOPPED: dict[Stopped, str] = {
    "tolerance": "stopped early: no radius can grow by more than the tolerance",
    "not_certifiable": "stopped early: the rest would not certify this input",
    "passes_spent": "all that were allowed",
}
_EIGHTHS = " ▏▎▍▌▋▊▉"


def terminal(*, stderr: bool = False) -> Console:
    """A console that shows every text as it is: markup in it is not obeyed."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


@dataclass(frozen=True)
class FrontierPlot:
    """The frontier as bars: tokens d downwards, image radius to the right; bars are cut, never rounded up."""

    frontier: Sequence[FrontierPoint]

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
        yield Text(f"{'':{margin}}  0{'image radius':^{width - 1 - len(str(end))}}{end}")


def _bar(
    point: FrontierPoint, share: float | None, width: int, ascii_only: bool
) -> tuple[tuple[str, str], tuple[str, str]]:
    if share is None or point.radius is None:
        return ("", ""), (" not certified", "dim")
    eighths = int(share * width * 8)
    bar = "#" * (eighths // 8) if ascii_only else "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return (bar, "cyan"), (f" {rounding.radius(point.radius)}", "")


def certificate_view(certificate: Certificate) -> RenderableType:
    """Everything that a certificate says, in the order in which people ask."""
    parts: list[RenderableType] = [_summary(certificate), "", _frontier_table(certificate)]
    if certificate.max_tokens is not None:
        parts += ["", FrontierPlot(certificate.frontier)]
    if any(cell.unsafe_probability_at_least > 0 for cell in certificate.worst_case):
        parts += ["", _worst_case_table(certificate.worst_case)]
    return Group(*parts, "", *(Text(line, style="dim") for line in certificate.notice))


def _summary(certificate: Certificate) -> Table:
    evidence, noise = certificate.evidence, certificate.noise
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Verdict", _verdict(certificate))
    grid.add_row("Passes", f"{evidence.passes:,} ({_STOPPED[evidence.stopped]})")
    grid.add_row("Alpha", f"{evidence.alpha} (risk that any number here is wrong)")
    grid.add_row("Guard", Text(f"{certificate.model.name} {certificate.model.fingerprint}", overflow="fold"))
    kernel = f"{noise.token_kernel} token kernel, beta={noise.beta}, sigma={noise.sigma}, tau={certificate.tau}"
    grid.add_row("Smoothing", kernel)
    if (flag := certificate.false_flag) is not None:
        share = f"at most {rounding.share_at_most(flag.rate_at_most)} at alpha={flag.alpha}"
        grid.add_row("False flags", f"{share} ({flag.flagged} of {flag.scenes:,} flagged, {flag.measured_on})")
    grid.add_row("Id", certificate.id)
    return grid


def _verdict(certificate: Certificate) -> Text:
    if certificate.verdict == "abstained" or certificate.max_tokens is None:
        return Text("abstained: nothing is certified", style="bold yellow")
    slots = certificate.threat.slots
    return Text(f"unsafe: certified against up to {certificate.max_tokens} of {slots} tokens", style="bold red")


def _frontier_table(certificate: Certificate) -> RenderableType:
    space = certificate.space
    low, high = space.range
    unit = f"L2, {space.channels} x {space.height} x {space.width} pixels in [{low:g}, {high:g}]"
    table = Table("d", "image radius", "method")
    table.columns[0].justify = table.columns[1].justify = "right"
    for point in certificate.frontier:
        radius = Text("not certified", style="dim") if point.radius is None else rounding.radius(point.radius)
        table.add_row(str(point.tokens), radius, point.method or "")
    return Group(f"Frontier: attacker tokens d against certified image radius ({unit})", table)


def _worst_case_table(worst_case: Sequence[WorstCase]) -> RenderableType:
    cells = {(cell.tokens, cell.epsilon): cell for cell in worst_case}
    epsilons = sorted({epsilon for _, epsilon in cells})
    table = Table("d", *(f"radius {epsilon}" for epsilon in epsilons))
    for column in table.columns:
        column.justify = "right"
    for tokens in sorted({tokens for tokens, _ in cells}):
        table.add_row(str(tokens), *(_worst(cells.get((tokens, epsilon))) for epsilon in epsilons))
    return Group("Worst case: Unsafe probability at least (plain passes that detect it with 99 %)", table)


def _worst(cell: WorstCase | None) -> str:
    if cell is None or cell.passes_to_detect is None:
        return "0"
    return f"{rounding.probability_at_least(cell.unsafe_probability_at_least)} ({cell.passes_to_detect:,})"


def models_table(models: Sequence[ModelInfo]) -> RenderableType:
    """The served guards with their noise space, operating point and limits."""
    if not models:
        return Text("no model is served: no worker is alive")
    table = Table("model", "noise space", "alphabet", "slots", "beta", "sigma", "tau", "passes")
    for model in models:
        space, point = model.space, model.defaults
        table.add_row(
            Text(model.name, overflow="fold"),
            f"{space.channels} x {space.height} x {space.width}",
            f"{model.alphabet_size:,}",
            f"{point.slots} of {model.limits.max_slots}",
            *map(str, (point.beta, point.sigma, point.tau)),
            f"{point.max_passes:,}",
        )
    return Group(table, *(f"{model.name}: {model.fingerprint}" for model in models))


def problem_view(error: Exception) -> Text:
    """An error as people read it: what it is, why, and which fields."""
    if not isinstance(error, ProblemError):
        return Text.assemble(("error: ", "bold red"), str(error))
    lines = [f"\n  {field.path}: {field.message}" for field in error.errors]
    return Text.assemble(("error: ", "bold red"), (error.title, "bold"), f"\n{error.detail}", *lines)


def frontier_in_short(frontier: Sequence[float | None]) -> str:
    """The frontier so far in one line."""
    certified = [(tokens, radius) for tokens, radius in enumerate(frontier) if radius is not None]
    if not certified:
        return "nothing certified yet"
    return f"radius {rounding.radius(certified[0][1])} at d={certified[0][0]}, certified to d={certified[-1][0]}"


def watch(certification: Iterable[Progress], console: Console) -> None:
    """Shows a certification's progress until it has ended; silent where the console is no terminal."""
    pace = TextColumn("passes, {task.fields[rate]:,.0f}/s; {task.fields[found]}")
    started = time.monotonic()
    with Bars(
        BarColumn(), MofNCompleteColumn(), pace, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task("", total=None, rate=0.0, found="waiting for the first passes")
        for progress in certification:
            rate = progress.passes / max(time.monotonic() - started, 1e-3)
            found = frontier_in_short(progress.frontier)
            bars.update(task, completed=progress.passes, total=progress.max_passes, rate=rate, found=found)
