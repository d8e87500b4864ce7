"""What is drawn and counted for each threat, on the shipped guard."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from holdfast.certificates import UniformKernel, suffix_draws
from holdfast.queue.orders import Order
from holdfast_worker.models import registry
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.noise import replace_tokens
from holdfast_worker.sampling.guard import GuardKind, Ready, draws_of
from tests.workers.builders import SEED, TEXT, bits, ready_for, tally_of

L0 = {"text": {"kind": "l0"}}
NO_TEXT = {"text": {"kind": "none"}}
NO_IMAGE = {"image": {"norm": "none"}}
SOME = {"beta": 0.5, "sigma": 0.5}  # half the slots and a strong image noise: both verdicts occur


@pytest.fixture(scope="module")
def guard() -> LlavaGuard:
    loaded = registry.load("reference-guard", {"device": "cpu"})
    assert isinstance(loaded, LlavaGuard)
    return loaded


def drawn(guard: LlavaGuard, ready: Ready, stop: int = 24) -> list[Draws]:
    return list(draws_of(guard, ready, Order("job", 0, 0, stop, tuple(range(len(ready.spec.cells))))))


def test_the_suffix_threat_counts_every_cell_by_its_leading_masked_slots(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME, method="stratified")
    tally = tally_of(guard, ready, 0, 48)
    assert tally.votes.cells == tuple(range(9))
    assert len(set(tally.votes.unsafe)) > 1
    assert (tally.votes.outcomes, tally.votes.positions) == (None, 0)


def test_auto_samples_the_natural_noise_beside_the_strata(guard: LlavaGuard) -> None:
    (both,) = drawn(guard, ready_for(guard, noise=SOME), 64)
    (strata,) = drawn(guard, ready_for(guard, noise=SOME, method="stratified"), 64)
    (natural,) = drawn(guard, ready_for(guard, noise=SOME, method="neyman_pearson"), 64)
    np.testing.assert_array_equal(both.tails, np.concatenate([strata.tails, natural.tails], axis=1))


def test_a_target_samples_the_one_cell_that_its_attacker_cannot_touch(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME, target={"tokens": 3})
    assert ready.spec.wanted_cells == (3,)
    (draws,) = draws_of(guard, ready, Order("job", 0, 0, 64, (3,)))
    noise = suffix_draws(
        UniformKernel(0.5, len(guard.inputs.prompt.alphabet)), slots=8, seed=SEED, start=0, stop=64, strata=3
    )
    assert noise.masked[:, 3, :3].all()
    assert 0.3 < noise.masked[:, 3, 3:].mean() < 0.7
    expected = replace_tokens(noise, ready.prepared.tail_base, guard.inputs.prompt.alphabet, None)[:, 3:]
    np.testing.assert_array_equal(draws.tails, expected)


def test_neyman_pearson_has_one_cell_of_natural_noise(guard: LlavaGuard) -> None:
    (draws,) = drawn(guard, ready_for(guard, noise=SOME, method="neyman_pearson"), 400)
    changed = (draws.tails[:, 0] != draws.prepared.tail_base).mean(axis=0)
    assert draws.tails.shape == (400, 1, 8)
    # A binomial share of 400 at 1/2 leaves 0.5 ± 0.16 with probability below 1e-9, for each of eight slots.
    assert np.abs(changed - 0.5).max() < 0.16


def test_the_tally_is_the_same_however_the_draws_are_cut(guard: LlavaGuard) -> None:
    jobs: list[dict[str, Any]] = [{}, {"threat": L0}, {"noise": SOME | {"scope": "per_budget"}}]
    for asked in jobs:
        ready = ready_for(guard, **asked)
        whole = tally_of(guard, ready, 0, 30)
        parts = [tally_of(guard, ready, a, b) for a, b in itertools.pairwise((0, 7, 16, 30))]
        assert tuple(map(sum, zip(*(part.votes.unsafe for part in parts), strict=True))) == whole.votes.unsafe


def test_per_budget_counts_what_a_job_of_that_many_slots_counts(guard: LlavaGuard) -> None:
    many = tally_of(guard, ready_for(guard, noise=SOME | {"scope": "per_budget"}), 0, 32)
    for budget in (0, 1, 4, 8):
        alone = ready_for(guard, noise=SOME, threat={"text": {"slots": budget}} if budget else NO_TEXT)
        assert tally_of(guard, alone, 0, 32, (budget,)).votes.unsafe == (many.votes.unsafe[budget],)
    assert len(set(many.votes.unsafe)) > 1


def test_per_budget_by_neyman_pearson_counts_natural_noise_over_that_many_slots(guard: LlavaGuard) -> None:
    asked: dict[str, Any] = {"method": "neyman_pearson", "noise": SOME | {"scope": "per_budget"}}
    found = tally_of(guard, ready_for(guard, **asked), 0, 32, (5,))
    alone = ready_for(guard, noise=SOME, method="neyman_pearson", threat={"text": {"slots": 5}})
    assert found.votes.unsafe == tally_of(guard, alone, 0, 32).votes.unsafe


def test_a_budget_beyond_the_jobs_own_is_an_error(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise={"scope": "per_budget"})
    with pytest.raises(ValueError, match="cell 9 must be at most 8"):
        tally_of(guard, ready, 0, 4, (9,))


def test_a_suffix_is_refused_where_budget_0_has_no_slot_for_it(guard: LlavaGuard) -> None:
    with pytest.raises(InputRefusedError, match="has 4 bytes, must be empty where per_budget asks for budget 0"):
        ready_for(guard, suffix=" now", noise={"scope": "per_budget"})
    ready = ready_for(guard, suffix=" now", noise={"scope": "per_budget"}, target={"tokens": 4})
    assert len(ready.prepared.tail_base) == 4


def test_l0_outcomes_are_the_votes_on_the_texts_own_tokens_under_the_stated_masks(guard: LlavaGuard) -> None:
    ready = ready_for(guard, threat=L0, noise=SOME)
    tally = tally_of(guard, ready, 5, 42)
    tokens, image = guard._prompt.encode(TEXT), ready.prepared.clean
    noise = suffix_draws(
        UniformKernel(0.5, len(guard.inputs.prompt.alphabet)), slots=len(tokens), seed=SEED, start=5, stop=42, strata=0
    )
    tails = np.where(noise.masked[:, 0], guard.inputs.prompt.alphabet[noise.replacement], tokens)
    pixels = np.round(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    by_hand = guard.inputs.prepare("", "", pixels, slots=0)
    votes = [
        guard.margins([Draws(replace(by_hand, tail_base=tail), SEED, 0.5, 5 + i, 6 + i, tail[None, None])])[0].item()
        > 0
        for i, tail in enumerate(tails)
    ]
    assert bits(tally.votes.outcomes, 37) == [int(vote) for vote in votes]
    assert (tally.votes.positions, tally.votes.unsafe) == (len(tokens), (sum(votes),))
    assert 0 < sum(votes) < 37


def test_an_l0_text_without_noise_is_the_plain_prompt(guard: LlavaGuard) -> None:
    l0, plain = ready_for(guard, threat=L0), ready_for(guard, threat=NO_TEXT)
    found = [
        guard.margins([Draws(ready.prepared, SEED, 0.5, 0, 8, np.tile(ready.prepared.tail_base, (8, 1, 1)))])[0]
        for ready in (l0, plain)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_an_l0_text_may_have_more_tokens_than_a_request_may_have_slots(guard: LlavaGuard) -> None:
    ready = ready_for(guard, text="flame and fuel " * 10, threat=L0)
    assert len(ready.prepared.tail_base) > guard.config.max_slots
    assert tally_of(guard, ready, 0, 4).votes.positions == len(ready.prepared.tail_base)


def test_l0_refuses_a_text_that_is_too_long_or_empty(guard: LlavaGuard) -> None:
    with pytest.raises(InputRefusedError, match="have 161 bytes, must be at most 160; shorten"):
        ready_for(guard, text="x" * 161, threat=L0)
    with pytest.raises(InputRefusedError, match="has 0 tokens, must have at least 1 for the l0 threat"):
        ready_for(guard, text="", threat=L0)


def test_the_image_only_threat_has_no_slots_and_one_cell(guard: LlavaGuard) -> None:
    ready = ready_for(guard, threat=NO_TEXT)
    (draws,) = drawn(guard, ready)
    assert draws.tails.shape == (24, 1, 0)
    assert draws.images == 24
    assert tally_of(guard, ready, 0, 24).votes.cells == (0,)


def test_the_text_only_threat_reads_the_clean_image_once_for_all_draws(
    guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = ready_for(guard, threat=NO_IMAGE, noise={"beta": 0.5})
    tower, read = guard._model.model.vision_tower, []
    forward = tower.forward

    def counted(tiles: Tensor, **options: Any) -> Any:
        read.append(len(tiles))
        return forward(tiles, **options)

    monkeypatch.setattr(tower, "forward", counted)
    tally_of(guard, ready, 0, 24)
    assert ready.spec.sigma == 0
    assert read == [1]


def test_without_image_noise_each_draw_votes_as_it_would_alone(guard: LlavaGuard) -> None:
    still, noisy = ready_for(guard, threat=NO_IMAGE, noise={"beta": 0.5}), ready_for(guard, threat=L0)
    batch = [*drawn(guard, still), *drawn(guard, ready_for(guard)), *drawn(guard, noisy)]
    together = guard.margins(batch)
    for draws, found in zip(batch, together, strict=True):
        alone = [guard.margins([draws.part(i, i + 1)])[0] for i in range(24)]
        np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)


@pytest.mark.parametrize("asked", [{}, {"threat": L0}, {"noise": SOME | {"scope": "per_budget"}}])
def test_a_cell_that_the_job_does_not_have_is_an_error(guard: LlavaGuard, asked: dict[str, Any]) -> None:
    with pytest.raises((IndexError, ValueError)):
        tally_of(guard, ready_for(guard, **asked), 0, 4, (99,))


def test_warming_up_runs_an_order_at_the_defaults(guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    margins, seen = guard.margins, list[Draws]()

    def noted(batch: Sequence[Draws]) -> Any:
        seen.extend(batch)
        return margins(batch)

    monkeypatch.setattr(guard, "margins", noted)
    GuardKind(guard).warm_up()
    assert [draws.tails.shape for draws in seen] == [(4, 10, 8)]
