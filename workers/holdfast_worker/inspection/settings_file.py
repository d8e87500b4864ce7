"""Writes a model into the TOML file of settings, and leaves everything else in it as it was.

The file is the user's: only the lines that must change are touched, comments and order stay. Whatever was changed is
read back before it is written, and has to mean exactly the old settings with the model in them; where it does not (a
table spelt in a way that this does not know), the file is left alone and the lines to put in are named. It is replaced
in one step, so that at no moment there is half a file.
"""

import copy
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_HEADER = re.compile(r"^\s*\[")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


class SettingsFileError(Exception):
    """The file of settings cannot be read, or not be changed with certainty."""


def read_settings_file(path: Path) -> str:
    """The file's text; empty where there is none.

    Raises:
        SettingsFileError: It is no TOML, or models and served in it are not what they must be.
    """
    try:
        text = path.read_bytes().decode() if path.exists() else ""
        found = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise SettingsFileError(f"{path} must be a TOML file ({error}); correct it") from error
    models, tables = found.get("models", []), found.get("served", {})
    if not isinstance(models, list) or not isinstance(tables, dict):
        raise SettingsFileError(f"{path}: models must be an array and served a table of tables; correct it")
    return text


def with_model(text: str, name: str, fields: Mapping[str, Any], *, usual: tuple[str, ...]) -> str:
    """The settings with the model served and its fields laid over those of its table.

    Args:
        text: The file's text.
        name: The name under which the API serves the model.
        fields: Fields of its table, ``folder`` among them; a dotted key is a field of a field.
        usual: What is served where the file names no models.

    Raises:
        SettingsFileError: The lines to change could not be found with certainty.
    """
    old = tomllib.loads(text)
    new = _merged(old, name, fields, usual)
    for candidate in _with_name(text, old, name, usual):
        changed = _with_table(candidate, old, name, fields)
        if _means(changed, new):
            return changed
    lines = "\n".join(_table(name, fields))
    raise SettingsFileError(f"the file cannot be changed with certainty; put {name!r} into models, and in:\n{lines}")


def write_settings_file(path: Path, text: str) -> None:
    """Replaces the file in one step, keeping its permissions; a link stays a link.

    Raises:
        SettingsFileError: The folder cannot be written to.
    """
    target = path.resolve()
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise SettingsFileError(f"{path} cannot be written ({error.strerror}); choose another --config") from error


def _merged(old: Mapping[str, Any], name: str, fields: Mapping[str, Any], usual: tuple[str, ...]) -> dict[str, Any]:
    """What the file must mean afterwards."""
    models, tables = list(old.get("models", usual)), dict(old.get("served", {}))
    table = nested(fields, copy.deepcopy(tables.get(name, {})))
    return {**old, "models": models if name in models else [*models, name], "served": {**tables, name: table}}


def nested(fields: Mapping[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Lays fields over a table, which is changed; a dotted key is a field of a field.

    Raises:
        SettingsFileError: A field of something that has none.
    """
    for key, value in fields.items():
        *outer, last = key.split(".")
        inner = table
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise SettingsFileError(f"{key} is a field of {part}, which must be a table; correct the name")
        inner[last] = value
    return table


def _means(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == wanted
    except tomllib.TOMLDecodeError:
        return False


def _with_name(text: str, old: Mapping[str, Any], name: str, usual: tuple[str, ...]) -> Iterator[str]:
    """The ways to put the name among the models, at least one of which is right."""
    if "models" not in old:
        names = list(usual) if name in usual else [*usual, name]
        yield f"models = {_value(names)}\n{text}"
        return
    if name in old["models"]:
        yield text
        return
    lines = _LINE.findall(text)
    start, stop = _span(lines, "models", 0, _next_header(lines, 0))
    value = "".join(lines[start:stop])
    for at in reversed([match.start() for match in re.finditer(r"\]", value)]):
        for comma in ", " if old["models"] else "", "":
            inserted = f"{value[:at]}{comma}{_value(name)}{value[at:]}"
            yield "".join(lines[:start]) + inserted + "".join(lines[stop:])


def _with_table(text: str, old: Mapping[str, Any], name: str, fields: Mapping[str, Any]) -> str:
    if name not in old.get("served", {}):
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return text + gap + "\n".join(_table(name, fields)) + "\n"
    lines = _LINE.findall(text)
    headers = [i for i, line in enumerate(lines) if _header_names(line) == ["served", name]]
    if not headers:
        return text
    for key, value in fields.items():
        start = headers[0] + 1
        stop = _next_header(lines, start)
        span = _span(lines, key, start, stop)
        lines[span[0] : span[1]] = [f"{key} = {_value(value)}\n"]
    return "".join(lines)


def _header_names(line: str) -> list[str] | None:
    """The names in a table's header, none if the line is no such header."""
    if not _HEADER.match(line):
        return None
    try:
        found = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    names = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        names.append(name)
    return names


def _next_header(lines: list[str], start: int) -> int:
    """Where the next table begins; a line of an array may look like it, which reading back finds out."""
    return next((i for i in range(start, len(lines)) if _header_names(lines[i]) is not None), len(lines))


def _span(lines: list[str], key: str, start: int, stop: int) -> tuple[int, int]:
    """The lines of a key's value; where there are none, the empty span at which to put them."""
    for first in range(start, stop):
        if re.match(rf"^\s*{re.escape(key)}\s*=", lines[first]):
            return first, next((end for end in range(first + 1, stop + 1) if _parses(lines[first:end])), stop)
    last = max((i for i in range(start, stop) if lines[i].strip()), default=start - 1)
    if last >= 0 and not lines[last].endswith("\n"):
        lines[last] += "\n"
    return last + 1, last + 1


def _parses(lines: list[str]) -> bool:
    try:
        tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return False
    return True


def _table(name: str, fields: Mapping[str, Any]) -> list[str]:
    header = name if _BARE.match(name) else _value(name)
    return [f"[served.{header}]", *(f"{key} = {_value(value)}" for key, value in fields.items())]


def _value(value: Any) -> str:
    """A value as TOML: JSON's strings, numbers, truths and arrays are TOML's too; an object is an inline table."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_value(str(key))} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
