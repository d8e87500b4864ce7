"""What a shift of a feature's score proves of the smoothed feature against its reference (section 6).

For a reference u the score of a draw is S = (1 + <f(x + e), u>) / 2, so that a lower bound b on E[S(x')] is the
inner product 2b - 1 of the smoothed feature with u, and of its direction too wherever 2b - 1 is positive.
"""

from dataclasses import dataclass

from holdfast.certificates import ranges
from holdfast.certificates.rounding import down, up
from holdfast.certificates.shifts.shift import Shift


@dataclass(frozen=True)
class FeatureBound:
    """Lower bounds on a smoothed feature against its reference, for every input of one shift.

    Attributes:
        inner_product: bound on <f_hat(x'), u>, in [-1, 1].
        cosine: bound on the cosine of f_hat(x') and u, in (0, 1]; None where the inner product's is not positive,
            because dividing by a norm of at most 1 then no longer helps and nothing is proved.
    """

    inner_product: float
    cosine: float | None

    @classmethod
    def at(cls, shift: Shift, t: float) -> "FeatureBound":
        """The bounds that a shift proves for every x' at most t sigma away."""
        inner_product = max(-1.0, down(2.0 * shift.at(t) - 1.0))
        return cls(inner_product, inner_product if inner_product > 0.0 else None)


def feature_radius_of(shift: Shift, cosine_floor: float, sigma: float) -> float | None:
    """`feature_radius` from a shift at hand, under the shift's guarantee."""
    floor = ranges.real("cosine_floor", cosine_floor)
    if not 0.0 <= floor < 1.0:
        raise ValueError(
            f"cosine_floor={floor!r} must lie in [0, 1); no bound on a cosine exists below 0 and none reaches 1"
        )
    sigma = ranges.positive("sigma", sigma)
    level = up((1.0 + floor) / 2.0)
    reach = shift.reach(level) if level < 1.0 else None
    return None if reach is None else reach * sigma
