"""Attackers who write tokens outside the alphabet: every special token of the tokenizer (maths.md §1 and §5)."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from holdfast.queue.orders import Order
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.sampling.guard import Ready, margins
from tests.workers.builders import ready_for

SLOTS, DRAWS = 2, 12
SPECIAL = range(6)
KERNELS = ["uniform", "absorbing"]


def attacked(ready: Ready, tokens: Any) -> Ready:
    """The same job, its first slots rewritten."""
    base = np.concatenate((np.array(tokens, dtype=np.int64), ready.prepared.tail_base[len(tokens) :]))
    return replace(ready, prepared=replace(ready.prepared, tail_base=base))


def votes(guard: LlavaGuard, ready: Ready) -> NDArray[np.bool_]:
    """Unsafe or not, of every draw and tail in every cell."""
    order = Order("job", 0, 0, DRAWS)
    return margins(guard, [(order, ready)])[0] > 0


@pytest.fixture(params=KERNELS)
def ready(guard: LlavaGuard, request: pytest.FixtureRequest) -> Ready:
    noise = {"beta": 0.5, "token_kernel": request.param}
    return ready_for(guard, size=(48, 40), sampling={"tails": 2}, noise=noise, threat={"text": {"slots": SLOTS}})


def test_the_tokens_are_indeed_outside_the_alphabet(guard: LlavaGuard) -> None:
    assert not np.isin(SPECIAL, guard.inputs.prompt.alphabet).any()


@pytest.mark.parametrize("budget", range(1, SLOTS + 1))
def test_draws_that_mask_the_attack_vote_as_without_it(guard: LlavaGuard, ready: Ready, budget: Any) -> None:
    clean = votes(guard, ready)
    assert clean.shape == (DRAWS, 2, SLOTS + 1)
    for tokens in itertools.product(SPECIAL, repeat=budget):
        np.testing.assert_array_equal(votes(guard, attacked(ready, tokens))[..., budget:], clean[..., budget:])


def test_draws_that_leave_the_attack_in_sight_do_not(guard: LlavaGuard, ready: Ready) -> None:
    clean = votes(guard, ready)
    moved = [votes(guard, attacked(ready, tokens)) != clean for tokens in itertools.product(SPECIAL, repeat=2)]
    assert np.any(moved, axis=(0, 1, 2)).tolist() == [True, True, False]
