"""The command line as a process of its own."""

import signal
import subprocess
import sys

__all__ = ["interrupted", "submitted"]


def interrupted(argv: list[str]) -> tuple[str, str, str]:
    """Interrupts a command once it has submitted: the job's id, what was printed, and the messages."""
    command = [sys.executable, "-m", "holdfast_client", *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, preexec_fn=_heed_interrupts) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, messages = process.communicate(timeout=20)
    assert process.returncode == 130, line + messages
    return line.split()[0], out, messages


def _heed_interrupts() -> None:
    """A shell makes what it starts in the background ignore them, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def submitted(argv: list[str]) -> str:
    """Submits with these arguments, interrupts the wait, and returns the job's id."""
    return interrupted(argv)[0]
