"""The draws that a model is examined on: its default request on its examples, the same every time."""

import numpy as np

from holdfast.queue.orders import Order
from holdfast_worker.models.draws import Draws, PreparedInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.examples import TEXTS, picture
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import Ready, draws_of, example


def fixed_draws(guard: Guard, count: int) -> list[Draws]:
    """The first draws of every example, with all tails in all cells.

    Args:
        guard: The guard that will vote.
        count: Draws in all; every input gets an equal share, rounded up.
    """
    share = -(-count // len(TEXTS))
    return [input_draws(guard, example(guard, index), share) for index in range(len(TEXTS))]


def input_draws(guard: Guard, ready: Ready, count: int) -> Draws:
    """The first draws of one input, with all tails in all cells."""
    (draws,) = draws_of(guard, ready, Order("examination", 0, 0, count))
    return draws


def fixed_image(encoder: Encoder, index: int) -> PreparedInput:
    """One of the examples' pictures, prepared for an encoder."""
    return encoder.prepare(np.array(picture(index, *encoder.space)))
