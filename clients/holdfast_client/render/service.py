"""What the service says of itself: its models and its refusals."""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast.contract.problems import ProblemError


def terminal(*, stderr: bool = False) -> Console:
    """A console that shows every text as it is: markup in it is not obeyed."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def models_table(models: Sequence[GuardInfo | EncoderInfo]) -> RenderableType:
    """The served guards with their noise space, operating point and limits, and the encoders with their heads."""
    if not models:
        return Text("no model is served: no worker is alive")
    guards = [model for model in models if isinstance(model, GuardInfo)]
    encoders = [model for model in models if isinstance(model, EncoderInfo)]
    tables = [table for table in (_guards(guards), _encoders(encoders)) if table.row_count]
    return Group(*(part for table in tables for part in (table, "")), *(f"{m.name}: {m.fingerprint}" for m in models))


def _guards(guards: Sequence[GuardInfo]) -> Table:
    table = Table("model", "noise space", "alphabet", "slots", "beta", "sigma", "tau", "draws", box=None)
    for model in guards:
        point, space, tabular = model.defaults, model.space, model.kind == "tabular"
        table.add_row(
            Text(model.name, overflow="fold"),
            f"{space.width} numeric" if tabular else f"{space.channels} x {space.height} x {space.width}",
            _alphabet(model),
            f"{len(model.alphabets)} fields" if tabular else f"{point.slots} of {model.limits.max_slots}",
            *map(str, (point.beta, point.sigma, point.tau)),
            f"{point.max_draws:,}",
        )
    return table


def _encoders(encoders: Sequence[EncoderInfo]) -> Table:
    table = Table("encoder", "noise space", "feature", "booster", "heads", "sigma", "alpha", "draws", box=None)
    for model in encoders:
        point, space = model.defaults, model.space
        parts = [
            part for part, there in ((model.denoiser, model.denoiser != "none"), ("mapper", model.mapper)) if there
        ]
        table.add_row(
            Text(model.name, overflow="fold"),
            f"{space.channels} x {space.height} x {space.width}",
            f"{model.dimension:,}",
            ", ".join(parts) or "none",
            Text(", ".join(f"{head.name} ({len(head.classes)})" for head in model.heads) or "none", overflow="fold"),
            *map(str, (point.sigma, point.alpha)),
            f"{point.draws:,}",
        )
    return table


def _alphabet(model: GuardInfo) -> str:
    few, many = min(model.alphabets), max(model.alphabets)
    return f"{few:,}" if few == many else f"{few:,} to {many:,}"


def problem_view(error: Exception) -> Text:
    """An error as people read it: what it is, why, and which fields."""
    if not isinstance(error, ProblemError):
        notes = getattr(error, "__notes__", [])
        return Text.assemble(("error: ", "bold red"), "\n".join((str(error), *notes)))
    lines = [f"\n  {field.path}: {field.message}" for field in error.errors]
    return Text.assemble(("error: ", "bold red"), (error.title, "bold"), f"\n{error.detail}", *lines)
