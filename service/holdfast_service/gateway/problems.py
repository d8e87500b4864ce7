"""Every refusal in one wire shape: exceptions in, `application/problem+json` out (RFC 9457)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from holdfast.contract.problems import (
    FieldError,
    InternalError,
    InvalidValueError,
    MalformedRequestError,
    MethodNotAllowedError,
    MissingFieldError,
    NotFoundError,
    ProblemError,
    QueueFullError,
    QueueUnreachableError,
    UnknownFieldError,
)

PROBLEM_JSON = "application/problem+json"
_MAX_ERRORS = 20
_KINDS: dict[str, type[ProblemError]] = {"missing": MissingFieldError, "extra_forbidden": UnknownFieldError}
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def problem_response(error: ProblemError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The response that a problem is, for the request of this id."""
    all_headers = dict(headers or {})
    if error.retry_after_s is not None:
        all_headers["Retry-After"] = str(error.retry_after_s)
    body = error.problem(f"urn:holdfast:request:{request_id}").model_dump_json()
    return Response(body, error.status, all_headers, PROBLEM_JSON)


def documented(*errors: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of the problems that a route may answer with."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    titles: dict[int | str, list[str]] = {}
    for error in errors:
        titles.setdefault(error.status, []).append(error.title)
    return {status: {"description": "; ".join(names), "content": content} for status, names in titles.items()}


def handle_problems(app: FastAPI) -> None:
    """Makes the app answer every expected exception with a problem; the unexpected are the middleware's."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> Response:
        return problem_response(error, request.state.request_id)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        return problem_response(_invalid(error.errors()), request.state.request_id)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return problem_response(_framework(error), request.state.request_id, error.headers)

    @app.exception_handler(RedisConnectionError)
    @app.exception_handler(RedisTimeoutError)
    @app.exception_handler(TimeoutError)
    async def _unreachable(request: Request, error: Exception) -> Response:
        problem = QueueUnreachableError("the queue does not answer; try again in a few seconds", retry_after_s=5)
        return problem_response(problem, request.state.request_id)

    @app.exception_handler(OutOfMemoryError)
    async def _full(request: Request, error: OutOfMemoryError) -> Response:
        problem = QueueFullError("the queue's memory is full; try again when jobs have ended", retry_after_s=30)
        return problem_response(problem, request.state.request_id)


def _framework(error: HTTPException) -> ProblemError:
    if isinstance(error.__cause__, ProblemError):  # what reading the body raised, which FastAPI turns into a 400
        return error.__cause__
    if error.status_code == 404:
        return NotFoundError("no such route; /docs lists the routes")
    if error.status_code == 405:
        return MethodNotAllowedError("this route does not take this method; the Allow header lists those it takes")
    if error.status_code == 400:
        return MalformedRequestError(_unreadable(error.__cause__))
    return InternalError(f"unexpected status {error.status_code}")


def _unreadable(cause: BaseException | None) -> str:
    if isinstance(cause, UnicodeDecodeError):
        return "the body must be UTF-8; encode it so"
    if isinstance(cause, RecursionError):
        return "the body's JSON is nested too deeply; send the documented fields only"
    return "the body cannot be read as JSON; send a JSON object"


def _invalid(errors: Sequence[Mapping[str, Any]]) -> ProblemError:
    first = errors[0]
    if first["type"] == "json_invalid":
        return MalformedRequestError(
            f"the body is not JSON: {first['ctx']['error']} (character {first['loc'][-1]}); send a JSON object"
        )
    kinds = {_KINDS.get(error["type"], InvalidValueError) for error in errors}
    # A misspelt field is missing where it belongs: the one explains the other.
    kind = next(kind for kind in (InvalidValueError, UnknownFieldError, MissingFieldError) if kind in kinds)
    found = [FieldError(path=_path(error["loc"]), message=_message(error["msg"])) for error in errors[:_MAX_ERRORS]]
    return kind("; ".join(f"{error.path}: {error.message}" for error in found), errors=found)


def _path(loc: Sequence[str | int]) -> str:
    """A dotted path; a field name that no schema of ours would have is the client's text and stays out."""
    where, *rest = (str(part) if isinstance(part, int) or _FIELD_NAME.fullmatch(part) else "?" for part in loc)
    return ".".join(rest) if where == "body" and rest else ".".join((where, *rest))


def _message(message: str) -> str:
    return message.removeprefix("Value error, ")
