"""Readers of plain JSON: each passes over a legal value and refuses another, naming path, value and rule."""

from collections.abc import Callable, Mapping
from typing import Any

Reader = Callable[[Any, str], None]
"""Passes over a legal value; raises ValueError, which names the path, for another."""

_REMEDY = "get the certificate again from its issuer"


def read_field(certificate: Mapping[str, object], name: str, fields: Mapping[str, Reader]) -> None:
    """Checks one top-level field of a certificate that has exactly these fields.

    Raises:
        ValueError: the field is missing or unknown, or something in it is not of its type or out of its range; the
            message gives the path, the value of a number, and the rule.
    """
    if name not in fields:
        raise ValueError(f"a certificate has no field {_shown(name)}; {_REMEDY}")
    if name not in certificate:
        raise ValueError(f"{name} is missing; {_REMEDY}")
    fields[name](certificate[name], name)


def text(value: Any, path: str) -> None:
    """Passes over any text."""
    if not isinstance(value, str):
        raise _refuse(path, value, "text")


def texts(value: Any, path: str) -> None:
    """Passes over an object of texts, under any names."""
    if not isinstance(value, Mapping) or not all(isinstance(inner, str) for inner in value.values()):
        raise _refuse(path, value, "an object of texts")


def text_up_to(most: int) -> Reader:
    """A reader of texts of at most so many letters."""

    def read(value: Any, path: str) -> None:
        if not isinstance(value, str) or len(value) > most:
            raise _refuse(path, value, f"text of at most {most} letters")

    return read


def flag(value: Any, path: str) -> None:
    """Passes over true and false."""
    if not isinstance(value, bool):
        raise _refuse(path, value, "true or false")


def one_of(*options: str) -> Reader:
    """A reader of these texts."""

    def read(value: Any, path: str) -> None:
        if not isinstance(value, str) or value not in options:
            raise _refuse(path, value, f"one of {', '.join(options)}")

    return read


def whole(least: int, most: int) -> Reader:
    """A reader of integers in this range."""

    def read(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _refuse(path, value, f"an integer from {least} to {most}")

    return read


def number(least: float, most: float) -> Reader:
    """A reader of numbers in this range."""

    def read(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise _refuse(path, value, f"a number from {least} to {most}")

    return read


def optional(inner: Reader) -> Reader:
    """A reader of null, and of what `inner` reads."""
    return lambda value, path: None if value is None else inner(value, path)


def either(first: Reader, second: Reader) -> Reader:
    """A reader of what one of the two reads; the second says what is wrong."""

    def read(value: Any, path: str) -> None:
        try:
            first(value, path)
        except ValueError:
            second(value, path)

    return read


def list_of(inner: Reader, most: int, *, least: int = 0) -> Reader:
    """A reader of lists of so many entries that `inner` reads."""

    def read(value: Any, path: str) -> None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            raise _refuse(path, value, f"a list of {least} to {most}")
        for index, entry in enumerate(value):
            inner(entry, f"{path}[{index}]")

    return read


def object_of(**readers: Reader) -> Reader:
    """A reader of objects with exactly these fields."""

    def read(value: Any, path: str) -> None:
        if not isinstance(value, Mapping) or set(value) != set(readers):
            raise _refuse(path, value, f"an object of exactly {', '.join(readers)}")
        for name, reader in readers.items():
            reader(value[name], f"{path}.{name}")

    return read


def shares_of(*names: str) -> Reader:
    """A reader of objects with a share in [0, 1] of some of these names."""
    share = number(0.0, 1.0)

    def read(value: Any, path: str) -> None:
        if not isinstance(value, Mapping) or not value or not set(value) <= set(names):
            raise _refuse(path, value, f"an object with the share of some of {', '.join(names)}")
        for name, given in value.items():
            share(given, f"{path}.{name}")

    return read


def _refuse(path: str, value: object, rule: str) -> ValueError:
    return ValueError(f"{path}={_shown(value)} must be {rule}; {_REMEDY}")


def _shown(value: object) -> str:
    """A number or a short word as it stands; of anything else its type, as it may be long."""
    if isinstance(value, float) or value is None or (isinstance(value, int) and abs(value) < 10**20):
        return repr(value)
    if isinstance(value, str) and len(value) <= 40 and value.isascii() and value.isprintable():
        return repr(value)
    return f"({type(value).__name__})"
