"""Arb balls: exact numbers with a proved error, so that `a <= b` is true only where it is certain."""

import math

import flint

flint.ctx.prec = 240


def phi(x: flint.arb) -> flint.arb:
    """The normal distribution function."""
    return (-x / flint.arb(2).sqrt()).erfc() / 2


def below(x: float) -> flint.arb:
    """The lowest number that may have been rounded to this float."""
    return (flint.arb(x) + flint.arb(math.nextafter(x, -math.inf))) / 2


def above(x: float) -> flint.arb:
    """The highest number that may have been rounded to this float."""
    return (flint.arb(x) + flint.arb(math.nextafter(x, math.inf))) / 2
