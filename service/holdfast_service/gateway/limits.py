"""What is turned away before it is read: bodies over the limit and bodies that are not JSON."""

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.contract.problems import TooLargeError, UnsupportedMediaTypeError
from holdfast_service.gateway.problems import problem_response


class BodyLimit:
    """ASGI middleware: no request body above `max_bytes`, whether its length is announced or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - the ASGI protocol
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > self._max_bytes):
            # Not "Connection: close": closing under a sender resets the connection, and the refusal is lost.
            await problem_response(self._too_large(), scope["state"]["request_id"])(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body must be at most {self._max_bytes} bytes; send a smaller image")


async def require_json(request: Request) -> None:
    """Refuses a body that does not call itself JSON.

    Raises:
        UnsupportedMediaTypeError: the content type is not `application/json`.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaTypeError("Content-Type must be application/json; send the request as JSON")
