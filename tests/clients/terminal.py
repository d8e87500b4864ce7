"""A terminal to show things on."""

import io

from rich.console import Console, RenderableType

__all__ = ["shown"]


def shown(view: RenderableType, *, encoding: str = "utf-8", width: int = 100) -> str:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, write_through=True) as file:
        Console(file=file, width=width).print(view)
        return raw.getvalue().decode(encoding)
