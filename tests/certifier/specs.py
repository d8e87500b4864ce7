"""Specs and simulated workers for the certifier's tests: a guard whose cells say Unsafe at a known rate."""

from collections.abc import Callable

import numpy as np

from holdfast.certificates import Question, position_masks
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.models import NoiseSpace
from holdfast.questions import question_of
from holdfast.queue.orders import Order, Tally, Votes

SEED = "ab" * 32
POSITIONS = 12  # tokens of the text
Rate = float | Callable[[int], float]


def spec(**changes: object) -> GuardSpec:
    values = {
        "model": "guard",
        "fingerprint": "sha256:0",
        "kind": "hybrid",
        "text": "suffix",
        "slots": 8,
        "max_tokens": 8,
        "token_kernel": "uniform",
        "alphabets": (480,),
        "beta": 0.9,
        "sigma": 0.5,
        "scope": "shared",
        "tau": 0.3,
        "verdict": "both",
        "alpha": 0.01,
        "method": "auto",
        "max_passes": 9000,
        "stop": "any_time",
        "tolerance": 0.05,
        "target": None,
        "epsilons": (0.0, 0.5),
        "space": NoiseSpace(channels=3, height=64, width=64),
        "false_flag": None,
    }
    return GuardSpec.model_validate({**values, **changes})


def tally(asked: GuardSpec, order: Order, rate: Rate) -> Tally:
    """What a worker reports: it depends on the draws' indexes and cells alone."""
    draws, cells, every = order.stop - order.start, order.cells or (), len(asked.cells)
    rates = [rate(cell) if callable(rate) else rate for cell in range(every)]
    noise = np.stack([np.random.default_rng(index).random(every) for index in range(order.start, order.stop)])
    votes = (noise < rates)[:, list(cells)]
    unsafe = tuple(map(int, votes.sum(axis=0)))
    if not asked.masks_matter:
        return Tally(order.start, order.stop, Votes(cells, unsafe))
    outcomes = np.packbits(votes[:, 0]).tobytes().hex()
    assert len(votes) == draws
    return Tally(order.start, order.stop, Votes(cells, unsafe, outcomes, asked.slots or POSITIONS))


def masks_of(asked: GuardSpec, draws: int) -> np.ndarray:
    question: Question = question_of(asked)
    return position_masks(question, positions=asked.slots or POSITIONS, seed=SEED, start=0, stop=draws)
