"""How the SDK talks to the gateway: retries, problems, server-sent events."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import ValidationError

from holdfast.contract.problems import Problem, ProblemError, problem_error
from holdfast_client.errors import ConnectionFailedError, UnexpectedAnswerError

__all__ = ["DEFAULT_URL", "ServerEvent", "Wire"]

DEFAULT_URL = "http://127.0.0.1:8420"

T = TypeVar("T")

_PAUSES_S = (0.1, 0.3, 0.9)
_SILENCE_S = 60.0  # the gateway sends a comment far more often; a stream silent for longer is taken for dropped
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
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
        self._stream_timeout = httpx.Timeout(timeout_s, read=max(timeout_s, _SILENCE_S))

    def close(self) -> None:
        """Closes the pool."""
        self._http.close()

    def status(self, path: str) -> int:
        """The status of one GET, whatever it says; tried once."""
        try:
            return self._http.get(path).status_code
        except httpx.RequestError as error:
            raise self._broken(error) from error

    def get(self, path: str, parse: Callable[[bytes], T]) -> T:
        """The parsed answer of a GET, which is asked again where the connection fails."""
        return self.parsed(parse, self._ask("GET", path, None, again=httpx.TransportError))

    def send(self, method: str, path: str, parse: Callable[[bytes], T], *, body: str | None = None) -> T:
        """The parsed answer of a call that acts; sent again only where it cannot have been received."""
        return self.parsed(parse, self._ask(method, path, body, again=_UNSENT))

    def events(self, path: str) -> Iterator[ServerEvent]:
        """Yields the events of one stream for ever, resuming after the last one where the connection drops."""
        last_id, pauses = "", iter(_PAUSES_S)
        while True:
            dropped: httpx.RequestError | None = None
            try:
                for event in self._stream(path, last_id):
                    last_id, pauses = event.id or last_id, iter(_PAUSES_S)
                    yield event
            except httpx.RequestError as error:
                dropped = error
            if (pause := next(pauses, None)) is None:
                raise self._broken(dropped) from dropped
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

    def _ask(
        self, method: str, path: str, body: str | None, *, again: type[Exception] | tuple[type[Exception], ...]
    ) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        for pause in (*_PAUSES_S, None):
            try:
                response = self._http.request(method, path, content=body, headers=headers)
            except httpx.RequestError as error:
                if pause is None or not isinstance(error, again):
                    raise self._broken(error) from error
                time.sleep(pause)
            else:
                return self._accepted(response).content
        raise AssertionError("the last attempt returns or raises")

    def _stream(self, path: str, last_id: str) -> Iterator[ServerEvent]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with self._http.stream("GET", path, headers=headers, timeout=self._stream_timeout) as response:
            if not response.is_success:
                response.read()
            yield from _parse_events(self._accepted(response).iter_lines())

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

    def _broken(self, error: httpx.RequestError | None) -> ConnectionFailedError:
        name = "the stream ended" if error is None else type(error).__name__
        if isinstance(error, _UNSENT):
            return ConnectionFailedError(
                f"no service answers at {self.url} ({name}); start one with `holdfast serve`, or give the URL of a"
                " running one (--url, HOLDFAST_URL)"
            )
        return ConnectionFailedError(
            f"the connection to {self.url} broke before the answer was complete ({name}); the service may have taken"
            " the request: see its log, then ask again"
        )


def _service_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConnectionFailedError(f"the service's URL must be like {DEFAULT_URL}; correct --url or HOLDFAST_URL")
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
