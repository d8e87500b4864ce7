"""A certificate's draws, made again: the same seed, guard and input give the same votes, order by order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate, OrderEvidence
from holdfast.questions import spec_of
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order, Votes
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import Ready, margins, prepare, tally

NEAR_TIE = 1e-5
"""Margins this close to 0 may vote either way in another batch or on another device."""


class ReplayError(Exception):
    """The certificate cannot be replayed with what was given."""


@dataclass(frozen=True)
class Comparison:
    """One order, replayed.

    Attributes:
        index: Which of the certificate's orders it is.
        start: First draw index.
        stop: One past the last draw index.
        cells: The cells that were sampled.
        differing: Votes that differ; where only counts are recorded, the fewest that explain them.
        near_ties: Margins within ``NEAR_TIE`` of a tie.
    """

    index: int
    start: int
    stop: int
    cells: tuple[int, ...]
    differing: int
    near_ties: int

    @property
    def passes(self) -> int:
        """Noisy passes that were run."""
        return (self.stop - self.start) * len(self.cells)


def replay(guard: Guard, certificate: Certificate, given: JobInput, *, share: float) -> Iterator[Comparison]:
    """Runs a share of a certificate's orders again.

    Args:
        guard: The guard that the certificate names.
        certificate: The certificate.
        given: Its input.
        share: Share of the orders to run, in (0, 1]; at least one is run.

    Yields:
        Each order's comparison, by index.

    Raises:
        ReplayError: The guard or the input is not the certificate's, or its orders contradict its threat.
        InputRefusedError: The input does not fit the guard.
    """
    require_own(guard, certificate)
    ready = prepare(guard, spec_of(certificate), certificate.seed, given)
    positions = certificate.evidence.positions
    if ready.spec.masks_matter and positions != len(ready.prepared.tail_base):
        raise ReplayError(
            f"the input has {len(ready.prepared.tail_base)} positions, must have the certificate's {positions}; give"
            " the input that was certified"
        )
    for index in spread(len(certificate.evidence.orders), share):
        yield _compared(guard, ready, index, certificate.evidence.orders[index])


def require_own(model: Guard | Encoder, certificate: Certificate | FeatureCertificate) -> None:
    """Refuses a model that is not the certificate's.

    Raises:
        ReplayError: Its fingerprint is another.
    """
    if model.fingerprint != certificate.model.fingerprint:
        raise ReplayError(
            f"the model's fingerprint is {model.fingerprint}, must be the certificate's"
            f" {certificate.model.fingerprint}; use the same weights, policy, number type and version of holdfast"
        )


def spread(count: int, share: float) -> list[int]:
    """Which of `count` orders a share of them are: evenly spread, each time the same, at least one if there is any."""
    chosen = min(count, max(1, round(share * count)))
    return [(2 * index + 1) * count // (2 * chosen) for index in range(chosen)]


def _compared(guard: Guard, ready: Ready, index: int, stated: OrderEvidence) -> Comparison:
    order = Order("replay", index, stated.start, stated.stop, stated.cells)
    try:
        (found,) = margins(guard, [(order, ready)])
        differing = _differing(tally(ready, order, found).votes, stated)
    except (IndexError, ValueError) as error:
        raise ReplayError(
            f"order {index} states draws, cells or outcomes that its threat does not have ({type(error).__name__});"
            " check the certificate with `holdfast verify`"
        ) from error
    near = int((np.abs(found) <= NEAR_TIE).sum())
    return Comparison(index, stated.start, stated.stop, stated.cells, differing, near)


def _differing(found: Votes, stated: OrderEvidence) -> int:
    if found.outcomes is None or stated.outcomes is None:
        return sum(abs(a - b) for a, b in zip(found.unsafe, stated.unsafe, strict=True))
    return (int(found.outcomes, 16) ^ int(stated.outcomes, 16)).bit_count()
