"""A certificate's draws, made again: the same seed, guard and input give the same votes, one by one."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates import unpacked
from holdfast.certificates.noise.kernels import BLOCK
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate, Evidence
from holdfast.questions import spec_of
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.sampling.guard import Ready, margins, prepare, votes_of


class ReplayError(Exception):
    """The certificate cannot be replayed with what was given."""


@dataclass(frozen=True)
class Comparison:
    """One block of draws, replayed.

    Attributes:
        start: First draw index.
        stop: One past the last draw index.
        passes: Votes that were compared: draws times tails times cells.
        differing: Votes that differ although neither is near a tie.
        near_ties: Votes that the certificate or the replay found near a tie.
        near_differing: Those of them that differ, in whether they are Unsafe or in whether they are near.
    """

    start: int
    stop: int
    passes: int
    differing: int
    near_ties: int
    near_differing: int


def replay(guard: Guard, certificate: Certificate, given: JobInput, *, share: float) -> Iterator[Comparison]:
    """Runs a share of a certificate's draws again, in blocks that are spread evenly.

    Args:
        guard: The guard that the certificate names.
        certificate: The certificate.
        given: Its input.
        share: Share of the blocks to run, in (0, 1]; at least one is run.

    Yields:
        Each block's comparison, by draw index.

    Raises:
        ReplayError: The guard or the input is not the certificate's, or its evidence contradicts what it was asked.
        InputRefusedError: The input does not fit the guard.
    """
    require_own(guard, certificate)
    ready = prepare(guard, spec_of(certificate), certificate.seed, given)
    evidence = certificate.evidence
    if ready.spec.masks_matter and evidence.positions != len(ready.prepared.tail_base):
        raise ReplayError(
            f"the input has {len(ready.prepared.tail_base)} positions, must have the certificate's"
            f" {evidence.positions}; give the input that was certified"
        )
    stated = _stated(ready, evidence)
    for block in spread(blocks(evidence.draws), share):
        start, stop = block * BLOCK, min(evidence.draws, (block + 1) * BLOCK)
        yield _compared(guard, ready, start, stop, stated[:, start:stop])


def blocks(draws: int) -> int:
    """How many blocks so many draws are, of as many as share a generator; the last may be shorter."""
    return -(-draws // BLOCK)


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
    """Which of `count` blocks a share of them are: evenly spread, each time the same, at least one if there is any."""
    chosen = min(count, max(1, round(share * count)))
    return [(2 * index + 1) * count // (2 * chosen) for index in range(chosen)]


def _stated(ready: Ready, evidence: Evidence) -> NDArray[np.bool_]:
    """The certificate's votes, shape (2, draws, tails, cells): which are Unsafe, and which near a tie."""
    shape = evidence.draws, ready.spec.tails, len(ready.spec.cells)
    try:
        unsafe = unpacked(evidence.unsafe, shape)
        near_tie = np.zeros_like(unsafe) if evidence.near_tie is None else unpacked(evidence.near_tie, shape)
    except ValueError as error:
        raise ReplayError(
            f"the evidence is not of {shape[0]} draws by {shape[1]} tails in {shape[2]} cells, which the certificate"
            " says was asked; check it with `holdfast verify`"
        ) from error
    return np.stack((unsafe, near_tie))


def _compared(guard: Guard, ready: Ready, start: int, stop: int, stated: NDArray[np.bool_]) -> Comparison:
    (found,) = margins(guard, [(Order("replay", 0, start, stop), ready)])
    own = np.stack(votes_of(ready, found))
    near, differ = stated[1] | own[1], (stated != own).any(axis=0)
    return Comparison(
        start=start,
        stop=stop,
        passes=found.size,
        differing=int((differ & ~near).sum()),
        near_ties=int(near.sum()),
        near_differing=int((differ & near).sum()),
    )
