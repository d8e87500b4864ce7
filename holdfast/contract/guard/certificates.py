"""What comes back: a job while it runs, a certificate once it is done."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from holdfast.contract.guard.requests import Method as AskedMethod
from holdfast.contract.guard.requests import Scope, Side, TextThreatKind
from holdfast.contract.models import FalseFlag, NoiseSpace, TokenKernelName
from holdfast.contract.problems import Problem

__all__ = [
    "Answer",
    "CellEvidence",
    "Certificate",
    "Check",
    "Evidence",
    "FrontierPoint",
    "Job",
    "JobState",
    "KeySet",
    "ModelRef",
    "NoiseUsed",
    "OrderEvidence",
    "Progress",
    "PublicKey",
    "Signature",
    "Space",
    "Stopped",
    "TargetAnswer",
    "ThreatUsed",
    "Verdict",
    "Verification",
    "WorstCase",
    "answer_from_json",
]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
Verdict = Literal["unsafe", "safe", "abstained"]
Stopped = Literal["target", "tolerance", "not_certifiable", "passes_spent"]
Method = Literal["stratified", "neyman_pearson"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class FrontierPoint(_Frozen):
    """The largest certified image radius against `tokens` attacker tokens; `null` is not certified.

    `native_radius` is the same in the image's own pixels, before it was resized to the noise space.
    """

    tokens: int
    radius: float | None
    native_radius: float | None
    method: Method | None


class Progress(_Frozen):
    """How far a job is: what has been paid for and what it certifies so far."""

    passes: int
    max_passes: int
    frontier: tuple[float | None, ...] = ()
    verdict: Verdict = "abstained"


class Job(_Frozen):
    """A certification that has no certificate: queued, running, failed or cancelled."""

    id: str
    state: Literal["queued", "running", "failed", "cancelled"]
    kind: Literal["hybrid", "tabular", "feature"]
    model: str
    created_at: datetime
    finished_at: datetime | None = None
    progress: Progress
    problem: Problem | None = None


class WorstCase(_Frozen):
    """Bounds on the smoothed Unsafe probability against every attack of one budget.

    `passes_to_detect`: plain noisy passes after which an input with the lower bound's probability has shown an Unsafe
    draw with 99 % probability; `null` where the bound is 0.
    """

    tokens: int
    epsilon: float
    unsafe_probability_at_least: float
    unsafe_probability_at_most: float
    passes_to_detect: int | None


class TargetAnswer(_Frozen):
    """The answer to a target: the verdict that is certified against it, or `null` where none is."""

    tokens: int
    epsilon: float
    verdict: Literal["unsafe", "safe"] | None


class CellEvidence(_Frozen):
    """The tally of one cell, and the bounds on its Unsafe probability that it gives at the cell's share of alpha.

    Without `at_least`, exactly `leading_masked` leading slots were masked; with it, at least so many, the rest by the
    kernel's own noise. `slots` is the smoothed guard's: all of them, or for `per_budget` the budget's own. `draws` 0
    with bounds 0 and 1: the cell was not sampled.
    """

    leading_masked: int
    at_least: bool
    slots: int
    draws: int
    unsafe: int
    lower: float
    upper: float


class OrderEvidence(_Frozen):
    """One order of the prefix that was counted: draws [start, stop) in these cells, and how many were Unsafe.

    `outcomes` has one bit per draw, most significant first, in hexadecimal, where each draw's mask matters.
    """

    start: int
    stop: int
    cells: tuple[int, ...]
    unsafe: tuple[int, ...]
    outcomes: str | None = None


class Evidence(_Frozen):
    """Everything that the certificate's numbers are computed from.

    `alpha_split` has the share of alpha that each direction was given beforehand (`unsafe`, `safe`); each is shared
    equally over the cells, budgets or covers that `sharing` names. `positions`: how many the l0 masks cover.
    """

    passes: int
    orders: tuple[OrderEvidence, ...]
    cells: tuple[CellEvidence, ...]
    positions: int | None
    bound: Literal["any_time", "clopper_pearson"]
    alpha: float
    alpha_split: dict[Literal["unsafe", "safe"], float]
    sharing: str
    stopped: Stopped


class ThreatUsed(_Frozen):
    """The attacker the certificate holds against; `max_tokens` is the largest budget that the frontier speaks of."""

    text: TextThreatKind
    slots: int
    max_tokens: int
    image: Literal["l2", "none"]


class NoiseUsed(_Frozen):
    """The noise that defines the smoothed guard; `sigma` 0 is no image noise."""

    token_kernel: TokenKernelName
    beta: float
    sigma: float
    scope: Scope


class Space(NoiseSpace):
    """The units of every radius, and the alphabet of every token budget.

    `alphabets` has V of the tokens, or of each categorical field. `input_height` and `input_width` are the image's own;
    `native_operator_norm` is that of the resize from there to the noise space (1 without one).
    """

    alphabets: tuple[int, ...]
    input_height: int
    input_width: int
    native_operator_norm: float


class ModelRef(_Frozen):
    """Which guard was certified: the fingerprint covers everything that decides a verdict."""

    name: str
    fingerprint: str


class Signature(_Frozen):
    """An Ed25519 signature of the certificate without this field, as canonical JSON.

    `digests` has a SHA-256 per field, so that an altered field can be named; they are signed too.
    """

    alg: Literal["EdDSA"] = "EdDSA"
    kid: str
    digests: dict[str, str]
    value: str


class Certificate(_Frozen):
    """A (d, ε) frontier with the evidence to recompute it."""

    id: str
    state: Literal["done"] = "done"
    kind: Literal["hybrid", "tabular"]
    created_at: datetime
    finished_at: datetime
    verdict: Verdict
    reason: str
    frontier: tuple[FrontierPoint, ...]
    max_tokens: int | None = Field(description="Largest certified token budget; null where none is certified.")
    target: TargetAnswer | None
    worst_case: tuple[WorstCase, ...]
    evidence: Evidence
    method: AskedMethod
    asked_verdict: Side
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
    signature: Signature | None = Field(description="Null where the service has no signing key.")


class Check(_Frozen):
    """One check of a certificate: what was checked, whether it held, and if not what to make of it."""

    field: str
    ok: bool
    detail: str


class Verification(_Frozen):
    """The answer of `POST /v1/verify`."""

    valid: bool
    checks: tuple[Check, ...]


class PublicKey(_Frozen):
    """An Ed25519 public key as a JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str


class KeySet(_Frozen):
    """The public keys that certificates of this service may be signed with: the current one and those before it."""

    keys: tuple[PublicKey, ...]


Answer = Annotated[Job | Certificate, Field(discriminator="state")]
_ANSWER: TypeAdapter[Job | Certificate] = TypeAdapter(Answer)


def answer_from_json(body: bytes | str) -> Job | Certificate:
    """Reads an answer of `/v1/certifications/{id}`: a certificate when it is done, a job otherwise."""
    return _ANSWER.validate_json(body)
