"""What the commands share: options for keywords, and files whose errors say which option to mend, and how."""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from holdfast.contract.keywords import described

DONE, INTERRUPTED = 0, 130


class FileError(Exception):
    """A file that an option names cannot be used."""


def read_file(option: str, file: str, what: str) -> bytes:
    """The content of the file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise FileError(f"{option} cannot be read ({error.strerror}); give the path of {what}") from None


def check_writable(option: str, file: str) -> None:
    """Checks that a result can be written there, before draws are spent on it.

    Raises:
        FileError: it cannot.
    """
    path = Path(file)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise FileError(f"{option} {file} cannot be written; give a file in a folder that is there and writable")


def write_file(option: str, file: str, content: bytes) -> None:
    """Writes the file.

    Raises:
        FileError: it cannot be written.
    """
    try:
        Path(file).write_bytes(content)
    except OSError as error:
        raise FileError(
            f"{option} {file} cannot be written ({error.strerror}); the service keeps the certificate under its id"
        ) from None


def add_url(parser: argparse.ArgumentParser) -> None:
    """The option that names the service."""
    parser.add_argument("--url", help="the service (default: HOLDFAST_URL, then http://127.0.0.1:8420)")


def add_options(group: "argparse._ActionsContainer", keywords: type, **metavars: str | None) -> None:
    """An option for each of these keywords, named, typed and explained as they are."""
    known = described(keywords)
    for name, metavar in metavars.items():
        kind, keyword = known[name]
        option, told = f"--{name.replace('_', '-')}", keyword.text
        if get_origin(kind) is Literal:
            group.add_argument(option, choices=get_args(kind), help=told)
        elif kind is bool:
            group.add_argument(option, action="store_const", const=True, help=told)
        else:
            group.add_argument(option, type=_reader(kind), metavar=metavar, help=told)


def asked(keywords: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """The keywords that options were given for."""
    given = {name: getattr(arguments, name, None) for name in described(keywords)}
    return {name: value for name, value in given.items() if value is not None}


def _reader(kind: Any) -> Callable[[str], Any]:
    if get_origin(kind) is tuple:
        return partial(_pair, get_args(kind))
    if get_origin(kind) is Sequence:
        return _numbers
    return kind if kind in (int, float) else str


def _pair(kinds: tuple[Any, ...], text: str) -> tuple[float | None, ...]:
    parts = text.split(",")
    try:
        return tuple(_part(kind, part) for kind, part in zip(kinds, parts, strict=True))
    except ValueError:
        example = ",".join("3" if kind is int else "0.5" for kind in kinds)
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers, such as {example}") from None


def _part(kind: Any, text: str) -> float | None:
    if text == "none" and type(None) in get_args(kind):
        return None
    return int(text) if kind is int else float(text)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with commas between, such as 0,0.25,0.5") from None
