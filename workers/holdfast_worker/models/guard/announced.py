"""What a guard announces besides its settings: the band of ties, the tails of a draw, the draws its cost allows."""

import torch

from holdfast.contract.base import MAX_TAILS, ImageData
from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import Cost, GuardInfo
from holdfast.queue.jobs import JobInput

TIE_BANDS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Band of ties by number type: with a batch's shape margins move by 2e-6 in float32 and 1.6e-2 in bfloat16."""

_SLOW_S = 0.01  # a draw that costs more makes a certificate of the usual draws long
_DEVICE_S = 10.0
_LEAST_DRAWS = 20


def tie_band(asked: float | None, dtype: torch.dtype) -> float:
    """The band that the settings ask for, or the number type's."""
    return TIE_BANDS[dtype] if asked is None else asked


def default_spec(info: GuardInfo, given: JobInput) -> GuardSpec:
    """What the default request means for an input."""
    asked = Input(fields=given.fields) if given.fields else Input(text=given.text, image=ImageData(data="given"))
    return resolve(CertificationRequest(model=info.name, input=asked), info)


def with_tails(info: GuardInfo, tails: int) -> GuardInfo:
    """The description with r, the default tails of a draw."""
    return info.model_copy(update={"defaults": info.defaults.model_copy(update={"tails": tails})})


def tails_worth(prefill: int, tail: int) -> int:
    """r: as many tails as cost about half a prefill, 1 to ``MAX_TAILS`` (maths.md §10).

    It follows from positions alone. A measurement would give two workers of one model different draws.

    Args:
        prefill: Positions that are read once for every image draw.
        tail: Positions of one tail in all cells.
    """
    return max(1, min(MAX_TAILS, round(prefill / (2 * tail))))


def with_cost(info: GuardInfo, cost: Cost | None, spec: GuardSpec) -> GuardInfo:
    """The description with what its draws cost, and with as many draws by default as that allows.

    Where a default draw takes more than 10 ms and the settings do not say how many are spent, ``max_draws`` is about
    ten device-seconds of them, never above the usual.

    Args:
        info: The guard by its settings.
        cost: What was measured; None: nothing was.
        spec: The default request.
    """
    if cost is None:
        return info
    draw_s, defaults = cost.draw_s(tails=spec.draw_passes, slots=spec.slots), info.defaults
    if draw_s > _SLOW_S and "max_draws" not in defaults.model_fields_set:
        most = min(defaults.max_draws, max(_LEAST_DRAWS, int(_DEVICE_S / draw_s)))
        defaults = defaults.model_copy(update={"max_draws": most})
    return info.model_copy(update={"cost": cost, "defaults": defaults})
