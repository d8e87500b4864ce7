"""Signed certificates as the certifier writes them, for guards of a known rate."""

import base64
import json
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Any

from holdfast.certificates import answer
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Stopped
from holdfast.contract.models import NoiseSpace
from holdfast.questions import question_of
from holdfast.queue.jobs import JobRecord
from holdfast.queue.orders import Order
from holdfast.signing import SigningKey, sign
from holdfast_service.certifier.guard.evidence import Counted
from holdfast_service.certifier.guard.writing import write
from holdfast_service.certifier.writing import operator_norm
from tests.certifier.specs import SEED, spec, tally

KEY = SigningKey.from_text(base64.b64encode(bytes(32)).decode())
BORN = datetime(2026, 1, 2, 3, 4, 5, 600_000, UTC)

TARGET = {"tokens": 2, "epsilon": 0.5}
NUMBERS = NoiseSpace(channels=1, height=1, width=6, range=(-sys.float_info.max, sys.float_info.max))
FIELDS = {
    "kind": "tabular", "text": "l0", "slots": 3, "max_tokens": 2, "alphabets": (5, 4, 12), "beta": 0.6,
    "space": NUMBERS,
}  # fmt: skip
L0 = {"text": "l0", "slots": 0, "max_tokens": 2}
APPEND = {"text": "append", "slots": 0, "max_tokens": 20, "tails": 1, "verdict": "unsafe"}
KINDS: dict[str, dict[str, Any]] = {
    "suffix": {},
    "safe": {"rate": 0.01},
    "abstained": {"rate": 0.3},
    "unsafe alone": {"verdict": "unsafe"},
    "absorbing": {"token_kernel": "absorbing"},
    "one tail": {"tails": 1},
    "joint": {"method": "joint", "tails": 4},
    "near a tie": {"near_tie": 0.05},
    "stratified": {"method": "stratified", "tails": 3},
    "stratified target": {"method": "stratified", "target": TARGET, "max_tokens": 2, "stopped": "target", "draws": 40},
    "neyman_pearson": {"method": "neyman_pearson", "beta": 0.25, "slots": 3, "max_tokens": 3},
    "per budget": {"scope": "per_budget", "slots": 3, "max_tokens": 3},
    "per budget by neyman_pearson": {
        "scope": "per_budget", "slots": 2, "max_tokens": 2, "method": "neyman_pearson", "beta": 0.25},
    "target": {"target": TARGET, "max_tokens": 2, "stopped": "target", "draws": 40},
    "target per budget": {"target": TARGET, "max_tokens": 2, "scope": "per_budget", "stopped": "target", "draws": 40},
    "fixed": {"stop": "fixed", "stopped": "draws_spent"},
    "image only": {"text": "none", "slots": 0, "max_tokens": 0, "tails": 1},
    "append": APPEND,
    "append by name": {**APPEND, "method": "erase_and_check", "max_tokens": 3, "near_tie": 0.01},
    "text only": {"sigma": 0.0, "epsilons": (0.0,)},
    "text alone": {"sigma": 0.0, "epsilons": (0.0,), "pictured": False},
    "text alone and l0": {**L0, "sigma": 0.0, "epsilons": (0.0,), "pictured": False},
    "l0": L0,
    "l0 by covers": {**L0, "method": "joint", "tails": 1, "near_tie": 0.01},
    "l0 by neyman_pearson": {**L0, "method": "neyman_pearson", "beta": 0.25},
    "l0 and safe": {**L0, "rate": 0.02, "beta": 0.8},
    "tabular": FIELDS,
    "tabular target": {**FIELDS, "target": TARGET, "stopped": "draws_spent", "rate": 0.6},
}  # fmt: skip


def issue(
    *,
    rate: float = 0.99,
    near_tie: float = 0.0,
    draws: int = 192,
    stopped: Stopped = "tolerance",
    pictured: bool = True,
    **changes: object,
) -> dict[str, Any]:
    """A certificate after so many draws, of which these shares are Unsafe and near a tie, as parsed from the wire."""
    asked = spec(**changes)
    counted = Counted.nothing(asked)
    for index, start in enumerate(range(0, draws, 16)):
        order = Order("job", index, start, min(start + 16, draws))
        counted = counted.with_tally(tally(asked, order, rate, near_tie=near_tie))
    counted = counted.looked(asked, SEED)
    record = _record(asked, pictured)
    question = question_of(asked, operator_norm=operator_norm(record))
    found = answer(question, counted.votes)
    return signed(write(record, asked, question, counted, found, stopped))


def signed(certificate: Certificate) -> dict[str, Any]:
    """The certificate with a signature by `KEY`, as plain JSON."""
    made = certificate.model_copy(update={"signature": sign(certificate, KEY)})
    plain: dict[str, Any] = json.loads(made.model_dump_json())
    return plain


@cache
def _written(kind: str) -> str:
    return json.dumps(issue(**KINDS[kind]))


def issued(kind: str) -> dict[str, Any]:
    """A fresh copy of the certificate of this kind."""
    plain: dict[str, Any] = json.loads(_written(kind))
    return plain


def _record(asked: GuardSpec, pictured: bool) -> JobRecord:
    size = ((asked.space.height, asked.space.width) if asked.kind == "tabular" else (80, 96)) if pictured else (0, 0)
    return JobRecord("cert_0", "running", asked, SEED, BORN, size)
