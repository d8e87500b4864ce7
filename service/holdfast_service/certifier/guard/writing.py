"""The certificate: evidence, parameters and answer in the words of the contract."""

from dataclasses import asdict

from holdfast.certificates import Answer, Question, Row, packed
from holdfast.certificates.guard.words import notice, reason, sharing
from holdfast.contract.guard.certificates import (
    CellEvidence,
    Certificate,
    Evidence,
    FrontierPoint,
    NoiseUsed,
    ScoreEvidence,
    Space,
    TargetAnswer,
    ThreatUsed,
    WorstCase,
)
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Stopped
from holdfast.queue.jobs import JobRecord
from holdfast_service.certifier.guard.evidence import Counted
from holdfast_service.certifier.writing import image_space, issued


def write(
    record: JobRecord, spec: GuardSpec, question: Question, counted: Counted, found: Answer, stopped: Stopped
) -> Certificate:
    """The certificate, not yet signed, of a job whose sampling has stopped with this evidence."""
    # Without an image there are no pixels of its own that a radius could be stated in.
    native = {} if record.pictured else {"native_radius": None}
    sentences = notice(
        question, found.verdict, pictured=record.pictured, tie_band=spec.tie_band, asked=record.questions_asked
    )
    return Certificate(
        **issued(record, sentences),
        notes=spec.notes,
        kind=spec.kind,
        verdict=found.verdict,
        reason=reason(question, found.verdict, max_tokens=found.max_tokens, target=found.target, stopped=stopped),
        frontier=tuple(FrontierPoint(**asdict(point) | native) for point in found.frontier),
        max_tokens=found.max_tokens,
        target=None if spec.target is None else TargetAnswer(**dict(spec.target), verdict=found.target),
        worst_case=tuple(map(_worst_case, found.worst_case)),
        evidence=_evidence(spec, question, counted, found, stopped),
        method=spec.method,
        asked_verdict=spec.verdict,
        threat=ThreatUsed(
            text=spec.text, slots=spec.slots, max_tokens=spec.max_tokens, image="l2" if spec.sigma > 0 else "none"
        ),
        noise=NoiseUsed(token_kernel=spec.token_kernel, beta=spec.beta, sigma=spec.sigma, scope=spec.scope),
        tau=spec.tau,
        space=Space(**image_space(record), alphabets=spec.alphabets),
        false_flag=spec.false_flag,
    )


def _worst_case(row: Row) -> WorstCase:
    return WorstCase(
        tokens=row.tokens,
        epsilon=row.epsilon,
        unsafe_probability_at_least=row.at_least,
        unsafe_probability_at_most=row.at_most,
        passes_to_detect=row.passes_to_detect,
    )


def _evidence(spec: GuardSpec, question: Question, counted: Counted, found: Answer, stopped: Stopped) -> Evidence:
    votes = counted.votes
    positions = counted.positions if spec.masks_matter else None
    return Evidence(
        draws=counted.draws,
        tails=spec.tails,
        passes=votes.unsafe.size,
        cells=tuple(
            CellEvidence(**cell._asdict(), unsafe=int(unsafe), near_ties=int(near_ties))
            for cell, unsafe, near_ties in zip(
                question.cells, votes.unsafe.sum(axis=(0, 1)), votes.near_tie.sum(axis=(0, 1)), strict=True
            )
        ),
        unsafe=packed(votes.unsafe),
        near_tie=packed(votes.near_tie) if votes.near_tie.any() else None,
        tie_band=spec.tie_band,
        scores=tuple(ScoreEvidence(**asdict(score)) for score in found.scores),
        positions=positions,
        bound=question.bound,
        alpha=spec.alpha,
        alpha_split={side: 1 / len(question.sides) for side in question.sides},
        sharing=sharing(question, positions),
        stopped=stopped,
    )
