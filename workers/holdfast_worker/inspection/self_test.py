"""The self-test of a model: fixed draws, computed in every way that must agree.

That numbers are finite, and that no margin moves with its company by more than the band of ties, is asked of the model
as it is served. What batches and shared prefixes may not change is asked
of the same checkpoint in float32, where rounding cannot hide a mistake. What the served number type, or the other
engine, makes of the verdicts is measured against that, and may differ near a tie only.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from holdfast_worker.inspection.batch_size import positions_of
from holdfast_worker.inspection.checks import Check, all_finite, equal_margins, same_verdicts, within_band
from holdfast_worker.inspection.examined import Absent, Examined, close
from holdfast_worker.inspection.feature_checks import feature_checks
from holdfast_worker.inspection.fixed_draws import fixed_draws
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import ModelOutputError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.models.registry import Model
from holdfast_worker.models.vllm.guard import VllmGuard

_PLAIN_DRAWS = 4  # each pass of these is a whole run of the model
_REPORT = "report it, with the versions of torch and transformers"
_HALF = (torch.bfloat16, torch.float16)
_NEAR = {True: 1.0, False: 1e-4}
"""How near to a tie a half-precision verdict, and another float32 engine's, may fall the other way."""

_NOTHING = "served in float32: nothing to compare"

Margins = list[NDArray[np.float32]]


def self_test(examined: Examined, model: Model) -> Iterator[Check]:
    """Runs every check that the model's kind has, in turn.

    Args:
        examined: What to load again where another number type, engine or layout is compared.
        model: What it loads as it is served.

    Yields:
        One check at a time: a large model takes a while over each.
    """
    if isinstance(model, Encoder):
        yield from feature_checks(examined, model)
        return
    batch = fixed_draws(model, examined.draws)
    try:
        served = model.margins(batch)
    except ModelOutputError as error:
        yield Check("finite", "fail", str(error))
        return
    yield all_finite(served)
    yield _in_company(model, batch, served)
    if not isinstance(model, LlavaGuard | VllmGuard):
        yield _one_by_one(model, batch, served)
        return
    how = _Served(model.dtype in _HALF, not isinstance(model, LlavaGuard), served)
    kept = None if how.in_half or how.on_vllm else model
    close(model)
    del model, batch  # both number types may not fit the device
    yield from _multimodal(examined, how, kept)


@dataclass(frozen=True, eq=False)
class _Served:
    """How the draws were computed as they are served, and what came out."""

    in_half: bool
    on_vllm: bool
    margins: Margins

    @property
    def engine(self) -> dict[str, str]:
        """What to change for transformers to read the same checkpoint."""
        return {"engine": "transformers"} if self.on_vllm else {}


def _multimodal(examined: Examined, served: _Served, exact: Guard | Absent | None) -> Iterator[Check]:
    loaded = exact or examined.try_load(dtype="float32", **served.engine)
    if isinstance(loaded, Absent):
        yield from (Check(name, "skipped", loaded.why) for name in ("batches", "prefix", "dtype", "vllm"))
        return
    guard = _on_transformers(loaded)
    batch = fixed_draws(guard, examined.draws)
    margins, layout = guard.margins(batch), guard.config.layout
    yield _few_at_a_time(guard, batch, margins)
    yield _without_reuse(guard, batch, margins)
    yield _against_exact(served, margins) if exact is None else Check("dtype", "skipped", _NOTHING)
    del loaded, exact, guard, batch
    yield _on_vllm(examined, margins, served_there=served.on_vllm)
    if examined.layouts:
        other = "published" if layout == "policy_first" else "policy_first"
        yield _other_layout(examined, other, served.engine, margins)


def _against_exact(served: _Served, exact: Margins) -> Check:
    remedy = "use dtype=float32, or engine=transformers" if served.on_vllm else "use dtype=float32"
    return same_verdicts("dtype", served.margins, exact, near=_NEAR[served.in_half], remedy=remedy)


def _in_company(guard: Guard, batch: Sequence[Draws], served: Margins) -> Check:
    """How far a margin moves, as it is served, between a draw alone, its own range alone, and two mixed batches."""
    alone = [
        np.concatenate([guard.margins([draws.part(i, i + 1)])[0] for i in range(len(draws.tails))]) for draws in batch
    ]
    ranges = [guard.margins([draws])[0] for draws in batch]
    halves = [draws.part(0, -(-len(draws.tails) // 2)) for draws in batch]
    mixed = guard.margins([*halves, *batch, *halves])[len(batch) : 2 * len(batch)]
    return within_band("company", [alone, ranges, mixed, served], band=guard.info.tie_band)


def _on_transformers(model: Model) -> LlavaGuard:
    if not isinstance(model, LlavaGuard):
        raise TypeError(f"{type(model).__name__} is no guard on transformers")
    return model


def _one_by_one(guard: Guard, batch: Sequence[Draws], whole: Margins) -> Check:
    parts = [guard.margins([draws.part(i, i + 1)])[0] for draws in batch for i in range(len(draws.tails))]
    return equal_margins("batches", parts, whole, remedy="use dtype=float64")


def _few_at_a_time(guard: LlavaGuard, batch: Sequence[Draws], whole: Margins) -> Check:
    """The same draws one by one and three at a time, against as many at once as the limit allows."""
    limit, found = guard.batching.limit, []
    try:
        for draws in (1, 3):
            guard.batching.limit = draws * max(positions_of(guard, part) for part in batch)
            found += guard.margins(batch)
    finally:
        guard.batching.limit = limit
    return equal_margins("batches", found, [*whole, *whole], remedy=_REPORT)


def _without_reuse(guard: LlavaGuard, batch: Sequence[Draws], whole: Margins) -> Check:
    """Some of the draws, every pass whole and by itself."""
    if guard.config.decision != "token_mass":
        return Check("prefix", "skipped", "answers are written, and a written answer has no margin to compare")
    few = max(1, _PLAIN_DRAWS // len(batch))
    plain = [guard.plain_margins(draws.part(0, min(few, len(draws.tails)))) for draws in batch]
    shared = [margins[: len(part)] for margins, part in zip(whole, plain, strict=True)]
    return equal_margins("prefix", shared, plain, remedy=_REPORT)


def _on_vllm(examined: Examined, exact: Margins, *, served_there: bool) -> Check:
    if served_there:
        return Check("vllm", "skipped", "it is what serves; dtype compares it with transformers")
    if importlib.util.find_spec("vllm") is None:
        return Check("vllm", "skipped", "vLLM is not installed; install the vllm extra to compare the engines")
    guard = examined.try_load(engine="vllm")
    if isinstance(guard, Absent):
        return Check("vllm", "skipped", guard.why)
    if isinstance(guard, Encoder):
        raise TypeError("an encoder is no guard on vLLM")
    found, near = guard.margins(fixed_draws(guard, examined.draws)), _NEAR[guard.dtype in _HALF]
    close(guard)
    return same_verdicts("vllm", found, exact, near=near, remedy="serve it with engine=transformers")


def _other_layout(examined: Examined, other: str, own: Mapping[str, str], margins: Margins) -> Check:
    """How often a prompt with the policy first gives the published prompt's verdict: another guard, so no more."""
    loaded = examined.try_load(dtype="float32", layout=other, **own)
    if isinstance(loaded, Absent):
        return Check("layout", "skipped", loaded.why)
    guard = _on_transformers(loaded)
    found = guard.margins(fixed_draws(guard, examined.draws))
    compared = same_verdicts("layout", found, margins, near=float("inf"), remedy="")
    share, passes = compared.values["equal_share"], compared.values["passes"]
    return Check("layout", "measured", f"{share:.2%} of {passes:.0f} verdicts are those of {other}", compared.values)
