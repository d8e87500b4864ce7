"""Numbers as people read them, rounded toward caution: what is shown never promises more than what was certified."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_DIGITS = 3


def radius(value: float) -> str:
    """A certified radius with three decimals, never above `value`."""
    return str(Decimal(value).quantize(Decimal("0.001"), ROUND_FLOOR))


def similarity(value: float) -> str:
    """A lower bound in [-1, 1] with three decimals, never above `value`."""
    return str(Decimal(value + 0.0).quantize(Decimal("0.001"), ROUND_FLOOR))  # the sum turns -0.0 into 0.0


def probability_at_least(value: float) -> str:
    """A lower bound in [0, 1] with three significant digits, never above `value`."""
    return f"{Context(prec=_DIGITS, rounding=ROUND_FLOOR).create_decimal_from_float(value):g}"


def probability_at_most(value: float) -> str:
    """An upper bound in [0, 1] with three significant digits, never below `value`."""
    return f"{Context(prec=_DIGITS, rounding=ROUND_CEILING).create_decimal_from_float(value).normalize():g}"


def risk(value: float) -> str:
    """A risk as it was stated: short where that drops only float noise, else with every digit."""
    short = f"{value:g}"
    return short if math.isclose(float(short), value, rel_tol=1e-12) else repr(value)


def share_at_most(value: float) -> str:
    """An upper bound in [0, 1] as a percentage with three significant digits, never below `value`."""
    return f"{Context(prec=_DIGITS, rounding=ROUND_CEILING).multiply(Decimal(value), Decimal(100)):g} %"


def axis_end(largest: float) -> float:
    """The least number of two significant digits that is not below `largest`: where a plot's axis ends."""
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal_from_float(largest))
