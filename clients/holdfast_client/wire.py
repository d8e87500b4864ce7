"""How the SDK talks to the gateway: retries, problems, server-sent events."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import ValidationError

from holdfast.contract.problems import Problem, ProblemError, QueueUnreachableError, problem_error
from holdfast_client.errors import ConnectionFailedError, ServiceUnreachableError, UnexpectedAnswerError

__all__ = ["BRIEFLY_S", "DEFAULT_URL", "PATIENTLY_S", "ServerEvent", "Wire"]

DEFAULT_URL = "http://127.0.0.1:8420"

T = TypeVar("T")

BRIEFLY_S = (0.1, 0.3, 0.9)
"""Pauses before asking again, where perhaps no service runs."""
PATIENTLY_S = (0.1, 0.3, 0.9, 3.0, 6.0)
"""Pauses before asking again about a job that is running: long enough for a gateway or a queue to restart."""

_SILENCE_S = 60.0  # the gateway sends a comment far more often; a stream silent for longer is taken for dropped
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_PASSING = (ConnectionFailedError, QueueUnreachableError)
_UNPROXIED: dict[str, httpx.BaseTransport | None] = {"all://127.0.0.1": None, "all://localhost": None}


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event; `id` resumes after it, where it has one."""

    id: str
    name: str
    data: str


class Wire:
    """One connection pool to one gateway."""

    def __init__(self, base_url: str | None, *, timeout_s: float, transport: httpx.BaseTransport | None) -> None:
        url = _service_url(base_url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL)
        self.url = str(url.copy_with(userinfo=b""))
        self._http = httpx.Client(base_url=url, timeout=timeout_s, transport=transport, mounts=_UNPROXIED)
        self._timeout_s = timeout_s
        self._stream_timeout = httpx.Timeout(timeout_s, read=max(timeout_s, _SILENCE_S))

    def close(self) -> None:
        """Closes the pool."""
        self._http.close()

    def status(self, path: str) -> int:
        """The status of one GET, whatever it says; tried once."""
        with self._told():
            return self._http.get(path).status_code

    def get(self, path: str, parse: Callable[[bytes], T], *, pauses_s: Sequence[float] = BRIEFLY_S) -> T:
        """The parsed answer of a GET, which is asked again where the connection or the queue fails."""
        for pause in pauses_s:
            try:
                return self._once("GET", path, parse)
            except _PASSING:
                time.sleep(pause)
        return self._once("GET", path, parse)

    def send(
        self, method: str, path: str, parse: Callable[[bytes], T], *, body: str | None = None, kept_back_s: float = 0.0
    ) -> T:
        """The parsed answer of a call that acts; sent again only where it cannot have been received.

        `kept_back_s`: how long the service may keep the answer back until there is one.
        """
        for pause in BRIEFLY_S:
            try:
                return self._once(method, path, parse, body, kept_back_s)
            except ServiceUnreachableError:
                time.sleep(pause)
        return self._once(method, path, parse, body, kept_back_s)

    def events(self, path: str) -> Iterator[ServerEvent]:
        """Yields a stream's events, resuming after the last one where the connection or the queue fails."""
        last_id, pauses = "", iter(PATIENTLY_S)
        while True:
            try:
                for event in self._stream(path, last_id):
                    last_id, pauses = event.id or last_id, iter(PATIENTLY_S)
                    yield event
                return
            except _PASSING:
                if (pause := next(pauses, None)) is None:
                    raise
                time.sleep(pause)

    def parsed(self, parse: Callable[[bytes], T], body: bytes) -> T:
        """What `parse` makes of the body.

        Raises:
            UnexpectedAnswerError: the body is not what the contract says.
        """
        try:
            return parse(body)
        except ValidationError as error:
            raise self._unexpected("an answer", error.errors(include_input=False)[0]["msg"]) from None

    def _once(
        self, method: str, path: str, parse: Callable[[bytes], T], body: str | None = None, kept_back_s: float = 0.0
    ) -> T:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        timeout = httpx.Timeout(self._timeout_s, read=self._timeout_s + kept_back_s)
        with self._told():
            response = self._http.request(method, path, content=body, headers=headers, timeout=timeout)
        return self.parsed(parse, self._accepted(response).content)

    def _stream(self, path: str, last_id: str) -> Iterator[ServerEvent]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = self._stream_timeout
        with self._told(), self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
            if self._accepted(response).status_code == httpx.codes.NO_CONTENT:
                return  # the job has ended, and all its events were seen
            yield from _parse_events(response.iter_lines())
        raise self._broken("the stream ended")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns the errors of httpx into ours."""
        try:
            yield
        except _UNSENT as error:
            raise ServiceUnreachableError(
                f"no service answers at {self.url} ({type(error).__name__}); start one with `holdfast serve`, or give"
                " the URL of a running one (--url, HOLDFAST_URL)"
            ) from error
        except httpx.RequestError as error:
            raise self._broken(type(error).__name__) from error

    def _broken(self, how: str) -> ConnectionFailedError:
        return ConnectionFailedError(
            f"the connection to {self.url} broke before the answer was complete ({how}); the service may have taken"
            " the request: see its log, then ask again"
        )

    def _accepted(self, response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            raise self._refusal(response)
        return response

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


def _service_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ServiceUnreachableError(f"the service's URL must be like {DEFAULT_URL}; correct --url or HOLDFAST_URL")
    return url


def _parse_events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """The events of an event stream (WHATWG HTML, section 9.2.6); an event cut short by the end is dropped."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            event_id, kind = fields.get("id", [""])[-1], fields.get("event", ["message"])[-1]
            yield ServerEvent(event_id, kind, "\n".join(fields["data"]))
        fields = {}
