"""A job's tallies as the evidence and the parameters of `holdfast.certificates.guard.answer`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from holdfast.certificates import Counts, Question, position_masks
from holdfast.contract.guard.spec import GuardSpec
from holdfast.queue.orders import Tally

__all__ = ["Cells", "counts_of", "fold", "no_cells", "progress_question", "question_of"]

Cells = tuple[tuple[int, int], ...]
"""Per cell, (draws, unsafe)."""


def question_of(spec: GuardSpec, tallies: Sequence[Tally] = ()) -> Question:
    """The parameters that decide the numbers of the spec's certificate."""
    return Question(
        text=spec.text,
        tabular=spec.kind == "tabular",
        slots=spec.slots,
        max_tokens=spec.max_tokens,
        strata=spec.strata,
        natural=spec.natural,
        per_budget=spec.scope == "per_budget",
        token_kernel=spec.token_kernel,
        beta=spec.beta,
        alphabets=spec.alphabets,
        sigma=spec.sigma,
        tau=spec.tau,
        alpha=spec.alpha,
        sides=("unsafe", "safe") if spec.verdict == "both" else (spec.verdict,),
        method=spec.method,
        bound="any_time" if spec.stop == "any_time" else "clopper_pearson",
        wanted=spec.wanted_cells,
        target=None if spec.target is None else (spec.target.tokens, spec.target.epsilon),
        epsilons=spec.epsilons,
        operator_norm=tallies[0].operator_norm if tallies else 1.0,
    )


def progress_question(spec: GuardSpec, tallies: Sequence[Tally]) -> Question:
    """The parameters for a look on the way, which never finds more than the certificate will say.

    There is no grid.
    """
    return replace(question_of(spec, tallies), epsilons=())


def no_cells(spec: GuardSpec) -> Cells:
    """The cells before the first draw."""
    return ((0, 0),) * spec.cells


def fold(cells: Cells, tally: Tally) -> Cells:
    """Adds one tally to the cells that it sampled."""
    found = dict(zip(tally.votes.cells, tally.votes.unsafe, strict=True))
    drawn = tally.stop - tally.start
    return tuple(
        (draws + drawn, unsafe + found[k]) if k in found else (draws, unsafe) for k, (draws, unsafe) in enumerate(cells)
    )


def counts_of(spec: GuardSpec, seed: str, tallies: Sequence[Tally], cells: Cells) -> Counts:
    """The evidence of a contiguous prefix of tallies, which `cells` adds up."""
    if not spec.masks_matter or not tallies:
        return Counts(cells)
    outcomes = [
        np.unpackbits(
            np.frombuffer(bytes.fromhex(tally.votes.outcomes or ""), np.uint8), count=tally.stop - tally.start
        )
        for tally in tallies
    ]
    masks = position_masks(
        question_of(spec), positions=tallies[0].votes.positions, seed=seed, start=0, stop=tallies[-1].stop
    )
    return Counts(cells, masks, np.concatenate(outcomes).astype(np.bool_))
