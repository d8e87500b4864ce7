"""`holdfast serve`: one role of the service, or all of them in one process."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from holdfast import logs
from holdfast.queue.broker import Broker, connect
from holdfast.roles import Serve, known_roles, read
from holdfast.settings import DEFAULT_FILE, StartError
from holdfast_service.settings import ServiceSettings

ROLES = ("gateway", "certifier", "worker")
_THREADS_END_WITHIN_S = 1.0

Made = TypeVar("Made")
_log = logging.getLogger(__name__)


def command(argv: list[str]) -> int:
    """The command line of `holdfast serve`."""
    options = _parser().parse_args(argv)
    try:
        broker, serving = _started(options)
    except StartError as error:
        sys.stderr.writelines(f"holdfast serve: {line}\n" for line in str(error).splitlines())
        return 2
    logs.as_json(options.log_level)
    if broker.embedded is not None:
        _log.warning("no Redis URL: the queue lives in this process, and nothing outlasts it")
    return asyncio.run(run(serving, broker))


def _started(options: argparse.Namespace) -> tuple[Broker, list[Serve]]:
    """Everything that can be found wrong before anything is loaded has been found then."""
    roles = known_roles()
    asked = {"redis_url": options.redis_url, "host": options.host, "port": options.port, "models": options.model}
    given = {name: value for name, value in asked.items() if value is not None}
    names = ROLES if options.role == "all" else (options.role,)
    settings = _each(names, lambda name: read(roles[name].settings, config=options.config, given=given))
    redis_url = settings[names[0]].redis_url
    if redis_url is None and options.role != "all":
        raise StartError(f"--role {options.role} needs --redis-url: an in-process queue has no other process; give one")
    serving = _each(names, lambda name: roles[name].start(settings[name]))
    return connect(None if redis_url is None else redis_url.get_secret_value()), list(serving.values())


def _each(names: Sequence[str], work: Callable[[str], Made]) -> dict[str, Made]:
    """What `work` makes of each name; where some of it is refused, all that is wrong is said at once."""
    made, wrong = {}, []
    for name in names:
        try:
            made[name] = work(name)
        except StartError as error:
            wrong += str(error).splitlines()
    if wrong:
        raise StartError("\n".join(dict.fromkeys(wrong)))
    return made


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast serve",
        description="Serve certifications: gateway, certifier and one worker in this process, or one role of them.",
        epilog="Without --redis-url the queue is in-process and nothing persists. With one, start as many workers, on"
        " as many machines, as you like: holdfast serve --role worker --redis-url redis://queue:6379/0",
        allow_abbrev=False,
    )
    default = {name: field.default for name, field in ServiceSettings.model_fields.items()}
    models = ", ".join(known_roles()["worker"].settings.model_fields["models"].default)
    parser.add_argument("--role", choices=("all", *ROLES), default="all", help="what to run here (default: all)")
    parser.add_argument("--redis-url", help="Redis >= 7 to queue in, e.g. redis://127.0.0.1:6379/0")
    parser.add_argument("--host", help=f"address of the gateway (default: {default['host']})")
    parser.add_argument("--port", type=int, help=f"port of the gateway (default: {default['port']})")
    parser.add_argument(
        "--model", action="append", help=f"guard or encoder to serve, may be repeated (default: {models})"
    )
    parser.add_argument("--config", metavar="FILE", help=f"TOML file of settings (default: {DEFAULT_FILE}, if there)")
    parser.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


async def run(serving: Sequence[Serve], broker: Broker) -> int:
    """Runs the roles until SIGINT, SIGTERM, or the end of one of them; 2 if one cannot start, 1 if one failed."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.ensure_future(serve(broker)) for serve in serving]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await _cancel(tasks)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    status = max(map(_status, outcomes))
    await _leave(status)
    return status


def _status(outcome: BaseException | None) -> int:
    match outcome:
        case None | asyncio.CancelledError():
            return 0
        case StartError():
            _log.error("%s", outcome)
            return 2
    _log.error("a role failed", exc_info=outcome)
    return 1


async def _cancel(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancels until they end: Python 3.11's wait_for swallows a cancellation that meets its result (gh-86296)."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1)


async def _leave(status: int) -> None:
    """Ends the process where a thread is in the middle of something long, loading or a pass, that nobody waits for."""
    ending = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    await asyncio.wait({ending}, timeout=_THREADS_END_WITHIN_S)
    if not ending.done():
        logging.shutdown()
        os._exit(status)
