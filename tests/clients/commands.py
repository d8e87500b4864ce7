"""The command line as a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.waiting import PATIENCE_S

__all__ = ["interrupted", "started", "submitted"]


@contextmanager
def started(argv: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """The command while it runs; it is gone at the end."""
    command = [sys.executable, "-m", "holdfast_client", *argv]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(argv: list[str], meanwhile: Callable[[], object] = lambda: None) -> tuple[str, str, str]:
    """Interrupts a command once it has submitted, and `meanwhile` is done: the job's id, output and messages."""
    with started(argv) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        meanwhile()
        process.send_signal(signal.SIGINT)
        out, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, line + messages
    assert "Traceback" not in messages
    return line.split()[0], out, messages


def submitted(argv: list[str]) -> str:
    """Submits with these arguments, interrupts the wait, and returns the job's id."""
    return interrupted(argv)[0]


def _heed_interrupts() -> None:
    """A shell makes what it starts in the background ignore them, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
