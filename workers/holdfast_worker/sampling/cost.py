"""What a guard's draws cost on this device, measured before it is announced."""

import time
from dataclasses import replace

from holdfast.contract.models import Cost
from holdfast.queue.orders import Order
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import Ready, margins

_RUN_S, _ALL_S = 0.08, 0.4  # of one run where draws are fast, and of all runs
_MOST_DRAWS = 64


def measured_cost(guard: Guard, ready: Ready) -> Cost:
    """Times draws of one tail and of the default's, and reads both costs off the line through them.

    Every run is repeated while there is time, and its least counts: other load on the device only ever adds.

    Args:
        guard: The guard, warm.
        ready: Its default request on an example.
    """
    spec, closing = ready.spec, guard.inputs.closing
    room = guard.room(ready.prepared, tails=spec.draw_passes)
    few, many = 1, max(2, spec.tails)
    draws = int(_RUN_S / _seconds(guard, ready, many, 1))
    draws = max(1, min(draws, room, _MOST_DRAWS))
    least = {few: float("inf"), many: float("inf")}
    end = time.perf_counter() + _ALL_S
    while True:
        for tails in least:
            least[tails] = min(least[tails], _seconds(guard, ready, tails, draws) / draws)
        if time.perf_counter() >= end:
            break
    unit = len(spec.cells) * (spec.slots + closing)
    position_s = max(0.0, (least[many] - least[few]) / ((many - few) * unit))
    prefill_s = max(0.0, least[few] - few * unit * position_s)
    return Cost(prefill_s=prefill_s, position_s=position_s, closing=closing, room=room)


def _seconds(guard: Guard, ready: Ready, tails: int, draws: int) -> float:
    asked = replace(ready, spec=ready.spec.model_copy(update={"tails": tails}))
    start = time.perf_counter()
    margins(guard, [(Order("cost", 0, 0, draws), asked)])
    return time.perf_counter() - start
