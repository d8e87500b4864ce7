"""A running certification on a terminal."""

import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from holdfast.contract.jobs import Progress
from holdfast_client.render import rounding


def progress_in_short(progress: Progress) -> str:
    """The verdict so far and what it is certified against, in one line."""
    certified = [(tokens, radius) for tokens, radius in enumerate(progress.frontier) if radius is not None]
    if progress.verdict == "abstained" or not certified:
        return "nothing certified yet"
    (first, largest), (last, _) = certified[0], certified[-1]
    radius = f", radius {rounding.radius(largest)} at d={first}" if largest > 0 else ""
    return f"{progress.verdict} so far, certified to d={last}{radius}"


def feature_progress_in_short(progress: Progress) -> str:
    """The radius so far of the first cosine floor, in one line."""
    radius = progress.frontier[0] if progress.frontier else None
    return "no radius yet" if radius is None else f"radius {rounding.radius(radius)} so far"


def watch(
    certification: Iterable[Progress], console: Console, tell: Callable[[Progress], str] = progress_in_short
) -> None:
    """Shows a certification's progress until it has ended; silent where the console is no terminal."""
    pace = TextColumn("passes, {task.fields[rate]:,.0f}/s; {task.fields[found]}")
    started = time.monotonic()
    with Bars(
        BarColumn(), MofNCompleteColumn(), pace, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task("", total=None, rate=0.0, found="waiting for the first passes")
        for progress in certification:
            rate = progress.passes / max(time.monotonic() - started, 1e-3)
            found = tell(progress)
            bars.update(task, completed=progress.passes, total=progress.max_passes, rate=rate, found=found)
