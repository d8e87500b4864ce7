"""vLLM answers as transformers does, however the prompts come: together, alone, cached or cold."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from holdfast.contract.guard.spec import Cell
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.vllm.engine import ProcessEngine, Prompts
from holdfast_worker.models.vllm.guard import VllmGuard
from tests.workers.builders import spec_of

TEXTS = ("Put the flame next to the fuel can", "pour water", "Is it safe to bring a torch near the wire?", "a")


def draws_of(
    guard: LlavaGuard, text: str, stop: int, *, sigma: float = 0.5, slots: int = 8, beta: float = 0.5, tails: int = 2
) -> Draws:
    """Draws by so many tails in every cell of the suffix threat, on a random picture."""
    picture = np.random.default_rng(len(text)).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    prepared = guard.inputs.prepare(text, "", picture, slots=slots)
    spec = spec_of(guard, noise={"beta": beta}, sampling={"tails": tails})
    strata = [Cell(slots, k, k == slots) for k in range(slots + 1)]
    noised = guard.inputs.noised(spec, prepared.tail_base, strata, seed=text, start=0, stop=stop)
    return Draws(prepared, text, sigma, 0, stop, noised)


def cells(draws: Draws, chosen: list[int]) -> Draws:
    return Draws(draws.prepared, draws.seed, draws.sigma, draws.start, draws.stop, draws.tails[:, :, chosen])


def test_a_thousand_draws_are_judged_alike(plain: LlavaGuard, guard: VllmGuard) -> None:
    batch = [cells(draws_of(plain, text, 250, tails=1), [0, 8]) for text in TEXTS]
    wanted, found = (np.concatenate(judge.margins(batch)) for judge in (plain, guard))
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    clear = np.abs(wanted) > 1e-4
    assert ((found > 0) == (wanted > 0))[clear].all()
    assert 0.05 < (wanted[clear] > 0).mean() < 0.95  # both verdicts were tried


def test_ranges_of_any_shapes_are_answered_in_one_batch(plain: LlavaGuard, guard: VllmGuard) -> None:
    shapes: list[dict[str, Any]] = [{"slots": 0}, {"slots": 3, "sigma": 0.0}, {"slots": 8}, {"slots": 1, "sigma": 0.25}]
    batch = [draws_of(plain, text, 7, **shape) for text, shape in zip(TEXTS, shapes, strict=True)]
    for wanted, found in zip(plain.margins(batch), guard.margins(batch), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_prefix_from_the_cache_answers_as_one_computed_anew(
    plain: LlavaGuard, guard: VllmGuard, engine: ProcessEngine
) -> None:
    draws = draws_of(plain, TEXTS[0], 16)
    before = engine.cached_positions_total
    cold = np.concatenate([guard.margins([cells(draws, [cell])])[0] for cell in range(9)], axis=2)
    between = engine.cached_positions_total
    cached = guard.margins([draws])[0]
    # The policy alone, before the image, is common to all draws; what follows is not.
    assert engine.cached_positions_total - between > between - before
    np.testing.assert_allclose(cached, cold, atol=1e-5)


def test_the_tails_of_a_draw_find_all_but_the_last_block_of_their_prefix_cached(
    plain: LlavaGuard, guard: VllmGuard, engine: ProcessEngine
) -> None:
    draws = draws_of(plain, TEXTS[0], 4, beta=0.9)
    before = engine.cached_positions_total
    guard.margins([draws])
    whole_blocks = len(draws.prepared.prefix) // 32 * 32
    assert whole_blocks >= 64
    assert engine.cached_positions_total - before >= 4 * 14 * whole_blocks


def test_coinciding_prompts_are_submitted_once(
    plain: LlavaGuard, guard: VllmGuard, engine: ProcessEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, read = [], engine.logprobs

    def counted(prompts: Prompts) -> NDArray[np.float32]:
        sizes.append(len(prompts.lengths))
        return read(prompts)

    monkeypatch.setattr(engine, "logprobs", counted)
    draws = draws_of(plain, TEXTS[0], 6, sigma=0.0, slots=2)
    still = Draws(draws.prepared, "s", 0.0, 0, 6, np.repeat(draws.tails[:1], 6, axis=0))
    first, *others = guard.margins([still])[0]
    assert sizes == [len(np.unique(still.tails[0].reshape(-1, 2), axis=0))]
    assert all((other == first).all() for other in others)
