"""What every certificate has, whatever it certifies: its fields, their types and their legal ranges."""

import math

from holdfast.certificates.document.readers import (
    Reader,
    list_of,
    number,
    object_of,
    one_of,
    optional,
    text,
    texts,
    whole,
)

MOST_PASSES = 10_000_000
ABOVE_0 = math.ulp(0.0)
_FINITE = math.nextafter(math.inf, 0.0)  # standardised numeric fields have no range

STOPPED = one_of("target", "tolerance", "not_certifiable", "draws_spent")

ENVELOPE: dict[str, Reader] = {
    "id": text,
    "state": one_of("done"),
    "created_at": text,
    "finished_at": text,
    "model": object_of(name=text, fingerprint=text),
    "seed": text,
    "software": text,
    "notice": list_of(text, 100),
    "signature": optional(object_of(alg=one_of("EdDSA"), kid=text, digests=texts, value=text)),
}


def space_of(*, imageless: bool, **more: Reader) -> Reader:
    """A reader of the tensor that noise is added to, and of the image that it was resized from; null without one."""
    size, norm = whole(1, 10**6), number(ABOVE_0, 1e9)
    given, stretch = (optional(size), optional(norm)) if imageless else (size, norm)
    return object_of(
        channels=size,
        height=size,
        width=size,
        range=list_of(number(-_FINITE, _FINITE), 2, least=2),
        input_height=given,
        input_width=given,
        native_operator_norm=stretch,
        **more,
    )
