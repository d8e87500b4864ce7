"""From an order to its tally: what is drawn for each threat, and what is counted.

Which cells there are and what each of them means is the spec's to say (maths.md §5): under the suffix threat cell k has
k leading masked slots, under ``per_budget`` cell b is the smoothed guard of b slots, and otherwise there is one cell of
natural noise. What a draw turns out to be depends on the job's seed and the draw's index alone.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from holdfast.certificates import AbsorbingKernel, TokenKernel, UniformKernel, field_draws, suffix_draws
from holdfast.contract.base import ImageData
from holdfast.contract.guard.requests import CertificationRequest, Input
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order, Tally, Votes
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.tabular import TabularGuard
from holdfast_worker.models.registry import Guard
from holdfast_worker.models.vllm.guard import VllmGuard
from holdfast_worker.noise import replace_tokens

__all__ = ["Ready", "cells_of", "draws_of", "margins", "prepare", "tally", "warm_up"]


@dataclass(frozen=True, eq=False)
class Ready:
    """A job's input, ready for draws."""

    spec: GuardSpec
    seed: str
    prepared: PreparedInput


def prepare(guard: Guard, spec: GuardSpec, seed: str, given: JobInput) -> Ready:
    """Prepares an input for the threat that the spec names.

    Args:
        guard: The guard that will vote.
        spec: What is certified.
        seed: The job's secret seed.
        given: Text, suffix and the image as PNG, or fields.

    Raises:
        InputRefusedError: The input does not fit the guard or the threat.
    """
    return Ready(spec, seed, _prepared(guard, spec, given))


def _prepared(guard: Guard, spec: GuardSpec, given: JobInput) -> PreparedInput:
    if isinstance(guard, TabularGuard):
        return guard.prepare(given.fields)
    with Image.open(io.BytesIO(given.image_png), formats=("PNG",)) as file:
        image = np.array(file.convert("RGB"))
    if spec.text == "l0":
        return guard.inputs.prepare_all_tokens(given.text, image)
    if spec.scope == "shared":
        return guard.inputs.prepare(given.text, given.suffix, image, slots=spec.slots)
    if given.suffix and 0 in spec.wanted_cells:
        size = len(given.suffix.encode())
        raise InputRefusedError(
            f"the suffix has {size} bytes, must be empty where per_budget asks for budget 0, whose guard has no slot;"
            " drop it, ask for a target, or use scope=shared"
        )
    return guard.inputs.prepare(given.text, given.suffix, image, slots=max(spec.wanted_cells))


def margins(guard: Guard, wanted: Sequence[tuple[Order, Ready]]) -> list[NDArray[np.float32]]:
    """Runs orders of any jobs of one guard together.

    Returns:
        For each order the log-odds of Unsafe, shape (draws, cells); above 0 is Unsafe.
    """
    parts = [list(draws_of(guard, ready, order)) for order, ready in wanted]
    found = iter(guard.margins([draws for part in parts for draws in part]))
    return [np.concatenate([next(found) for _ in part], axis=1) for part in parts]


def tally(ready: Ready, order: Order, found: NDArray[np.float32]) -> Tally:
    """Counts an order's margins: Unsafe draws per cell and, where each draw's mask matters, every outcome."""
    unsafe, masks_matter = found > 0, ready.spec.masks_matter
    return Tally(
        start=order.start,
        stop=order.stop,
        found=Votes(
            cells=cells_of(order),
            unsafe=tuple(map(int, unsafe.sum(axis=0))),
            outcomes=np.packbits(unsafe[:, 0]).tobytes().hex() if masks_matter else None,
            positions=len(ready.prepared.tail_base) if masks_matter else 0,
        ),
        operator_norm=ready.prepared.operator_norm,
    )


def cells_of(order: Order) -> tuple[int, ...]:
    """The cells that an order asks for.

    Raises:
        ValueError: It names none, as for an encoder.
    """
    if order.cells is None:
        raise ValueError(f"order {order.index} has no cells, must name those of a guard; issue orders for that")
    return order.cells


def draws_of(guard: Guard, ready: Ready, order: Order) -> Iterator[Draws]:
    """The draws of an order in its cells, in the order of its cells; several where cells have guards of their own."""
    spec, prepared, cells = ready.spec, ready.prepared, list(cells_of(order))
    if isinstance(guard, TabularGuard):
        yield _draws(ready, order, prepared, _noised_fields(ready, order)[:, cells])
    elif spec.scope == "shared":
        tails = _noised_slots(guard, ready, order, prepared.tail_base, spec.strata)
        if spec.natural:
            own = _noised_slots(guard, ready, order, prepared.tail_base, 0)
            tails = np.concatenate([tails, own], axis=1)
        yield _draws(ready, order, prepared, tails[:, cells])
    else:
        for budget in cells:
            base = prepared.tail_base[:budget]
            if len(base) != budget:
                raise ValueError(f"cell {budget} must be at most {len(base)}, the largest budget of this job")
            strata = 0 if spec.method == "neyman_pearson" else budget
            tails = _noised_slots(guard, ready, order, base, strata)
            yield _draws(ready, order, replace(prepared, tail_base=base), tails[:, -1:])


def _draws(ready: Ready, order: Order, prepared: PreparedInput, tails: NDArray[np.int64]) -> Draws:
    return Draws(prepared, ready.seed, ready.spec.sigma, order.start, order.stop, tails)


def _noised_slots(
    guard: LlavaGuard | VllmGuard, ready: Ready, order: Order, base: NDArray[np.int64], strata: int
) -> NDArray[np.int64]:
    """Noised slot tokens of every cell, shape (draws, strata + 1, slots)."""
    noise = suffix_draws(
        _kernel(ready.spec, ready.spec.alphabets[0]),
        slots=len(base),
        seed=ready.seed,
        start=order.start,
        stop=order.stop,
        strata=strata,
    )
    return replace_tokens(noise, base, guard.alphabet, guard.mask_id)


def _noised_fields(ready: Ready, order: Order) -> NDArray[np.int64]:
    """Noised value indexes of the categorical fields in the one cell, shape (draws, 1, fields)."""
    spec, base = ready.spec, ready.prepared.tail_base
    if spec.text == "none":
        return np.broadcast_to(base, (order.stop - order.start, 1, len(base)))
    kernels = [_kernel(spec, size) for size in spec.alphabets]
    noise = field_draws(kernels, seed=ready.seed, start=order.start, stop=order.stop)
    return np.where(noise.masked, noise.replacement, base)[:, None]


def _kernel(spec: GuardSpec, alphabet_size: int) -> TokenKernel:
    return UniformKernel(spec.beta, alphabet_size) if spec.token_kernel == "uniform" else AbsorbingKernel(spec.beta)


def warm_up(guard: Guard) -> None:
    """Runs a real order at the guard's defaults: one that cannot run it must not announce itself."""
    info = guard.info
    if info.kind == "tabular":
        given = JobInput(fields={field.name: field.values[0] if field.values else 0.0 for field in info.fields})
        asked = Input(fields=given.fields)
    else:
        png = io.BytesIO()
        Image.new("RGB", (info.space.width, info.space.height), "grey").save(png, "PNG")
        given = JobInput(text="warm up", image_png=png.getvalue())
        asked = Input(text=given.text, image=ImageData(data="given"))
    spec = resolve(CertificationRequest(model=info.name, input=asked), info)
    order = Order("warm-up", 0, 0, 4, tuple(range(spec.cells)))
    margins(guard, [(order, prepare(guard, spec, "00" * 32, given))])
