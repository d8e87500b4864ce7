"""What a guard's certificate looks like as plain JSON: every field, its type and its legal range."""

import math

from holdfast.certificates.document.envelope import ABOVE_0, ENVELOPE, RISK, SIGMA, STOPPED
from holdfast.certificates.document.readers import (
    Reader,
    either,
    flag,
    list_of,
    number,
    object_of,
    one_of,
    optional,
    shares_of,
    text,
    text_up_to,
    whole,
)
from holdfast.certificates.document.space import space_of

_MOST_CELLS = 1025
_MOST_ROWS = 64 * _MOST_CELLS
_MOST_DRAWS = 1_000_000
_MOST_TAILS = 8
_MOST_LETTERS = 2**29  # of a plane: 3 billion votes

_budget = whole(0, _MOST_CELLS - 1)
_cell = whole(0, _MOST_CELLS - 1)
_passes = whole(0, _MOST_DRAWS * _MOST_TAILS)
_plane = text_up_to(_MOST_LETTERS)
_probability = number(0.0, 1.0)
_between = number(ABOVE_0, math.nextafter(1.0, 0.0))
_length = number(0.0, 1e300)
_sigma = either(number(0.0, 0.0), SIGMA)
_method = one_of("joint", "stratified", "neyman_pearson", "erase_and_check")

CERTIFICATE: dict[str, Reader] = {
    **ENVELOPE,
    "kind": one_of("hybrid", "tabular"),
    "verdict": one_of("unsafe", "safe", "abstained"),
    "reason": text,
    "notes": list_of(text, 100),
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
        draws=whole(1, _MOST_DRAWS),
        tails=whole(1, _MOST_TAILS),
        passes=whole(1, _MOST_DRAWS * _MOST_TAILS * _MOST_CELLS),
        cells=list_of(
            object_of(
                slots=_cell,
                leading_masked=_cell,
                at_least=flag,
                unsafe=_passes,
                near_ties=_passes,
            ),
            _MOST_CELLS,
            least=1,
        ),
        unsafe=_plane,
        near_tie=optional(_plane),
        tie_band=number(0.0, 1e300),
        scores=list_of(
            object_of(
                tokens=_budget,
                cells=list_of(_cell, _MOST_CELLS, least=1),
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
    "method": one_of("auto", "joint", "stratified", "neyman_pearson", "erase_and_check"),
    "asked_verdict": one_of("both", "unsafe", "safe"),
    "threat": object_of(
        text=one_of("suffix", "append", "l0", "none"), slots=_cell, max_tokens=_budget, image=one_of("l2", "none")
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
