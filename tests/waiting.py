"""Waiting for what must come: a condition, never a time, so that a busy machine fails no test."""

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["PATIENCE_S", "eventually", "free_port", "until"]

# How long a test waits for a condition: longer than any machine is busy, and shorter than pytest's own timeout, so that
# what never comes is named.
PATIENCE_S = 600.0

T = TypeVar("T")


def until(condition: Callable[[], T], *, every_s: float = 0.02) -> T:
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{condition} did not come true within {PATIENCE_S} s"
        time.sleep(every_s)
    return found


async def eventually(condition: Callable[[], Awaitable[T]], *, every_s: float = 0.01) -> T:
    """What `condition` returns, awaited, once that is true."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := await condition()):  # noqa: ASYNC110 - what is waited for knows no event
            await asyncio.sleep(every_s)
    return found


def free_port() -> int:
    """A loopback port for a server that is yet to start.

    It is below those that the system gives to connections, and out of a range of this test process's own: nobody takes
    it in between.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = 15_000 + 1000 * (worker % 15) + random.SystemRandom().randrange(1000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
