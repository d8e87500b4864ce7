"""The units of a certificate: the model's tensor, the image's own size, and what the resize between them does."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.certificates.document.checks import Fault, close
from holdfast.certificates.document.envelope import ABOVE_0
from holdfast.certificates.document.readers import Reader, list_of, number, object_of, one_of, optional, whole
from holdfast.certificates.noise.resize import RESIZE, resize_norm

_FINITE = math.nextafter(math.inf, 0.0)  # standardised numeric fields have no range
_PIXELS, _NUMBERS = [0, 1], [-_FINITE, _FINITE]
_MOST_ENTRIES = 2**23
_MOST_ROWS = 2048
"""Entries of a resize's matrix, and rows of its Gram matrix, that are computed for a stranger: some three seconds."""


def space_of(*, imageless: bool, **more: Reader) -> Reader:
    """A reader of the tensor that noise is added to, and of the image that it was resized from; null without one."""
    size, norm = whole(1, 10**6), number(ABOVE_0, 1e9)
    given, stretch = (optional(size), optional(norm)) if imageless else (size, norm)
    return object_of(
        channels=size,
        height=size,
        width=size,
        range=list_of(number(-_FINITE, _FINITE), 2, least=2),
        resize=optional(one_of(RESIZE)),
        input_height=given,
        input_width=given,
        native_operator_norm=stretch,
        **more,
    )


def space_faults(space: Mapping[str, Any], *, tabular: bool, limited: bool) -> Iterator[Fault]:
    """What is not the space of this kind of model, or not the norm of the resize that it names.

    Args:
        space: a certificate's, as `space_of` reads it.
        tabular: whether the model takes numeric fields and no image.
        limited: refuse sizes whose norm takes more than seconds to compute.
    """
    yield from (("space", fault) for fault in _tensor_faults(space, tabular))
    yield from (("space", fault) for fault in _norm_faults(space, tabular, limited))


def _tensor_faults(space: Mapping[str, Any], tabular: bool) -> Iterator[str]:
    legal = _NUMBERS if tabular else _PIXELS
    if [*space["range"]] != legal:
        yield f"range={[*space['range']]} must be {legal} for {'numeric fields' if tabular else 'an image'}"
    wanted = {"channels": 1, "height": 1} if tabular else {"channels": 3}
    yield from (f"{name}={space[name]} must be {size}" for name, size in wanted.items() if space[name] != size)


def _norm_faults(space: Mapping[str, Any], tabular: bool, limited: bool) -> Iterator[str]:
    """Of a space whose image's size and norm are there, or null, together."""
    given = space["input_height"], space["input_width"], space["native_operator_norm"]
    resized = not tabular and given != (None, None, None)
    if None in given and given != (None, None, None):
        yield "the image's size and operator norm must be there, or all be null where a text alone was certified"
    elif space["resize"] != (RESIZE if resized else None):
        yield f"resize={space['resize']} must be {RESIZE if resized else None}"
    elif tabular and given != (1, space["width"], 1):
        yield f"input_height, input_width and native_operator_norm must be 1, {space['width']} and 1 of numeric fields"
    elif resized:
        yield from _resize_faults(space, limited)


def _resize_faults(space: Mapping[str, Any], limited: bool) -> Iterator[str]:
    own, size = (space["input_height"], space["input_width"]), (space["height"], space["width"])
    stated = space["native_operator_norm"]
    large = [(a, b) for a, b in zip(own, size, strict=True) if a * b > _MOST_ENTRIES or min(a, b) > _MOST_ROWS]
    if large and limited:
        yield (
            f"a resize from {own} to {size} must have at most {_MOST_ENTRIES} entries and {_MOST_ROWS} rows an axis;"
            " a larger one is verified with limited=False"
        )
    elif not close(stated, norm := resize_norm(own, size)):
        yield f"native_operator_norm={stated} must be {norm}, that of the resize from {own} to {size}"
