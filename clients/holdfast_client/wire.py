"""The two ways to the service, without `await` and with it; what is alike is in `calls`, `service` and `events`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from holdfast.contract.problems import ProblemError
from holdfast_client.errors import ConnectionFailedError, UnexpectedAnswerError
from holdfast_client.events import Following, ServerEvent
from holdfast_client.service import PASSING, Ask, Service, Steps

T = TypeVar("T")

_SILENCE_S = 60.0  # the gateway sends a comment far more often; a stream silent for longer is taken for dropped
_DIRECTLY = ("all://127.0.0.1", "all://localhost")  # never through a proxy


_TOLD = (ProblemError, ConnectionFailedError, UnexpectedAnswerError)


@dataclass(frozen=True)
class Returned(Generic[T]):
    """What the steps came to."""

    value: T


class Wire:
    """One connection pool to one service."""

    def __init__(self, service: Service, timeout_s: float, transport: httpx.BaseTransport | None) -> None:
        self.service, self._timeout_s = service, timeout_s
        direct: dict[str, httpx.BaseTransport | None] = dict.fromkeys(_DIRECTLY)
        self._http = httpx.Client(base_url=service.base, transport=transport, mounts=direct)

    def close(self) -> None:
        """Closes the pool."""
        self._http.close()

    def run(self, steps: Steps[T]) -> T:
        """Goes through the steps, to what they return."""
        with closing(steps):
            answer: Any = None
            while not isinstance(step := _next(steps, answer), Returned):
                answer = None
                try:
                    if isinstance(step, Ask):
                        answer = self._ask(step)
                    else:
                        time.sleep(step)
                except _TOLD as error:
                    answer = error
            return step.value

    def _ask(self, ask: Ask[T]) -> T:
        with self.service.telling():
            response = self._http.request(**_request(ask, self._timeout_s))
        return self.service.answer(ask, response)

    def events(self, path: str) -> Iterator[ServerEvent]:
        """Yields a stream's events, resuming after the last one where the connection or the queue fails."""
        following = Following()
        while True:
            request = _stream(path, following, self._timeout_s)
            try:
                with self.service.telling(), self._http.stream(**request) as response:
                    if not response.is_success:
                        response.read()
                    if self.service.accepted(response).status_code == httpx.codes.NO_CONTENT:
                        return  # the job has ended, and all its events were seen
                    for line in response.iter_lines():
                        if (event := following.read(line)) is not None:
                            yield event
                raise self.service.broken("the stream ended")
            except PASSING as error:
                time.sleep(following.pause_s(error))


class AsyncWire:
    """The same with `await`."""

    def __init__(self, service: Service, timeout_s: float, transport: httpx.AsyncBaseTransport | None) -> None:
        self.service, self._timeout_s = service, timeout_s
        direct: dict[str, httpx.AsyncBaseTransport | None] = dict.fromkeys(_DIRECTLY)
        self._http = httpx.AsyncClient(base_url=service.base, transport=transport, mounts=direct)

    async def close(self) -> None:
        """Closes the pool."""
        await self._http.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """Goes through the steps, to what they return."""
        with closing(steps):
            answer = None
            while not isinstance(step := _next(steps, answer), Returned):
                try:
                    answer = await (self._ask(step) if isinstance(step, Ask) else asyncio.sleep(step))
                except _TOLD as error:
                    answer = error
            return step.value

    async def _ask(self, ask: Ask[T]) -> T:
        with self.service.telling():
            response = await self._http.request(**_request(ask, self._timeout_s))
        return self.service.answer(ask, response)

    async def events(self, path: str) -> AsyncGenerator[ServerEvent, None]:
        """Yields a stream's events, resuming after the last one where the connection or the queue fails."""
        following = Following()
        while True:
            request = _stream(path, following, self._timeout_s)
            try:
                with self.service.telling():
                    async with self._http.stream(**request) as response:
                        if not response.is_success:
                            await response.aread()
                        if self.service.accepted(response).status_code == httpx.codes.NO_CONTENT:
                            return
                        async for line in response.aiter_lines():
                            if (event := following.read(line)) is not None:
                                yield event
                raise self.service.broken("the stream ended")
            except PASSING as error:
                await asyncio.sleep(following.pause_s(error))


def _next(steps: Steps[T], answer: Any) -> Ask[Any] | float | Returned[T]:
    """The step after the one that was answered so, or failed."""
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as end:
        return Returned(end.value)


def _request(ask: Ask[Any], timeout_s: float) -> dict[str, Any]:
    """What httpx is asked to send."""
    at_most_s = timeout_s if ask.timeout_s is None else ask.timeout_s
    return {
        "method": ask.method,
        "url": ask.path,
        "content": ask.body,
        "headers": {} if ask.body is None else {"Content-Type": "application/json"},
        "timeout": httpx.Timeout(at_most_s, read=at_most_s + ask.kept_back_s),
    }


def _stream(path: str, following: Following, timeout_s: float) -> dict[str, Any]:
    timeout = httpx.Timeout(timeout_s, read=max(timeout_s, _SILENCE_S))
    return {"method": "GET", "url": path, "headers": following.headers(), "timeout": timeout}
