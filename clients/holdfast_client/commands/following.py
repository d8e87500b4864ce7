"""A certification on the command line: submitted, shown while it runs, cancelled by Ctrl-C."""

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from holdfast.contract.jobs import Issued, Progress
from holdfast.contract.problems import ProblemError
from holdfast_client.certification import Certification
from holdfast_client.errors import ConnectionFailedError, UnexpectedAnswerError
from holdfast_client.render import watch

C = TypeVar("C", bound=Issued)

_WITHIN_S = 1.0  # whoever interrupts does not wait


def follow(
    submit: Callable[[], Certification[C]], messages: Console, tell: Callable[[Progress], str] | None
) -> C | None:
    """Submits, and waits for the certificate behind a progress bar with what `tell` says beside it, or without one.

    Returns:
        The certificate; None where Ctrl-C ended the wait.

    Raises:
        ProblemError: the certification failed; the class says why.
        CertificationCancelledError: someone else cancelled it.
    """
    certification = None
    try:
        certification = submit()
        messages.print(f"{certification.id} is submitted; Ctrl-C cancels it")
        if tell is not None:
            watch(certification, messages, tell)
        else:
            deque(certification, maxlen=0)
        return certification.wait()
    except ConnectionFailedError as error:
        if certification is not None:
            error.add_note(f"{certification.id} goes on if the service's queue is in Redis; without one, it is lost")
        raise
    except KeyboardInterrupt:
        messages.print(_interrupted(certification), soft_wrap=True)
        return None


def _interrupted(certification: Certification[C] | None) -> str:
    if certification is None:
        return "interrupted before the service answered; if it took the input, it certifies it for nobody"
    try:
        certification.cancel(_WITHIN_S)
    except (ProblemError, ConnectionFailedError, UnexpectedAnswerError) as error:
        return f"interrupted; {certification.id} could not be cancelled: {error}"
    return f"interrupted; {certification.id} is cancelled"
