"""Certificates altered in one place, by as little as can be."""

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from holdfast.certificates import Check, verify

Path = tuple[str | int, ...]
Json = dict[str, Any]


def failing(certificate: Any) -> list[Check]:
    return [check for check in verify(certificate) if not check.ok]


def unsigned(certificate: Json) -> Json:
    return {**certificate, "signature": None}


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def altered(certificate: Json, path: Path, change: Callable[[Any], None]) -> Json:
    """A copy where `change` was applied to what holds the last step of the path."""
    changed: Any = copy.deepcopy(certificate)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    change(holder)
    return dict(changed)


def set_to(path: Path, value: Any) -> Callable[[Any], None]:
    """The change that puts this value where the path leads."""
    return lambda holder: holder.__setitem__(path[-1], value)


def others(leaf: Any) -> list[Any]:
    """Values that differ from the leaf by as little as can be, and one of another type."""
    if isinstance(leaf, bool):
        return [not leaf, None]
    if isinstance(leaf, int):
        return [leaf + 1, leaf - 1, str(leaf)]
    if isinstance(leaf, float):
        return [math.nextafter(leaf, math.inf), math.nextafter(leaf, -math.inf), None]
    if isinstance(leaf, str):
        return [leaf + " ", leaf[:-1] + chr(ord(leaf[-1]) ^ 1) if leaf else "x", None]
    return [0, "", [None]]


def alterations(certificate: Json) -> Iterator[tuple[Path, Json]]:
    for path, leaf in leaves(certificate):
        for other in others(leaf):
            yield path, altered(certificate, path, set_to(path, other))
        yield path, altered(certificate, path, partial(_removed, path))


def _removed(path: Path, holder: Any) -> None:
    del holder[path[-1]]


def lengthened(certificate: Json) -> Iterator[tuple[Path, Json]]:
    """Every list with its last entry doubled, every object with one more field."""
    containers = {path[:depth] for path, _ in leaves(certificate) for depth in range(1, len(path))}
    for path in sorted(containers, key=repr):
        changed = copy.deepcopy(certificate)
        holder: Any = changed
        for step in path:
            holder = holder[step]
        if isinstance(holder, dict):
            holder["extra"] = 1
        else:
            holder.append(copy.deepcopy(holder[-1]))
        yield path, changed
