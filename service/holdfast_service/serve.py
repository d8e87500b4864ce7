"""`holdfast serve`: one role of the service, or all of them in one process."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import entry_points
from typing import Any

from holdfast.queue.broker import Broker, connect
from holdfast_service.settings import ServiceSettings

__all__ = ["command", "run"]

ROLES = ("gateway", "certifier", "worker")
_LOG_FIELDS = ("job", "passes", "stopped", "worker", "models", "orders", "request_id", "status")

Role = Callable[[Broker], Awaitable[None]]
_log = logging.getLogger(__name__)


def command(argv: list[str]) -> int:
    """The command line of `holdfast serve`."""
    options = _parser().parse_args(argv)
    for name in ("redis_url", "host", "port", "config"):
        if getattr(options, name) is not None:
            os.environ[f"HOLDFAST_{name.upper()}"] = str(getattr(options, name))
    if options.model:
        os.environ["HOLDFAST_MODELS"] = json.dumps(options.model)
    _log_as_json(options.log_level)
    settings = ServiceSettings()
    roles = ROLES if options.role == "all" else (options.role,)
    if settings.redis_url is None:
        if options.role != "all":
            print(f"--role {options.role} needs --redis-url: an in-process queue has no other process", file=sys.stderr)  # noqa: T201
            return 2
        _log.warning("no Redis URL: the queue lives in this process, and nothing outlasts it")
    broker = connect(settings.redis_url.get_secret_value() if settings.redis_url else None)
    return asyncio.run(run(roles, broker))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast serve",
        description="Serve certifications: gateway, certifier and one worker in this process, or one role of them.",
        epilog="Without --redis-url the queue is in-process and nothing persists. With one, start as many workers, on"
        " as many machines, as you like: holdfast serve --role worker --redis-url redis://queue:6379/0",
    )
    parser.add_argument("--role", choices=("all", *ROLES), default="all", help="what to run here (default: all)")
    parser.add_argument("--redis-url", help="Redis >= 7 to queue in, e.g. redis://127.0.0.1:6379/0")
    parser.add_argument("--host", help="address of the gateway (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port of the gateway (default: 8420)")
    parser.add_argument("--model", action="append", help="guard to serve, may be repeated (default: reference-guard)")
    parser.add_argument("--config", help="TOML file of settings (default: holdfast.toml, if there)")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


async def run(roles: tuple[str, ...], broker: Broker) -> int:
    """Runs the roles until SIGINT, SIGTERM, or the end of one of them; 1 if one failed."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    found = {entry.name: entry for entry in entry_points(group="holdfast.roles")}
    serving: list[Role] = [found[role].load() for role in roles]
    tasks = [asyncio.ensure_future(serve(broker)) for serve in serving]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await _cancel(tasks)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, asyncio.CancelledError)]
    for failure in failures:
        _log.error("a role failed", exc_info=failure)
    return 1 if failures else 0


async def _cancel(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancels until they end: Python 3.11's wait_for swallows a cancellation that meets its result (gh-86296)."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1)


class _JsonLines(logging.Formatter):
    """One JSON object a line; never an input."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _LOG_FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_as_json(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
