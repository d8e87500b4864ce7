"""A submitted certification on the command line: shown while it runs, cancelled by Ctrl-C."""

from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from holdfast.contract.jobs import Progress
from holdfast.contract.problems import ProblemError
from holdfast_client.certification import Certification
from holdfast_client.errors import ConnectionFailedError, UnexpectedAnswerError
from holdfast_client.render import watch

__all__ = ["follow"]

C = TypeVar("C")


def follow(certification: Certification[C], messages: Console, tell: Callable[[Progress], str] | None) -> C | None:
    """Waits for the certificate, behind a progress bar with what `tell` says beside it, or without one.

    Returns:
        The certificate; None where Ctrl-C cancelled the certification.

    Raises:
        ProblemError: the certification failed; the class says why.
        CertificationCancelledError: someone else cancelled it.
    """
    try:
        messages.print(f"{certification.id} is submitted; Ctrl-C cancels it")
        if tell is not None:
            watch(certification, messages, tell)
        return certification.wait()
    except KeyboardInterrupt:
        messages.print(_cancelled(certification))
        return None


def _cancelled(certification: Certification[C]) -> str:
    try:
        certification.cancel()
    except (ProblemError, ConnectionFailedError, UnexpectedAnswerError) as error:
        return f"interrupted; {certification.id} could not be cancelled: {error}"
    return f"interrupted; {certification.id} is cancelled"
