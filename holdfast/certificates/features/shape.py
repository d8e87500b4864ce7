"""What a feature certificate looks like as plain JSON: every field, its type and its legal range."""

import math

from holdfast.certificates.document.envelope import ABOVE_0, ENVELOPE, MOST_RISK, SIGMA, STOPPED
from holdfast.certificates.document.readers import (
    Reader,
    flag,
    list_of,
    number,
    object_of,
    one_of,
    optional,
    shares_of,
    text,
    whole,
)
from holdfast.certificates.document.space import space_of
from holdfast.certificates.features.question import LEVELS, STATEMENTS

_MOST_CLASSES = 1024  # their margins, at every level, take half a minute to compute again
_MOST_VALUES = 1 << 20
_MOST_ROWS = 64  # epsilons, or cosine floors
_MOST_AVERAGED = 1024
_MOST_DRAWS = 1_000_000
_ROUNDING = 2e-6  # of a product of unit vectors in single precision

_count = whole(0, _MOST_DRAWS)
_draws = whole(1, _MOST_DRAWS)
_epsilon = number(0.0, 1e6)
_floor = number(0.0, math.nextafter(1.0, 0.0))
_similarity = number(-1.0, 1.0)
_radius = optional(number(0.0, 1e300))
_share = number(ABOVE_0, MOST_RISK)
_method = one_of("mean", "cdf")

FEATURE_CERTIFICATE: dict[str, Reader] = {
    **ENVELOPE,
    "kind": one_of("feature"),
    "bounds": list_of(
        object_of(
            epsilon=_epsilon,
            method=_method,
            inner_product_at_least=_similarity,
            cosine_at_least=optional(_similarity),
        ),
        2 * _MOST_ROWS,
    ),
    "radii": list_of(
        object_of(cosine_floor=_floor, method=_method, radius=_radius, native_radius=_radius), 2 * _MOST_ROWS
    ),
    "prediction": optional(
        object_of(
            head=object_of(
                name=text,
                version=text,
                fingerprint=text,
                kind=one_of("prototypes", "linear"),
                classes=list_of(text, _MOST_CLASSES, least=2),
                clip=number(ABOVE_0, 1.0),
            ),
            label=whole(0, _MOST_CLASSES - 1),
            class_name=text,
            radii=list_of(
                object_of(
                    method=one_of("prototype_condition", "cap", "margin_mean", "margin_cdf", "clipped_cdf", "vote"),
                    radius=_radius,
                    native_radius=_radius,
                ),
                6,
            ),
        )
    ),
    "embedding": optional(
        object_of(
            draws=whole(1, _MOST_AVERAGED),
            tokens=flag,
            alpha=_share,
            shape=list_of(whole(1, _MOST_VALUES), 2, least=1),
            values=list_of(number(-1e30, 1e30), _MOST_VALUES, least=1),
            similarity=list_of(
                object_of(epsilon=_epsilon, inner_product_at_least=_similarity, cosine_at_least=optional(_similarity)),
                _MOST_ROWS,
            ),
        )
    ),
    "target": optional(object_of(epsilon=number(ABOVE_0, 1e6), cosine=optional(_floor), certified=flag)),
    "evidence": object_of(
        passes=_draws,
        selection_passes=_count,
        channels=list_of(
            object_of(
                name=one_of("reference", "margin", "clipped"),
                rival=optional(whole(0, _MOST_CLASSES - 1)),
                levels=list_of(whole(0, LEVELS), LEVELS + 1, least=1),
                counts=list_of(_draws, LEVELS + 1, least=1),
            ),
            2 * _MOST_CLASSES - 1,
            least=1,
        ),
        votes=optional(_count),
        cosines=optional(list_of(number(-1.0 - _ROUNDING, 1.0 + _ROUNDING), _MOST_CLASSES, least=2)),
        distances=optional(list_of(number(0.0, 2.0 + _ROUNDING), _MOST_CLASSES, least=2)),
        mean_bound=one_of("betting", "empirical_bernstein", "kl", "hoeffding"),
        horizon=_draws,
        alpha=_share,
        alpha_split=shares_of(*STATEMENTS),
        stopped=STOPPED,
    ),
    "reference": one_of("clean", "direction"),
    "sigma": SIGMA,
    "dimension": whole(1, 10**9),
    "space": space_of(imageless=False),
}
