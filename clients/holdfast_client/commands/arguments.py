"""What the commands share: exit statuses, lists of numbers, and files whose errors say which option to mend how."""

import argparse
import os
from pathlib import Path

__all__ = ["DONE", "INTERRUPTED", "FileError", "add_url", "check_writable", "number_list", "read_file", "write_file"]


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
    """Checks that a result can be written there, before passes are spent on it.

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


def number_list(text: str) -> tuple[float, ...]:
    """The numbers of an option such as `0,0.25,0.5`.

    Raises:
        ArgumentTypeError: they are none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with commas between, such as 0,0.25,0.5") from None


def add_url(parser: argparse.ArgumentParser) -> None:
    """The option that names the service."""
    parser.add_argument("--url", help="the service (default: HOLDFAST_URL, then http://127.0.0.1:8420)")
