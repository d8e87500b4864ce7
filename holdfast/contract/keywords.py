"""How a question's flat keywords are declared: typed in a `TypedDict`, each with its place in the request.

The SDK's methods take them (`**asked: Unpack[CertifyKeywords]`), and the command line as options, `max_tokens` as
`--max-tokens`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Any, Required, TypeVar, get_args, get_origin, get_type_hints

ImageFile = str | os.PathLike[str] | bytes
"""A PNG, JPEG or WebP file: its path or its bytes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Keyword:
    """What a keyword asks for, and where its value stands in the request; with two places it is a pair."""

    text: str
    at: str


def described(keywords: type) -> dict[str, tuple[Any, Keyword]]:
    """Each keyword's type, without `None`, and its description."""
    found = {}
    for name, hint in get_type_hints(keywords, include_extras=True).items():
        kind, keyword = get_args(get_args(hint)[0] if get_origin(hint) is Required else hint)
        kinds = [part for part in get_args(kind) if part is not type(None)]
        found[name] = (kinds[0] if len(kinds) == 1 and type(None) in get_args(kind) else kind, keyword)
    return found


def documented(keywords: type[T]) -> type[T]:
    """Adds every keyword to the docstring, so that `help` teaches them."""
    lines = [f"{name}: {keyword.text}" for name, (_, keyword) in described(keywords).items()]
    told = (fill(line, 100, initial_indent="    ", subsequent_indent="        ") for line in lines)
    keywords.__doc__ = "\n".join((f"{keywords.__doc__}\n\nKeywords:", *told))
    return keywords


def nested(keywords: type, asked: Mapping[str, object]) -> dict[str, Any]:
    """The request that the keywords ask for: every value that is given, at its place.

    Raises:
        TypeError: there is no such keyword, or a pair is none.
    """
    known, request = described(keywords), dict[str, Any]()
    for name, value in asked.items():
        if name not in known:
            raise TypeError(f"there is no keyword {name!r}; help({keywords.__name__}) lists them")
        if value is None:
            continue
        places = known[name][1].at.split()
        values = (value,) if len(places) == 1 else value
        if not isinstance(values, tuple) or len(values) != len(places):
            raise TypeError(f"{name} must be a tuple of {len(places)} values: {known[name][1].text}")
        for place, part in zip(places, values, strict=True):
            *path, last = place.split(".")
            inner = request
            for step in path:
                inner = inner.setdefault(step, {})
            inner[last] = part
    return request
