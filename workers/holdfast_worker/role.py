"""The role `worker`: checks its models' folders, announces what it loads, and only then imports what loads it."""

import asyncio
import difflib
import os
import secrets
import socket
from types import ModuleType

from holdfast.logs import gather
from holdfast.queue.broker import Broker
from holdfast.queue.leases import Heartbeat
from holdfast.roles import Role, Serve
from holdfast.settings import StartError
from holdfast_worker.models.checkpoint import PACKAGED, check_model
from holdfast_worker.models.errors import ModelError
from holdfast_worker.settings import WorkerSettings


def _start(settings: WorkerSettings) -> Serve:
    wrong = [line for name in settings.models if (line := _defect(name, settings)) is not None]
    if wrong:
        raise StartError("\n".join(wrong))

    async def serve(broker: Broker) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        with Heartbeat(broker, name, (), loading=settings.models) as heartbeat:
            sampler = await asyncio.to_thread(_sampler)
            try:
                await sampler.serve(broker, settings, name, heartbeat)
            except ModelError as error:
                raise StartError(f"the worker cannot serve its models: {error}") from error

    return serve


def _defect(name: str, settings: WorkerSettings) -> str | None:
    """What keeps this name from being served, if anything shows before it is loaded."""
    table = dict(settings.served.get(name, {}))
    folder = table.pop("folder", name)
    if name not in settings.served and name not in PACKAGED and not os.path.isdir(folder):
        near = difflib.get_close_matches(name, [*PACKAGED, *settings.served], 1)
        remedy = f"did you mean {near[0]}?" if near else "correct the name, or add the table"
        return f"model {name!r} is none that ships ({', '.join(PACKAGED)}) and has no table [served.{name}]; {remedy}"
    try:
        check_model(folder, {**table, "name": name})
    except ModelError as error:
        return f"model {name!r}: {error}"
    return None


def _sampler() -> ModuleType:
    from holdfast_worker import sampler

    gather()
    return sampler


WORKER = Role(WorkerSettings, _start)
