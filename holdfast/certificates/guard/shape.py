"""What a guard's certificate looks like as plain JSON: every field, its type and its legal range."""

import math

from holdfast.certificates.document.envelope import ABOVE_0, ENVELOPE, MOST_PASSES, RISK, SIGMA, STOPPED
from holdfast.certificates.document.readers import (
    Reader,
    either,
    flag,
    hexadecimal,
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

_MOST_CELLS = 1025
_MOST_ROWS = 64 * _MOST_CELLS

_budget = whole(0, _MOST_CELLS - 1)
_draw = whole(0, MOST_PASSES)
_cell = whole(0, _MOST_CELLS - 1)
_probability = number(0.0, 1.0)
_between = number(ABOVE_0, math.nextafter(1.0, 0.0))
_length = number(0.0, 1e300)
_sigma = either(number(0.0, 0.0), SIGMA)
_method = one_of("stratified", "neyman_pearson")

CERTIFICATE: dict[str, Reader] = {
    **ENVELOPE,
    "kind": one_of("hybrid", "tabular"),
    "verdict": one_of("unsafe", "safe", "abstained"),
    "reason": text,
    "frontier": list_of(
        object_of(tokens=_budget, radius=optional(_length), native_radius=optional(_length), method=optional(_method)),
        _MOST_CELLS,
    ),
    "max_tokens": optional(_budget),
    "target": optional(object_of(tokens=_budget, epsilon=number(0.0, 1e6), verdict=optional(one_of("unsafe", "safe")))),
    "worst_case": list_of(
        object_of(
            tokens=_budget,
            epsilon=number(0.0, 1e6),
            unsafe_probability_at_least=_probability,
            unsafe_probability_at_most=_probability,
            passes_to_detect=optional(whole(1, 10**400)),
        ),
        _MOST_ROWS,
    ),
    "evidence": object_of(
        passes=_draw,
        orders=list_of(
            object_of(
                start=_draw,
                stop=_draw,
                cells=list_of(_cell, _MOST_CELLS),
                unsafe=list_of(_draw, _MOST_CELLS),
                outcomes=optional(hexadecimal),
            ),
            MOST_PASSES,
            least=1,
        ),
        cells=list_of(
            object_of(
                leading_masked=_cell,
                at_least=flag,
                slots=_cell,
                draws=_draw,
                unsafe=_draw,
                lower=_probability,
                upper=_probability,
            ),
            _MOST_CELLS,
            least=1,
        ),
        positions=optional(whole(0, 10**6)),
        bound=one_of("any_time", "clopper_pearson"),
        alpha=RISK,
        alpha_split=shares_of("unsafe", "safe"),
        sharing=text,
        stopped=STOPPED,
    ),
    "method": one_of("auto", "stratified", "neyman_pearson"),
    "asked_verdict": one_of("both", "unsafe", "safe"),
    "threat": object_of(
        text=one_of("suffix", "l0", "none"), slots=_cell, max_tokens=_budget, image=one_of("l2", "none")
    ),
    "noise": object_of(
        token_kernel=one_of("uniform", "absorbing"),
        beta=number(ABOVE_0, 1.0),
        sigma=_sigma,
        scope=one_of("shared", "per_budget"),
    ),
    "tau": _between,
    "space": space_of(imageless=True, alphabets=list_of(whole(2, 10**9), 100, least=1)),
    "false_flag": optional(
        object_of(
            rate_at_most=_probability,
            alpha=_between,
            scenes=whole(1, 10**12),
            flagged=whole(0, 10**12),
            measured_on=text,
        )
    ),
}
