"""Specs and simulated workers for the certifier's tests: a guard whose cells say Unsafe at a known rate."""

from collections.abc import Callable

import numpy as np

from holdfast.certificates import packed
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.models import NoiseSpace
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
        "max_draws": 1000,
        "tails": 2,
        "stop": "any_time",
        "tolerance": 0.1,
        "target": None,
        "epsilons": (0.0, 0.5),
        "space": NoiseSpace(channels=3, height=64, width=64),
        "tie_band": 1e-5,
        "false_flag": None,
    }
    return GuardSpec.model_validate({**values, **changes})


def tally(asked: GuardSpec, order: Order, rate: Rate, *, near_tie: float = 0.0) -> Tally:
    """What a worker reports: it depends on the draws' indexes and cells alone.

    Args:
        asked: What is certified.
        order: The draws.
        rate: Of Unsafe votes, of every cell or by cell.
        near_tie: Of votes near a tie, whatever they say.
    """
    shape = asked.tails, len(asked.cells)
    rates = [rate(cell) if callable(rate) else rate for cell in range(len(asked.cells))]
    noise = np.stack([np.random.default_rng(index).random((2, *shape)) for index in range(order.start, order.stop)])
    ties = noise[:, 1] < near_tie
    votes = Votes(
        packed(noise[:, 0] < rates),
        packed(ties) if ties.any() else None,
        (asked.slots or POSITIONS) if asked.masks_matter else 0,
    )
    return Tally(order.start, order.stop, votes)
