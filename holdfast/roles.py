"""The roles that a process of the service may take on, found by entry point; none is imported before it is started."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, TypeVar

from holdfast.queue.broker import Broker
from holdfast.settings import ProcessSettings, read_settings

Serve = Callable[[Broker], Awaitable[None]]
"""Runs a role until it is cancelled."""

Settings = TypeVar("Settings", bound=ProcessSettings)


@dataclass(frozen=True)
class Role:
    """One kind of process.

    Attributes:
        settings: What it reads at start.
        start: Finds what is wrong with its settings and takes what it must have, within a second, before it loads
            anything; answers with what serves. Raises `StartError`.
    """

    settings: type[ProcessSettings]
    start: Callable[[Any], Serve]


def known_roles() -> dict[str, Role]:
    """Every role that is installed, by name."""
    return {entry.name: entry.load() for entry in entry_points(group="holdfast.roles")}


def read(kind: type[Settings], *, config: str | None = None, given: Mapping[str, Any] | None = None) -> Settings:
    """Reads one role's settings; file and environment may hold every role's.

    Raises:
        StartError: As `read_settings` says.
    """
    known = {name for role in known_roles().values() for name in role.settings.model_fields}
    return read_settings(kind, known | set(kind.model_fields), config=config, given=given)
