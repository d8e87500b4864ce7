"""JSON that every reader takes in the same way: no field twice, no number that is none."""

import json
import math
from typing import Any


def strict_json(content: str | bytes) -> Any:
    """The value that the JSON is.

    Raises:
        ValueError: it is not JSON, or bytes that are not UTF-8; it gives a field twice, has NaN, an infinity or a
            number too large for a float, or is nested too deeply. The message says which in a few words, and repeats
            nothing of the content.
    """
    try:
        # Left to itself, `json` guesses UTF-16 and UTF-32 too, and lets halves of surrogate pairs through.
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        return json.loads(
            text, object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # another reader may take the value that this one drops
        raise ValueError("a field is given twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _whole(digits: str) -> int:
    if len(digits) > 400:  # beyond every float, as others read whole numbers too
        raise ValueError("a number is too large")
    return int(digits)
