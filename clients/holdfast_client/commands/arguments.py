"""The files that options name: their errors say which option, and what to give instead."""

import os
from pathlib import Path

__all__ = ["FileError", "check_writable", "read_file", "write_file"]


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
