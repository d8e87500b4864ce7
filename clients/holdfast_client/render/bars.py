"""Numbers as bars, which never show more than the number does."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Bar:
    """One bar between its label and its number as text; without a value, the text alone."""

    label: str
    value: float | None
    text: str | Text


@dataclass(frozen=True)
class BarPlot:
    """Bars to the right, one below the other, over an axis from 0 to `end`; bars are cut, never rounded up."""

    bars: Sequence[Bar]
    axis: str
    end: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        edge, corner, rule = "|+-" if options.ascii_only else "│└─"
        margin = max(len(bar.label) for bar in self.bars)
        width = max(10, min(60, options.max_width - margin - 16))
        for bar in self.bars:
            drawn = "" if bar.value is None else _drawn(bar.value / self.end, width, options.ascii_only)
            yield Text.assemble(f"{bar.label:>{margin}} {edge}", (drawn, "cyan"), " ", bar.text)
        yield Text(f"{'':{margin}} {corner}{rule * width}")
        yield Text(f"{'':{margin}}  0{self.axis:^{width - 1 - len(str(self.end))}}{self.end}")


def _drawn(share: float, width: int, ascii_only: bool) -> str:
    eighths = int(share * width * 8)
    return "#" * (eighths // 8) if ascii_only else "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
