"""Where a batch's time goes, stage by stage, without making the device wait."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

STAGES = ("noise", "preprocess", "vision", "prefix", "tails")


class StageClock:
    """Adds up seconds per stage; on CUDA by events that are read once the batch has left the device anyway.

    Attributes:
        seconds: Seconds spent in each stage since the clock was made; a guard's stages are ``STAGES``.
    """

    def __init__(self, device: torch.device, stages: Sequence[str] = STAGES) -> None:
        """Starts at 0 in these stages; others appear once they are marked."""
        self.seconds = dict.fromkeys(stages, 0.0)
        self._device = device
        self._marks: list[tuple[str | None, Any]] = []

    def begin(self) -> None:
        """Starts a forward pass: what passed since the last mark belongs to no stage."""
        self.mark(None)

    def mark(self, stage: str | None) -> None:
        """Ends a stage that began at the previous mark."""
        self._marks.append((stage, self._now()))

    def settle(self) -> None:
        """Adds the marks up; the device must have finished them."""
        for (_, before), (stage, after) in pairwise(self._marks):
            if stage is not None:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + self._between(before, after)
        self._marks.clear()

    def _now(self) -> Any:
        if self._device.type == "cpu":
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _between(self, before: Any, after: Any) -> float:
        return float(after - before) if self._device.type == "cpu" else float(before.elapsed_time(after)) / 1000
