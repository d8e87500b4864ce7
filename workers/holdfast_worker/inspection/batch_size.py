"""How large a batch pays: passes per second at growing batches, until they fall or memory ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from holdfast_worker.inspection.fixed_draws import fixed_image, input_draws
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.examples import SEED
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.sampling.guard import example

_MOST_DRAWS = 1024
_LONGEST_S = 20.0  # a batch that takes longer is not doubled: orders of other jobs wait for it
_SLOWER, _FALLS = 0.97, 2  # this share of the best, this often in a row, is past the best
_WORTH = 0.97  # a smaller batch with this share of the best rate is preferred: it needs less memory


@dataclass(frozen=True)
class BatchPoint:
    """One batch size, measured.

    Attributes:
        draws: Draws in one forward pass.
        limit: The ``batch_limit`` that lets so many in: language-model positions of a guard, images of an encoder.
        passes_per_s: Verdicts or features per second.
    """

    draws: int
    limit: int
    passes_per_s: float


def recommended(points: list[BatchPoint]) -> BatchPoint:
    """The smallest batch that is about as fast as the fastest."""
    best = max(point.passes_per_s for point in points)
    return next(point for point in points if point.passes_per_s >= _WORTH * best)


def positions_of(guard: LlavaGuard, draws: Draws) -> int:
    """Language-model positions of one draw, as ``batch_limit`` counts them."""
    return guard.positions(draws.prepared, tails=draws.draw_passes)


def measure_batches(model: LlavaGuard | Encoder) -> list[BatchPoint]:
    """Runs batches of 1, 2, 4, … draws; the model's own limit and count of refusals are as before afterwards.

    Raises:
        torch.OutOfMemoryError: A single draw does not fit the device.
    """
    batching = model.batching
    limit, refusals = batching.limit, batching.out_of_memory_total
    points: list[BatchPoint] = []
    try:
        for draws in (1 << power for power in range(_MOST_DRAWS.bit_length())):
            point, seconds = _measured(model, draws)
            if batching.out_of_memory_total > refusals:
                break
            points.append(point)
            if seconds > _LONGEST_S or _past_best(points):
                break
    finally:
        batching.limit, batching.out_of_memory_total = limit, refusals
    return points


def _past_best(points: list[BatchPoint]) -> bool:
    rates = [point.passes_per_s for point in points]
    return len(rates) > _FALLS and max(rates[-_FALLS:]) < _SLOWER * max(rates)


def _measured(model: LlavaGuard | Encoder, draws: int) -> tuple[BatchPoint, float]:
    """The rate of one batch size, and how long such a batch takes."""
    if isinstance(model, Encoder):
        run, per_draw, passes = _encoder_run(model, draws), 1, draws
    else:
        run, per_draw, passes = _guard_run(model, draws)
    model.batching.limit = draws * per_draw
    seconds = _least_seconds(run)
    return BatchPoint(draws, draws * per_draw, passes / seconds), seconds


def _guard_run(guard: LlavaGuard, draws: int) -> tuple[Callable[[], object], int, int]:
    batch = input_draws(guard, example(guard, 0), draws)
    return lambda: guard.margins([batch]), positions_of(guard, batch), batch.passes


def _encoder_run(encoder: Encoder, draws: int) -> Callable[[], object]:
    prepared, sigma = fixed_image(encoder, 0), encoder.config.defaults.sigma

    def run() -> None:
        encoder.draw_features(prepared, SEED, sigma, 0, draws)
        if encoder.device.type == "cuda":
            torch.cuda.synchronize(encoder.device)

    return run


def _least_seconds(run: Callable[[], object]) -> float:
    """The least of some runs, of more where they are short: other load only ever adds."""
    run()
    times: list[float] = []
    while len(times) < 3 and sum(times) < 2.0:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
