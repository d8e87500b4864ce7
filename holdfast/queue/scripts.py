"""Runs the scripts by which several keys change at once; each `.lua` file says what it takes and answers."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from holdfast.queue.broker import AsyncRedis

Script = Literal["ask", "issue", "complete", "requeue", "finish", "settle"]


async def run(redis: AsyncRedis, script: Script, keys: Sequence[str], *args: str | bytes | int) -> Any:
    """Runs a script and gives what it answers."""
    return await redis.register_script(_text(script))(keys=keys, args=args)


@cache
def _text(script: Script) -> str:
    return files(__package__).joinpath(f"{script}.lua").read_text("utf-8")
