"""What is the same for every job, of a guard or of an encoder: its state, its progress, its signature, its checks."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from holdfast.contract.base import Frozen
from holdfast.contract.problems import Problem

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
"""`queued`: no order was issued yet. `running`: orders are out. `done`: there is a certificate. `failed`: there is a
problem, the input was refused or its draws failed three times. `cancelled`: by the client."""

Side = Literal["unsafe", "safe"]
"""A direction that a guard's certificate can hold in."""

Verdict = Literal["unsafe", "safe", "abstained"]
"""What a guard's certificate says: one of the sides, or that neither was certified."""

Stopped = Literal["target", "tolerance", "not_certifiable", "draws_spent"]
"""Why sampling ended: the target was decided, no radius could grow enough, nothing could be certified, or all draws
were spent."""


class Progress(Frozen):
    """How far a job is: what has been paid for and what it certifies so far.

    `seconds_left`: device seconds that the rest of the draws would take at the model's measured cost; sampling may stop
    before. Null where the cost is not known.
    """

    draws: int
    max_draws: int
    seconds_left: float | None = None
    frontier: tuple[float | None, ...] = ()
    verdict: Verdict = "abstained"


class Closing(Frozen):
    """The last event of a stream whose service ends: whether the job is lost with it, its queue being in-process."""

    id: str
    lost: bool


class Job(Frozen):
    """A certification that has no certificate: queued, running, failed or cancelled."""

    id: str
    state: Literal["queued", "running", "failed", "cancelled"]
    kind: Literal["hybrid", "tabular", "feature"]
    model: str
    created_at: datetime
    finished_at: datetime | None = None
    progress: Progress
    problem: Problem | None = None


class ModelRef(Frozen):
    """Which model was certified: the fingerprint covers everything that decides a vote or a score."""

    name: str
    fingerprint: str


class Signature(Frozen):
    """An Ed25519 signature of the certificate without this field, as canonical JSON.

    `digests` has a SHA-256 per field, so that an altered field can be named; they are signed too.
    """

    alg: Literal["EdDSA"] = "EdDSA"
    kid: str
    digests: dict[str, str]
    value: str


class Issued(Frozen):
    """What every certificate has: which job it answers, who drew with which seed, and whose word it is.

    `questions_asked` counts the distinct questions of this client to this model, over all inputs and seeds, within the
    retention time up to this one. `notice` follows from the other fields.
    """

    id: str
    state: Literal["done"] = "done"
    created_at: datetime
    finished_at: datetime
    model: ModelRef
    seed: str
    questions_asked: int
    software: str
    notice: tuple[str, ...]
    signature: Signature | None = Field(description="Null where the service has no signing key.")


class Check(Frozen):
    """One check of a certificate: what was checked, whether it held, and if not what to make of it."""

    field: str
    ok: bool
    detail: str


class Verification(Frozen):
    """The answer of `POST /v1/verify`.

    `not_checked` names what no evidence decides, such as times or the model's name, without indexes of lists: it is
    held by the signature alone.
    """

    valid: bool
    checks: tuple[Check, ...]
    not_checked: tuple[str, ...] = ()


class PublicKey(Frozen):
    """An Ed25519 public key as a JSON Web Key (RFC 8037)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str


class KeySet(Frozen):
    """The public keys that certificates of this service may be signed with: the current one and those before it."""

    keys: tuple[PublicKey, ...]
