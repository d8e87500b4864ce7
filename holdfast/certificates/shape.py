"""What a certificate looks like as plain JSON: every field, its type and its legal range."""

import math
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["CERTIFICATE", "MOST_PASSES", "Reader", "read_field"]

_ANY = math.nextafter(math.inf, 0.0)  # standardised numeric fields have no range

Reader = Callable[[Any, str], None]
"""Passes over a legal value; raises ValueError, which names the path, for another."""

MOST_PASSES = 10_000_000
_MOST_CELLS = 1025
_MOST_ROWS = 64 * _MOST_CELLS
_ABOVE_0 = math.ulp(0.0)
_REMEDY = "get the certificate again from its issuer"


def read_field(certificate: Mapping[str, object], name: str) -> None:
    """Checks one top-level field.

    Raises:
        ValueError: the field is missing or unknown, or something in it is not of its type or out of its range; the
            message gives the path, the value of a number, and the rule.
    """
    if name not in CERTIFICATE:
        raise ValueError(f"a certificate has no field {_shown(name)}; {_REMEDY}")
    if name not in certificate:
        raise ValueError(f"{name} is missing; {_REMEDY}")
    CERTIFICATE[name](certificate[name], name)


def _refuse(path: str, value: object, rule: str) -> ValueError:
    return ValueError(f"{path}={_shown(value)} must be {rule}; {_REMEDY}")


def _shown(value: object) -> str:
    """A number or a short word as it stands; of anything else its type, as it may be long."""
    if isinstance(value, float) or value is None or (isinstance(value, int) and abs(value) < 10**20):
        return repr(value)
    if isinstance(value, str) and len(value) <= 40 and value.isascii() and value.isprintable():
        return repr(value)
    return f"({type(value).__name__})"


def _text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise _refuse(path, value, "text")


def _bytes(value: Any, path: str) -> None:
    if not isinstance(value, str) or not value or len(value) % 2 or value.strip("0123456789abcdef"):
        raise _refuse(path, value, "bytes in hexadecimal, in lower case")


def _one_of(*options: str) -> Reader:
    def read(value: Any, path: str) -> None:
        if not isinstance(value, str) or value not in options:
            raise _refuse(path, value, f"one of {', '.join(options)}")

    return read


def _whole(least: int, most: int) -> Reader:
    def read(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _refuse(path, value, f"an integer from {least} to {most}")

    return read


def _number(least: float, most: float) -> Reader:
    def read(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise _refuse(path, value, f"a number from {least} to {most}")

    return read


def _true_or_false(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        raise _refuse(path, value, "true or false")


def _optional(inner: Reader) -> Reader:
    return lambda value, path: None if value is None else inner(value, path)


def _list(inner: Reader, most: int, *, least: int = 0) -> Reader:
    def read(value: Any, path: str) -> None:
        if not isinstance(value, (list, tuple)) or not least <= len(value) <= most:
            raise _refuse(path, value, f"a list of {least} to {most}")
        for index, entry in enumerate(value):
            inner(entry, f"{path}[{index}]")

    return read


def _object(**readers: Reader) -> Reader:
    def read(value: Any, path: str) -> None:
        if not isinstance(value, Mapping) or set(value) != set(readers):
            raise _refuse(path, value, f"an object of exactly {', '.join(readers)}")
        for name, reader in readers.items():
            reader(value[name], f"{path}.{name}")

    return read


def _shares(value: Any, path: str) -> None:
    if not isinstance(value, Mapping) or not value or not set(value) <= {"unsafe", "safe"}:
        raise _refuse(path, value, "an object with the share of unsafe, safe or both")
    for side, share in value.items():
        _probability(share, f"{path}.{side}")


def _texts(value: Any, path: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(inner, str) for inner in value.values()):
        raise _refuse(path, value, "an object of texts")


_size = _whole(1, 10**6)
_budget = _whole(0, _MOST_CELLS - 1)
_draw = _whole(0, MOST_PASSES)
_cell = _whole(0, _MOST_CELLS - 1)
_probability = _number(0.0, 1.0)
_between = _number(_ABOVE_0, math.nextafter(1.0, 0.0))
_length = _number(0.0, 1e300)
_method = _one_of("stratified", "neyman_pearson")

CERTIFICATE: dict[str, Reader] = {
    "id": _text,
    "state": _one_of("done"),
    "kind": _one_of("hybrid", "tabular"),
    "created_at": _text,
    "finished_at": _text,
    "verdict": _one_of("unsafe", "safe", "abstained"),
    "reason": _text,
    "frontier": _list(
        _object(tokens=_budget, radius=_optional(_length), native_radius=_optional(_length), method=_optional(_method)),
        _MOST_CELLS,
    ),
    "max_tokens": _optional(_budget),
    "target": _optional(
        _object(tokens=_budget, epsilon=_number(0.0, 1e6), verdict=_optional(_one_of("unsafe", "safe")))
    ),
    "worst_case": _list(
        _object(
            tokens=_budget,
            epsilon=_number(0.0, 1e6),
            unsafe_probability_at_least=_probability,
            unsafe_probability_at_most=_probability,
            passes_to_detect=_optional(_whole(1, 10**400)),
        ),
        _MOST_ROWS,
    ),
    "evidence": _object(
        passes=_draw,
        orders=_list(
            _object(
                start=_draw,
                stop=_draw,
                cells=_list(_cell, _MOST_CELLS),
                unsafe=_list(_draw, _MOST_CELLS),
                outcomes=_optional(_bytes),
            ),
            MOST_PASSES,
            least=1,
        ),
        cells=_list(
            _object(
                leading_masked=_cell,
                at_least=_true_or_false,
                slots=_cell,
                draws=_draw,
                unsafe=_draw,
                lower=_probability,
                upper=_probability,
            ),
            _MOST_CELLS,
            least=1,
        ),
        positions=_optional(_whole(0, 10**6)),
        bound=_one_of("any_time", "clopper_pearson"),
        alpha=_number(_ABOVE_0, 0.5),
        alpha_split=_shares,
        sharing=_text,
        stopped=_one_of("target", "tolerance", "not_certifiable", "passes_spent"),
    ),
    "method": _one_of("auto", "stratified", "neyman_pearson"),
    "asked_verdict": _one_of("both", "unsafe", "safe"),
    "threat": _object(
        text=_one_of("suffix", "l0", "none"), slots=_cell, max_tokens=_budget, image=_one_of("l2", "none")
    ),
    "noise": _object(
        token_kernel=_one_of("uniform", "absorbing"),
        beta=_number(_ABOVE_0, 1.0),
        sigma=_number(0.0, 100.0),
        scope=_one_of("shared", "per_budget"),
    ),
    "tau": _between,
    "space": _object(
        channels=_size,
        height=_size,
        width=_size,
        range=_list(_number(-_ANY, _ANY), 2, least=2),
        alphabets=_list(_whole(2, 10**9), 100, least=1),
        input_height=_whole(0, 10**6),
        input_width=_whole(0, 10**6),
        native_operator_norm=_number(_ABOVE_0, 1e9),
    ),
    "model": _object(name=_text, fingerprint=_text),
    "false_flag": _optional(
        _object(
            rate_at_most=_probability,
            alpha=_between,
            scenes=_whole(1, 10**12),
            flagged=_whole(0, 10**12),
            measured_on=_text,
        )
    ),
    "seed": _text,
    "software": _text,
    "notice": _list(_text, 100),
    "signature": _optional(_object(alg=_one_of("EdDSA"), kid=_text, digests=_texts, value=_text)),
}
