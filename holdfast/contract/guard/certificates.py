"""What comes back from a guard: the certified frontier, and the evidence to recompute it."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from holdfast.contract.base import Frozen
from holdfast.contract.guard.requests import AskedMethod, AskedVerdict, Scope, TextThreatKind
from holdfast.contract.jobs import Issued, Job, Side, Stopped, Verdict
from holdfast.contract.models import FalseFlag, ImageSpace, TokenKernelName

Method = Literal["joint", "stratified", "neyman_pearson", "erase_and_check"]
"""How a number was bounded."""


class FrontierPoint(Frozen):
    """The largest certified image radius against `tokens` attacker tokens (`append`: code points); `null`: none.

    `native_radius` is the same in the image's own pixels, before it was resized to the noise space; null without image.
    """

    tokens: int
    radius: float | None
    native_radius: float | None
    method: Method | None


class WorstCase(Frozen):
    """Bounds on the smoothed Unsafe probability against every attack of one budget.

    `passes_to_detect`: plain noisy passes after which an input with the lower bound's probability has shown an Unsafe
    draw with 99 % probability; `null` where the bound is 0.
    """

    tokens: int
    epsilon: float
    unsafe_probability_at_least: float
    unsafe_probability_at_most: float
    passes_to_detect: int | None


class TargetAnswer(Frozen):
    """The answer to a target: the verdict that is certified against it, or `null` where none is."""

    tokens: int
    epsilon: float
    verdict: Side | None


class CellEvidence(Frozen):
    """One cell in which every draw was scored by each of its tails, and how its votes fell.

    Without `at_least`, exactly `leading_masked` leading slots were masked; with it, at least so many, the rest by the
    kernel's own noise. `slots` is the smoothed guard's: all of them, or for `per_budget` the budget's own. `unsafe` and
    `near_ties` count passes, each draws times tails of them; a near tie may be Unsafe or not.
    """

    slots: int
    leading_masked: int
    at_least: bool
    unsafe: int
    near_ties: int


class ScoreEvidence(Frozen):
    """One mean that was bounded: the Unsafe probability given these cells, weighted by their probabilities.

    `tokens` is the budget that it is for; `lower` and `upper` bound it at its share of alpha, 0 and 1 where nothing is
    known.
    """

    tokens: int
    cells: tuple[int, ...]
    lower: float
    upper: float


class Evidence(Frozen):
    """Everything that the certificate's numbers are computed from: every vote, replayable one by one.

    `unsafe` and `near_tie` are bit planes of shape (draws, tails, cells), in this order, most significant bit first, in
    base64: whether a pass was Unsafe, and whether its margin was within `tie_band` of a tie, where it counts against
    whichever side claims; `near_tie` is null where none was. `alpha_split` has the share of alpha that each direction
    was given beforehand (`unsafe`, `safe`); how each is shared further, `sharing` says. `positions`: how many the l0
    masks cover.
    """

    draws: int
    tails: int
    passes: int
    cells: tuple[CellEvidence, ...]
    unsafe: str
    near_tie: str | None
    tie_band: float
    scores: tuple[ScoreEvidence, ...]
    positions: int | None
    bound: Literal["any_time", "clopper_pearson"]
    alpha: float
    alpha_split: dict[Side, float]
    sharing: str
    stopped: Stopped


class ThreatUsed(Frozen):
    """The attacker the certificate holds against.

    `max_tokens` is the largest budget that the frontier speaks of, under `append` of code points.
    """

    text: TextThreatKind
    slots: int
    max_tokens: int
    image: Literal["l2", "none"]


class NoiseUsed(Frozen):
    """The noise that defines the smoothed guard; `sigma` 0 is no image noise."""

    token_kernel: TokenKernelName
    beta: float
    sigma: float
    scope: Scope


class Space(ImageSpace):
    """The units of every radius and token budget; `alphabets` has V of the tokens, or of each categorical field."""

    alphabets: tuple[int, ...]


class Certificate(Issued):
    """A (d, ε) frontier with the evidence to recompute it.

    `notes` is what the model's operator says of it besides: no evidence decides that.
    """

    kind: Literal["hybrid", "tabular"]
    verdict: Verdict
    reason: str
    notes: tuple[str, ...]
    frontier: tuple[FrontierPoint, ...]
    max_tokens: int | None = Field(description="Largest certified token budget; null where none is certified.")
    target: TargetAnswer | None
    worst_case: tuple[WorstCase, ...]
    evidence: Evidence
    method: AskedMethod
    asked_verdict: AskedVerdict
    threat: ThreatUsed
    noise: NoiseUsed
    tau: float
    space: Space
    false_flag: FalseFlag | None = Field(
        description="Measured false-flag bound of this operating point; null where it was not measured."
    )


JobOrCertificate = Annotated[Job | Certificate, Field(discriminator="state")]
_READ: TypeAdapter[Job | Certificate] = TypeAdapter(JobOrCertificate)


def certification_from_json(body: bytes | str) -> Job | Certificate:
    """Reads an answer of `/v1/certifications/{id}`: a certificate when it is done, a job otherwise."""
    return _READ.validate_json(body)
