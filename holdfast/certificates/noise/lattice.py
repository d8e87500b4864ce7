"""The lattice that noise lives on, and what rounding the clean image to it costs a certificate (section 13).

The guarantee is exact for images on the lattice: their noise is a Gaussian rounded to it, and rounding commutes with
every shift by lattice points. An image is brought there by rounding every value to the nearest point, so that two
images epsilon apart come to lie at most epsilon + h sqrt(D) apart; two equal ones stay equal.
"""

import math
from fractions import Fraction

from holdfast.certificates import ranges
from holdfast.certificates.rounding import fraction_down, fraction_up, up

STEP = 2.0**-18
"""h, the distance of two neighbouring points."""

REACH = 2.0**5
"""What the sum of image and noise is clipped to, on either side; the clip belongs to the model."""

_PREPARED = 2.0**-36
"""The error allowed to a value in float64 before it is rounded: a resize by 2^13 terms a side errs by less."""


def rounding_shift(dimensions: int) -> float:
    """How much farther apart two images may lie once both were rounded to the lattice.

    Args:
        dimensions: D, channels * height * width of the noise space; 0 where there is none.

    Returns:
        h sqrt(D) and an allowance for the float64 arithmetic before the rounding, rounded up.

    Raises:
        ValueError: dimensions is not a nonnegative integer.
    """
    dimensions = ranges.whole("dimensions", dimensions)
    return up((STEP + 2 * _PREPARED) * math.sqrt(dimensions), 2)


def certified_radius(radius: float | None, *, dimensions: int) -> float | None:
    """A radius between images on the lattice as one between images before they are rounded to it.

    Args:
        radius: certified between lattice points, at least 0, may be inf; None is *not certified*.
        dimensions: D of the noise space.

    Returns:
        radius - h sqrt(D) rounded down, and 0 where that is negative: an image that is not shifted is rounded to the
        same point, so that what holds at some radius holds at epsilon = 0 whatever the rounding costs. None stays None.

    Raises:
        ValueError: a value outside its range.
    """
    shift = rounding_shift(dimensions)
    if radius is None or radius == math.inf:
        return radius
    left = Fraction(ranges.nonnegative("radius", radius)) - Fraction(shift)
    return fraction_down(left) if left > 0 else 0.0


def rounded_distance(epsilon: float, *, dimensions: int) -> float:
    """How far apart two images may lie on the lattice that are epsilon apart before they are rounded to it.

    Args:
        epsilon: L2 distance, at least 0.
        dimensions: D of the noise space.

    Returns:
        epsilon + h sqrt(D) rounded up; 0 at epsilon = 0.

    Raises:
        ValueError: a value outside its range.
    """
    shift, epsilon = rounding_shift(dimensions), ranges.nonnegative("epsilon", epsilon)
    return fraction_up(Fraction(epsilon) + Fraction(shift)) if epsilon else 0.0
