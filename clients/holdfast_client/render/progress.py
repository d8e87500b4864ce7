"""A running certification on a terminal."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from holdfast.contract.jobs import Progress
from holdfast_client.render import rounding

_SHOWN = 9  # radii of one line of 80 columns


def progress_in_short(progress: Progress) -> str:
    """The verdict so far and its frontier, in one line."""
    frontier, radii = progress.frontier, {radius for radius in progress.frontier if radius is not None}
    if progress.verdict == "abstained" or not radii:
        return "nothing certified yet"
    if max(radii) == 0:
        last = max(tokens for tokens, radius in enumerate(frontier) if radius is not None)
        return f"{progress.verdict} so far, certified to d={last}"
    if len({*frontier}) == 1:
        every = f" at every d to {len(frontier) - 1}" if len(frontier) > 1 else ""
        return f"{progress.verdict} so far, radius {rounding.radius(*radii)}{every}"
    shown = " ".join("-" if radius is None else rounding.radius(radius) for radius in frontier[:_SHOWN])
    return f"{progress.verdict} so far, radii {shown}{' ...' if len(frontier) > _SHOWN else ''}"


def feature_progress_in_short(progress: Progress) -> str:
    """The radius so far of the first cosine floor, in one line."""
    radius = progress.frontier[0] if progress.frontier else None
    return "no radius yet" if radius is None else f"radius {rounding.radius(radius)} so far"


def watch(
    certification: Iterable[Progress], console: Console, tell: Callable[[Progress], str] = progress_in_short
) -> None:
    """Shows a certification's progress until it has ended; silent where the console is no terminal."""
    if not console.is_terminal:
        deque(certification, maxlen=0)
        return
    bars = Bars(BarColumn(), MofNCompleteColumn(), TextColumn("draws{task.fields[pace]}"), console=console)
    task, started = bars.add_task("", total=None, pace=""), time.monotonic()
    with Live(Group(bars, "waiting for the first draws"), console=console, transient=True) as live:
        for progress in certification:
            pace = _pace(progress, time.monotonic() - started)
            bars.update(task, completed=progress.draws, total=progress.max_draws, pace=pace)
            live.update(Group(bars, Text(tell(progress))))


def _pace(progress: Progress, elapsed_s: float) -> str:
    """How long the rest may take, or how fast it goes where nothing is known of that."""
    if progress.seconds_left is None:
        return f", {progress.draws / max(elapsed_s, 1e-3):,.0f}/s"
    return f", up to {math.ceil(progress.seconds_left):,} s left on the device"
