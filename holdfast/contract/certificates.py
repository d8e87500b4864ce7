"""What comes back: a job while it runs, a certificate once it is done."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from holdfast.contract.models import FalseFlag, NoiseSpace, TokenKernelName
from holdfast.contract.problems import Problem

__all__ = [
    "Answer",
    "CellEvidence",
    "Certificate",
    "Evidence",
    "FrontierPoint",
    "Job",
    "JobState",
    "ModelRef",
    "NoiseUsed",
    "Progress",
    "Space",
    "ThreatUsed",
    "Verdict",
    "WorstCase",
    "answer_from_json",
]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Verdict = Literal["unsafe", "abstained"]
Stopped = Literal["tolerance", "not_certifiable", "passes_spent"]
Method = Literal["stratified"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class FrontierPoint(_Frozen):
    """The largest certified image radius against `tokens` attacker tokens; `null` is not certified."""

    tokens: int
    radius: float | None
    method: Method | None


class Progress(_Frozen):
    """How far a job is: what has been paid for and what it certifies so far."""

    passes: int
    max_passes: int
    frontier: tuple[float | None, ...] = ()


class Job(_Frozen):
    """A certification that has no certificate: queued, running, failed or cancelled."""

    id: str
    state: Literal["queued", "running", "failed", "cancelled"]
    kind: Literal["hybrid"] = "hybrid"
    model: str
    created_at: datetime
    finished_at: datetime | None = None
    progress: Progress
    problem: Problem | None = None


class WorstCase(_Frozen):
    """A lower bound on the smoothed Unsafe probability against every attack of one budget.

    `passes_to_detect`: plain noisy passes after which an input with this probability has shown an Unsafe draw with
    99 % probability; `null` where the bound is 0.
    """

    tokens: int
    epsilon: float
    unsafe_probability_at_least: float
    passes_to_detect: int | None


class CellEvidence(_Frozen):
    """The tally of one cell: `unsafe` of `draws` with exactly `leading_masked` leading masked slots."""

    leading_masked: int
    draws: int
    unsafe: int
    lower: float


class Evidence(_Frozen):
    """Every count that the certificate rests on, and how its risk was shared."""

    passes: int
    cells: tuple[CellEvidence, ...]
    bound: Literal["any_time", "clopper_pearson"]
    alpha: float
    alpha_split: dict[str, float]
    stopped: Stopped


class ThreatUsed(_Frozen):
    """The attacker the certificate holds against."""

    text: Literal["suffix"] = "suffix"
    slots: int
    image: Literal["l2"] = "l2"


class NoiseUsed(_Frozen):
    """The noise that defines the smoothed guard."""

    token_kernel: TokenKernelName
    beta: float
    sigma: float


class Space(NoiseSpace):
    """The units of every radius, and the alphabet of every token budget.

    `input_height` and `input_width` are the image's own; it was resized to the noise space before noise where they
    differ.
    """

    token_alphabet: int
    input_height: int
    input_width: int


class ModelRef(_Frozen):
    """Which guard was certified: the fingerprint covers everything that decides a verdict."""

    name: str
    fingerprint: str


class Certificate(_Frozen):
    """A (d, ε) frontier with the evidence to recompute it."""

    id: str
    state: Literal["done"] = "done"
    kind: Literal["hybrid"] = "hybrid"
    created_at: datetime
    finished_at: datetime
    verdict: Verdict
    frontier: tuple[FrontierPoint, ...]
    max_tokens: int | None = Field(description="Largest certified token budget; null where none is certified.")
    worst_case: tuple[WorstCase, ...]
    evidence: Evidence
    threat: ThreatUsed
    noise: NoiseUsed
    tau: float
    space: Space
    model: ModelRef
    false_flag: FalseFlag | None = Field(
        description="Measured false-flag bound of this operating point; null where it was not measured."
    )
    seed: str
    software: str
    notice: tuple[str, ...]


Answer = Annotated[Job | Certificate, Field(discriminator="state")]
_ANSWER: TypeAdapter[Job | Certificate] = TypeAdapter(Answer)


def answer_from_json(body: bytes | str) -> Job | Certificate:
    """Reads an answer of `/v1/certifications/{id}`: a certificate when it is done, a job otherwise."""
    return _ANSWER.validate_json(body)
