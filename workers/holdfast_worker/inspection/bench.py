"""How fast a model serves its default request here: draws per second, where the time goes, and how well it is used."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from holdfast.certificates import Votes, answer, tail_masks
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import question_of
from holdfast_worker.gaussian import noisy
from holdfast_worker.inspection.fixed_draws import fixed_image, input_draws
from holdfast_worker.inspection.flops import draw_flops, encoder_flops, peak_flops
from holdfast_worker.models.draws import PreparedInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.examples import SEED
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.models.registry import Model
from holdfast_worker.models.stages import StageClock
from holdfast_worker.models.vision.towers import to_sphere
from holdfast_worker.sampling.cost import measured_cost
from holdfast_worker.sampling.guard import example

_MOST_DRAWS = 1024


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
        name: The model's name.
        fingerprint: Its fingerprint.
        device: The device's name.
        dtype: Number type of weights and activations.
        threads: CPU threads of one pass.
        load: The machine's load average over the last minute, before.
        draws: Draws in a run.
        tails: Tails that score a draw of the default request in every cell; 1 for an encoder.
        cells: Its cells: a draw is tails times cells passes; likewise.
        draws_per_s: Image draws per second, in the fastest run.
        passes_per_s: Verdicts, or features, per second, in the fastest run.
        stages: Share of each stage in the time of all runs.
        flops_per_draw: Operations of one draw, if they can be counted.
        peak_flops: Operations per second of matrix products of this number type, measured here; likewise.
        utilisation: ``flops_per_draw`` times draws per second over ``peak_flops``; likewise.
        prefill_s: Seconds of a draw up to its tails, as a worker measures and announces them; none for an encoder.
        position_s: Seconds of one tail position; likewise.
        max_draws: Draws that the default request may spend.
        certificate_s: CPU seconds of one certificate from its votes; none for an encoder.
        frontier_s: Seconds of all draws at the measured rate, and of the certificate.
    """

    name: str
    fingerprint: str
    device: str
    dtype: str
    threads: int
    load: float
    draws: int
    tails: int
    cells: int
    draws_per_s: float
    passes_per_s: float
    stages: Mapping[str, float]
    flops_per_draw: float | None
    peak_flops: float | None
    utilisation: float | None
    prefill_s: float | None
    position_s: float | None
    max_draws: int
    certificate_s: float | None
    frontier_s: float


def bench(model: Model, *, seconds: float = 5.0, draws: int | None = None, warm_up: bool = True) -> Bench:
    """Measures a model.

    Args:
        model: A guard or encoder.
        seconds: Time to spend on runs; one run at least.
        draws: Draws in a run; by default as many as fill one forward pass.
        warm_up: Whether a run goes before those that are timed, and draws of one tail are timed too, for the cost; a
            draw of a huge model on a CPU takes minutes.
    """
    if isinstance(model, Encoder):
        return _encoder(model, seconds, draws, warm_up)
    return _guard(model, seconds, draws, warm_up)


def _guard(guard: Guard, seconds: float, asked: int | None, warm_up: bool) -> Bench:
    load, ready = os.getloadavg()[0], example(guard, 0)
    batch = input_draws(guard, ready, asked or 1)
    if asked is None:
        full = guard.room(ready.prepared, tails=batch.draw_passes)
        batch = input_draws(guard, ready, min(full, _MOST_DRAWS))
    if warm_up:
        guard.margins([batch])
    clock: StageClock | None = getattr(guard, "clock", None)
    before = {} if clock is None else dict(clock.seconds)
    least_s = _least_seconds(lambda: guard.margins([batch]), seconds)
    spent = {} if clock is None else {stage: total - before[stage] for stage, total in clock.seconds.items()}
    flops = None  # how much a written answer takes, only its length tells
    if isinstance(guard, LlavaGuard) and guard.config.decision == "token_mass":
        flops = draw_flops(guard, batch).total
    draws, tails, cells = batch.tails.shape[:3]
    timed = _Timed(load, draws, tails, cells, least_s, spent)
    if warm_up:
        guard.cost = measured_cost(guard, ready)
    return _bench(guard, timed, flops, example(guard, 0).spec)


def _encoder(encoder: Encoder, seconds: float, draws: int | None, warm_up: bool) -> Bench:
    load, sigma = os.getloadavg()[0], encoder.config.defaults.sigma
    prepared, count = fixed_image(encoder, 0), draws or encoder.batching.limit

    def run() -> None:
        encoder.draw_features(prepared, SEED, sigma, 0, count)
        _wait(encoder.device)

    if warm_up:
        run()
    timed = _Timed(load, count, 1, 1, _least_seconds(run, seconds), _encoder_stages(encoder, prepared, sigma, count))
    return _bench(encoder, timed, encoder_flops(encoder, sigma), None)


@dataclass(frozen=True)
class _Timed:
    """A run of some draws: the load before it, its size, its least time, and what its stages took."""

    load: float
    draws: int
    tails: int
    cells: int
    least_s: float
    spent: Mapping[str, float]


def _bench(model: Model, timed: _Timed, flops: float | None, spec: GuardSpec | None) -> Bench:
    dtype, device = model.dtype, model.device
    peak = None if flops is None else peak_flops(device, dtype)
    rate, whole = timed.draws / timed.least_s, sum(timed.spent.values())
    cost = None if isinstance(model, Encoder) else model.cost
    most = model.info.defaults.draws if isinstance(model, Encoder) else example(model, 0).spec.max_draws
    certificate_s = None if spec is None else certificate_seconds(spec)
    return Bench(
        name=model.config.name,
        fingerprint=model.fingerprint,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        load=timed.load,
        draws=timed.draws,
        tails=timed.tails,
        cells=timed.cells,
        draws_per_s=rate,
        passes_per_s=rate * timed.tails * timed.cells,
        stages={stage: seconds / whole for stage, seconds in timed.spent.items()} if whole else {},
        flops_per_draw=flops,
        peak_flops=peak,
        utilisation=None if flops is None or peak is None else flops * rate / peak,
        prefill_s=None if cost is None else cost.prefill_s,
        position_s=None if cost is None else cost.position_s,
        max_draws=most,
        certificate_s=certificate_s,
        frontier_s=most / rate + (certificate_s or 0.0),
    )


def _least_seconds(run: Callable[[], object], seconds: float) -> float:
    """The least of as many runs as the time allows: other load on the machine only ever adds."""
    times: list[float] = []
    while not times or sum(times) + min(times) <= seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


@torch.inference_mode()
def _encoder_stages(encoder: Encoder, prepared: PreparedInput, sigma: float, draws: int) -> dict[str, float]:
    """Seconds of each stage of one batch, run one after another."""
    denoiser, mapper = encoder.denoiser, encoder.mapper
    clock = StageClock(encoder.device, stages=())
    clock.begin()
    images = noisy(prepared.clean[None], sigma=sigma, seed=SEED, start=0, stop=draws)
    clock.mark("noise")
    if denoiser is not None:
        images = denoiser(images, sigma)
        clock.mark("denoise")
    tokens = encoder.tower.tokens(images)
    clock.mark("vision")
    if mapper is not None:
        tokens = tokens + mapper(tokens, sigma)
        clock.mark("mapper")
    to_sphere(encoder.tower.pooled(tokens))
    clock.mark("pooling")
    _wait(encoder.device)
    clock.settle()
    return clock.seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def certificate_seconds(spec: GuardSpec) -> float:
    """CPU seconds of one certificate from its votes: every number of it, computed once.

    Args:
        spec: What is certified, from all of its draws, nine tenths of whose votes are Unsafe.
    """
    question, votes = question_of(spec), _votes(spec)
    answer(question, votes)
    start = time.process_time()
    answer(question, votes)
    return time.process_time() - start


def _votes(spec: GuardSpec) -> Votes:
    shape = spec.max_draws, spec.tails, len(spec.cells)
    unsafe = np.random.default_rng(0).random(shape) < 0.9
    masks = None
    if spec.masks_matter:
        masks = tail_masks(question_of(spec), positions=spec.slots, seed=SEED, start=0, stop=spec.max_draws)
    return Votes(unsafe, np.zeros_like(unsafe), masks)
