"""What is drawn and counted for each threat, on the shipped guard."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from holdfast.certificates import UniformKernel, suffix_draws, tail_masks, unpacked
from holdfast.questions import question_of
from holdfast.queue.orders import Order
from holdfast_worker.models import registry
from holdfast_worker.models.draws import Draws
from holdfast_worker.models.errors import InputRefusedError
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.noise import replace_tokens
from holdfast_worker.sampling.guard import GuardKind, Ready, draws_of, margins, tally, votes_of
from tests.workers.builders import SEED, TEXT, ready_for, tally_of, unsafe_of

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
    return list(draws_of(guard, ready, Order("job", 0, 0, stop)))


def test_the_suffix_threat_votes_on_every_draw_by_every_tail_in_every_cell(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME, sampling={"tails": 3})
    tally = tally_of(guard, ready, 0, 32)
    unsafe = unsafe_of(tally, ready)
    assert unsafe.shape == (32, 3, 9)
    assert 0 < unsafe.mean() < 1
    assert (tally.draws, tally.votes.positions) == (32, 0)


def test_the_planes_are_the_margins_signs_and_those_within_the_band(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME)
    order = Order("job", 0, 8, 40)
    (found,) = margins(guard, [(order, ready)])
    band = float(np.quantile(np.abs(found), 0.3))
    wide = replace(ready, spec=ready.spec.model_copy(update={"tie_band": band}))
    plain, banded = tally(ready, order, found).votes, tally(wide, order, found).votes
    assert ready.spec.tie_band == guard.info.tie_band == 1e-5
    np.testing.assert_array_equal(unpacked(banded.unsafe, found.shape), found > 0)
    assert banded.near_tie is not None
    np.testing.assert_array_equal(unpacked(banded.near_tie, found.shape), np.abs(found.astype(np.float64)) <= band)
    assert (plain.unsafe, plain.near_tie) == (banded.unsafe, None)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20), st.floats(0, 1))
def test_a_margin_at_the_band_is_near_a_tie_and_one_beyond_is_not(values: list[float], band: float) -> None:
    spec = SimpleNamespace(tie_band=band)
    unsafe, near = votes_of(Ready(cast(Any, spec), SEED, cast(Any, None)), np.array(values, dtype=np.float32))
    assert unsafe.tolist() == [value > 0 for value in values]
    assert near.tolist() == [abs(value) <= band for value in values]


def test_the_tails_of_a_draw_are_independent_of_each_other(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME, method="neyman_pearson", sampling={"tails": 2})
    (draws,) = drawn(guard, ready, 400)
    first, second = np.moveaxis(draws.tails[:, :, 0] != draws.prepared.tail_base, 1, 0)
    # Shares of 3,200 places: 1/2 each, and 1/4 where independent, within 0.09 with probability above 1 - 1e-9.
    assert abs(first.mean() - 0.5) < 0.09
    assert abs(second.mean() - 0.5) < 0.09
    assert abs((first & second).mean() - 0.25) < 0.09
    both = (draws.tails[:, 0, 0] == draws.tails[:, 1, 0])[first & second]
    assert both.mean() < 0.1


def test_cell_k_is_the_same_tail_with_exactly_k_leading_slots_masked(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME, sampling={"tails": 2})
    (draws,) = drawn(guard, ready, 200)
    alphabet = len(guard.inputs.prompt.alphabet)
    noise = suffix_draws(UniformKernel(0.5, alphabet), slots=16, seed=SEED, start=0, stop=200, strata=0)
    natural, assert_equal = noise.masked[:, 0].reshape(200, 2, 8), np.testing.assert_array_equal
    assert noise.replacement is not None
    written = guard.inputs.prompt.alphabet[noise.replacement].reshape(200, 2, 8)
    for k in range(9):
        masked = natural.copy()
        masked[:, :, :k] = True
        masked[:, :, k : k + 1] = False
        assert_equal(draws.tails[:, :, k], np.where(masked, written, draws.prepared.tail_base))


def test_a_target_draws_the_one_cell_that_its_attacker_cannot_touch(guard: LlavaGuard) -> None:
    ready = ready_for(guard, noise=SOME, target={"tokens": 3}, sampling={"tails": 1})
    (draws,) = drawn(guard, ready, 64)
    noise = suffix_draws(
        UniformKernel(0.5, len(guard.inputs.prompt.alphabet)), slots=8, seed=SEED, start=0, stop=64, strata=3
    )
    assert noise.masked[:, 3, :3].all()
    assert 0.3 < noise.masked[:, 3, 3:].mean() < 0.7
    expected = replace_tokens(noise, ready.prepared.tail_base, guard.inputs.prompt.alphabet, None)[:, 3:]
    np.testing.assert_array_equal(draws.tails[:, 0], expected)


def test_neyman_pearson_has_one_cell_of_natural_noise(guard: LlavaGuard) -> None:
    (draws,) = drawn(guard, ready_for(guard, noise=SOME, method="neyman_pearson", sampling={"tails": 1}), 400)
    changed = (draws.tails[:, 0, 0] != draws.prepared.tail_base).mean(axis=0)
    assert draws.tails.shape == (400, 1, 1, 8)
    # A binomial share of 400 at 1/2 leaves 0.5 ± 0.16 with probability below 1e-9, for each of eight slots.
    assert np.abs(changed - 0.5).max() < 0.16


def test_the_votes_are_the_same_however_the_draws_are_cut(guard: LlavaGuard) -> None:
    jobs: list[dict[str, Any]] = [{}, {"threat": L0}, {"noise": SOME | {"scope": "per_budget"}}]
    for asked in jobs:
        ready = ready_for(guard, sampling={"tails": 2}, **asked)
        whole = unsafe_of(tally_of(guard, ready, 0, 30), ready)
        parts = [unsafe_of(tally_of(guard, ready, a, b), ready) for a, b in itertools.pairwise((0, 7, 16, 30))]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_per_budget_votes_as_a_job_of_that_many_slots_does(guard: LlavaGuard) -> None:
    many = ready_for(guard, noise=SOME | {"scope": "per_budget"}, sampling={"tails": 2})
    found = unsafe_of(tally_of(guard, many, 0, 32), many)
    for budget in (1, 4, 8):
        asked: dict[str, Any] = {"threat": {"text": {"slots": budget}}, "target": {"tokens": budget}}
        alone = ready_for(guard, noise=SOME, sampling={"tails": 2}, **asked)
        np.testing.assert_array_equal(found[:, :, budget], unsafe_of(tally_of(guard, alone, 0, 32), alone)[:, :, 0])
    none = ready_for(guard, noise=SOME, threat=NO_TEXT)
    np.testing.assert_array_equal(found[:, :1, 0], unsafe_of(tally_of(guard, none, 0, 32), none)[:, :, 0])
    assert 0 < found.mean() < 1


def test_per_budget_by_neyman_pearson_votes_on_natural_noise_over_that_many_slots(guard: LlavaGuard) -> None:
    asked: dict[str, Any] = {"method": "neyman_pearson", "noise": SOME | {"scope": "per_budget"}}
    many, alone = (
        ready_for(guard, **asked),
        ready_for(guard, noise=SOME, method="neyman_pearson", threat={"text": {"slots": 5}}),
    )
    found = unsafe_of(tally_of(guard, many, 0, 32), many)
    np.testing.assert_array_equal(found[:, :, 5:6], unsafe_of(tally_of(guard, alone, 0, 32), alone))


@pytest.mark.parametrize("tails", [1, 2, 3, 4])
@pytest.mark.parametrize("asked", [{"noise": SOME}, {"noise": SOME, "target": {"tokens": 2}}, {"threat": L0}])
def test_packed_tails_equal_every_pass_by_itself(guard: LlavaGuard, tails: int, asked: dict[str, Any]) -> None:
    (draws,) = drawn(guard, ready_for(guard, sampling={"tails": tails}, **asked), 4)
    found = guard.margins([draws])[0]
    assert found.shape == draws.tails.shape[:3]
    assert found.shape[1] == tails
    np.testing.assert_allclose(found, guard.plain_margins(draws), atol=guard.info.tie_band)


def test_a_suffix_is_refused_where_budget_0_has_no_slot_for_it(guard: LlavaGuard) -> None:
    with pytest.raises(InputRefusedError, match="has 4 bytes, must be empty where per_budget asks for budget 0"):
        ready_for(guard, suffix=" now", noise={"scope": "per_budget"})
    ready = ready_for(guard, suffix=" now", noise={"scope": "per_budget"}, target={"tokens": 4})
    assert len(ready.prepared.tail_base) == 4


def test_l0_votes_on_the_texts_own_tokens_under_the_masks_that_the_verifier_draws_again(guard: LlavaGuard) -> None:
    ready = ready_for(guard, threat=L0, noise=SOME, sampling={"tails": 2})
    tally = tally_of(guard, ready, 5, 29)
    tokens = guard.inputs.prompt.encode(TEXT)
    positions = len(tokens)
    masks = tail_masks(question_of(ready.spec), positions=positions, seed=SEED, start=5, stop=29)
    alphabet = guard.inputs.prompt.alphabet
    noise = suffix_draws(UniformKernel(0.5, len(alphabet)), slots=2 * positions, seed=SEED, start=5, stop=29, strata=0)
    assert noise.replacement is not None
    tails = np.where(masks, alphabet[noise.replacement].reshape(masks.shape), tokens)
    pixels = np.round(ready.prepared.clean.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    by_hand = guard.inputs.prepare("", "", pixels, slots=0)
    votes = np.zeros((24, 2, 1), dtype=np.bool_)
    for i, tail in np.ndindex(24, 2):
        own = tails[i, tail]
        draw = Draws(replace(by_hand, tail_base=own), SEED, 0.5, 5 + i, 6 + i, own[None, None, None])
        votes[i, tail] = guard.margins([draw])[0].item() > 0
    np.testing.assert_array_equal(unsafe_of(tally, ready), votes)
    assert tally.votes.positions == positions
    assert 0 < votes.mean() < 1


def test_an_l0_text_without_noise_is_the_plain_prompt(guard: LlavaGuard) -> None:
    l0, plain = ready_for(guard, threat=L0), ready_for(guard, threat=NO_TEXT)
    found = [
        guard.margins([Draws(ready.prepared, SEED, 0.5, 0, 8, np.tile(ready.prepared.tail_base, (8, 1, 1, 1)))])[0]
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


@pytest.mark.parametrize("kind", ["none", "append"])
def test_without_noise_on_the_text_a_draw_is_one_tail_without_slots(guard: LlavaGuard, kind: str) -> None:
    ready = ready_for(guard, threat={"text": {"kind": kind}})
    (draws,) = drawn(guard, ready)
    assert draws.tails.shape == (24, 1, 1, 0)
    assert draws.images == 24
    assert unsafe_of(tally_of(guard, ready, 0, 24), ready).shape == (24, 1, 1)


def test_the_text_only_threat_reads_the_clean_image_once_for_all_draws_of_a_pass(
    guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = ready_for(guard, threat=NO_IMAGE, noise={"beta": 0.5})
    tower, read = guard._model.model.vision_tower, []
    forward = tower.forward

    def counted(tiles: Tensor, **options: Any) -> Any:
        read.append(len(tiles))
        return forward(tiles, **options)

    monkeypatch.setattr(tower, "forward", counted)
    tally_of(guard, ready, 0, 12)
    assert ready.spec.sigma == 0
    assert read == [1]


def test_without_image_noise_each_draw_votes_as_it_would_alone(guard: LlavaGuard) -> None:
    still, noisy = ready_for(guard, threat=NO_IMAGE, noise={"beta": 0.5}), ready_for(guard, threat=L0)
    batch = [*drawn(guard, still), *drawn(guard, ready_for(guard)), *drawn(guard, noisy)]
    together = guard.margins(batch)
    for draws, found in zip(batch, together, strict=True):
        alone = [guard.margins([draws.part(i, i + 1)])[0] for i in range(24)]
        np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)


def test_warming_up_runs_an_order_at_the_defaults(guard: LlavaGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    margins, seen = guard.margins, list[Draws]()

    def noted(batch: Sequence[Draws]) -> Any:
        seen.extend(batch)
        return margins(batch)

    monkeypatch.setattr(guard, "margins", noted)
    GuardKind(guard).warm_up()
    assert [draws.tails.shape for draws in seen] == [(4, 1, 9, 8)]
