"""The service as its clients see it: what is asked of it, and how its answers and failures are read."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

import httpx
from pydantic import ValidationError

from holdfast.contract.problems import Problem, ProblemError, QueueUnreachableError, problem_error
from holdfast_client.errors import ConnectionFailedError, ServiceUnreachableError, UnexpectedAnswerError

DEFAULT_URL = "http://127.0.0.1:8420"

BRIEFLY_S = (0.1, 0.3, 0.9)
"""Pauses before asking again, where perhaps no service runs."""
PATIENTLY_S = (0.1, 0.3, 0.9, 3.0, 6.0)
"""Pauses before asking again about a job that is running: long enough for a gateway or a queue to restart."""
PASSING = (ConnectionFailedError, QueueUnreachableError)
"""What may be over when it is asked again."""

_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

T = TypeVar("T")


@dataclass(frozen=True)
class Ask(Generic[T]):
    """One request, and how its answer is read.

    `kept_back_s`: how long the service may keep the answer back until there is one. `timeout_s`: how long to connect,
    and to be answered, at the most; the client's own, if not given.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    body: str | bytes | None = field(default=None, repr=False)
    kept_back_s: float = 0.0
    timeout_s: float | None = None


Steps: TypeAlias = Generator[Ask[Any] | float, Any, T]
"""What is to be done until there is a `T`: requests, whose answers or errors it is sent, and seconds to pause for."""


@dataclass(frozen=True)
class Service:
    """One service by its URL."""

    base: httpx.URL

    @classmethod
    def at(cls, text: str | None) -> "Service":
        """The service at this URL, at the environment's `HOLDFAST_URL`, or at the default one.

        Raises:
            ServiceUnreachableError: that is no URL.
        """
        try:
            url = httpx.URL(text or os.environ.get("HOLDFAST_URL") or DEFAULT_URL)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ServiceUnreachableError(
                f"the service's URL must be like {DEFAULT_URL}; correct --url or HOLDFAST_URL"
            )
        return cls(url)

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        return str(self.base.copy_with(userinfo=b""))

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turns the errors of httpx into ours."""
        try:
            yield
        except _UNSENT as error:
            raise ServiceUnreachableError(
                f"no service answers at {self.url} ({type(error).__name__}); start one with `holdfast serve`, or give"
                " the URL of a running one (--url, HOLDFAST_URL)"
            ) from error
        except httpx.RequestError as error:
            raise self.broken(type(error).__name__) from error

    def broken(self, how: str) -> ConnectionFailedError:
        """The error of a connection that ended so."""
        return ConnectionFailedError(
            f"the connection to {self.url} broke before the answer was complete ({how}); the service may have taken"
            " the request: see its log, then ask again"
        )

    def accepted(self, response: httpx.Response) -> httpx.Response:
        """The response, which has been read.

        Raises:
            ProblemError: the service refused.
            UnexpectedAnswerError: it refused, and not in the words of the contract.
        """
        if not response.is_success:
            raise self._refusal(response)
        return response

    def answer(self, ask: Ask[T], response: httpx.Response) -> T:
        """What the response, which has been read, answers; raises what `accepted` and `parsed` do."""
        return self.parsed(ask.read, self.accepted(response).content)

    def parsed(self, read: Callable[[bytes], T], body: bytes) -> T:
        """What `read` makes of the body.

        Raises:
            UnexpectedAnswerError: the body is not what the contract says.
        """
        try:
            return read(body)
        except ValidationError as error:
            raise self._unexpected("an answer", error.errors(include_input=False)[0]["msg"]) from None

    def _refusal(self, response: httpx.Response) -> ProblemError | UnexpectedAnswerError:
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            return self._unexpected(f"status {response.status_code}", "it carries no problem document")
        retry_after = response.headers.get("Retry-After", "")
        return problem_error(problem, retry_after_s=int(retry_after) if retry_after.isdecimal() else None)

    def _unexpected(self, what: str, why: str) -> UnexpectedAnswerError:
        return UnexpectedAnswerError(
            f"{self.url} gave {what} that is not of this contract ({why}); check that the URL is that of a Holdfast"
            " service and that its version fits the client's"
        )
