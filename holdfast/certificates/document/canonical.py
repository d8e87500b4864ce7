"""One spelling of a certificate, so that equal certificates have equal digests, wherever they have been.

Canonical JSON here is: keys sorted, no white space, UTF-8 unescaped, the shortest decimal form of each number, and no
fraction on a whole one (JavaScript drops the `.0` of a float that Python keeps).
"""

import hashlib
import json
from collections.abc import Mapping

_MAX_DEPTH = 16  # a certificate has five; deeper ones are no certificates


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value.

    Args:
        value: what `json.loads` gives: dict, list, str, int, float, bool or None, nested at most 16 deep.

    Raises:
        ValueError: nested too deeply, a number that is not finite, text that UTF-8 cannot carry, or no JSON value.
    """
    plain = _plain(value, _MAX_DEPTH)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digests(certificate: Mapping[str, object]) -> dict[str, str]:
    """SHA-256 of each field of a certificate but its signature, in hexadecimal, over its canonical JSON.

    Raises:
        ValueError: a field has no canonical JSON.
    """
    fields = {name: value for name, value in certificate.items() if name != "signature"}
    return {name: hashlib.sha256(canonical_json(value)).hexdigest() for name, value in fields.items()}


def _plain(value: object, depth: int) -> object:
    if depth < 0:
        raise ValueError(f"the value is nested deeper than {_MAX_DEPTH}; a certificate is not")
    if isinstance(value, Mapping):
        return {_key(name): _plain(inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, depth - 1) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise ValueError(f"a {type(value).__name__} is no JSON value; pass what json.loads gives")


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a {type(name).__name__} is no name of a JSON field; pass what json.loads gives")
    return name
