"""Bit planes: one bit for every vote, as text in JSON."""

import base64
import binascii
import math

import numpy as np
from numpy.typing import NDArray


def packed(bits: NDArray[np.bool_]) -> str:
    """A plane as base64: in C order, most significant bit first, the last byte filled up with zeros."""
    return base64.b64encode(np.packbits(bits, axis=None).tobytes()).decode()


def unpacked(plane: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The bits of a plane.

    Args:
        plane: what `packed` returns for bits of this shape.
        shape: of the bits.

    Raises:
        ValueError: it is not exactly what `packed` writes: other letters, another length, or padding that is set.
    """
    count = math.prod(shape)
    try:
        written = base64.b64decode(plane, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"a plane of {len(plane)} letters is no base64; send it as it was issued") from error
    if len(written) != -(-count // 8):
        raise ValueError(f"a plane of {len(written)} bytes must have {-(-count // 8)}, a bit for each of {count} votes")
    bits = np.unpackbits(np.frombuffer(written, np.uint8))
    if bits[count:].any() or base64.b64encode(written).decode() != plane:
        raise ValueError("a plane's padding must be zero; send it as it was issued")
    return bits[:count].astype(np.bool_).reshape(shape)
