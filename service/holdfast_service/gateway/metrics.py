"""What the gateway counts, and the middleware that counts it: no label takes a value that a client can make up."""

import logging
import re
import time
import uuid
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from holdfast.contract.problems import InternalError
from holdfast_service.gateway.problems import problem_response

_log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Metrics:
    """One app's metrics in a registry of its own."""

    registry: CollectorRegistry
    requests: Counter
    duration: Histogram
    queue_up: Gauge
    jobs_active: Gauge
    live_workers: Gauge
    loading_workers: Gauge


def new_metrics() -> Metrics:
    """Fresh metrics, all at zero."""
    registry = CollectorRegistry()
    return Metrics(
        registry,
        Counter(
            "holdfast_http_requests",
            "Requests answered, by route template, method and status.",
            ("route", "method", "status"),
            registry=registry,
        ),
        Histogram(
            "holdfast_http_request_duration_seconds",
            "Seconds from a request to the end of its response.",
            ("route", "method"),
            buckets=_SECONDS,
            registry=registry,
        ),
        Gauge("holdfast_queue_up", "1 where the queue answered this scrape, else 0.", registry=registry),
        Gauge("holdfast_jobs_active", "Jobs queued or running; NaN where unknown.", registry=registry),
        Gauge("holdfast_live_workers", "Live workers that serve a model; NaN where unknown.", registry=registry),
        Gauge("holdfast_loading_workers", "Live workers that load a model; NaN where unknown.", registry=registry),
    )


class Observed:
    """ASGI middleware, the outermost: gives requests their id, counts them, and answers for what nobody caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - the ASGI protocol
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        started = time.perf_counter()
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            _log.exception("request %s failed", request_id, extra={"request_id": request_id})
            if status:
                raise  # too late for a problem: the server breaks the connection off
            error = InternalError(f"request {request_id} met a defect of the service; report it with this id")
            await problem_response(error, request_id)(scope, receive, send_with_id)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        self._metrics.duration.labels(route, method).observe(seconds)
        _log.info(
            "%s %s: %d in %.3f s", method, route, status, seconds, extra={"request_id": scope["state"]["request_id"]}
        )


def _request_id(scope: Scope) -> str:
    asked = Headers(scope=scope).get("x-request-id", "")
    return asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
