"""Requests, images and answers for gateway tests."""

import base64
import struct
import zlib
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import httpx
from PIL import Image

from holdfast.certificates import answer, resize_norm
from holdfast.certificates.guard.reading import question_of, votes_of
from holdfast.certificates.guard.words import notice, reason, sharing
from holdfast.contract.guard.certificates import (
    CellEvidence,
    Certificate,
    Evidence,
    FrontierPoint,
    NoiseUsed,
    ScoreEvidence,
    Space,
    ThreatUsed,
)
from holdfast.contract.jobs import ModelRef
from holdfast.queue import keys
from holdfast.queue.broker import AsyncRedis

URL = "/v1/certifications"


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def raw_png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"", extra: bytes = b""
) -> bytes:
    """A PNG of these bytes; `colour` 0 is grey, 2 RGB; `rows` are filter byte and samples of each row."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


PNG = encoded(Image.linear_gradient("L").resize((6, 4)).convert("RGB"))


def body(*, text: str = "Love the way you smell today", image: bytes | str = PNG, **more: Any) -> dict[str, Any]:
    data = image if isinstance(image, str) else base64_of(image)
    return {"input": {"text": text, "image": {"data": data}}, **more}


EVIDENCE = Evidence(
    draws=1,
    tails=1,
    passes=1,
    cells=(CellEvidence(leading_masked=0, at_least=True, slots=0, unsafe=0, near_ties=0),),
    unsafe="AA==",
    near_tie=None,
    tie_band=0.0,
    scores=(ScoreEvidence(tokens=0, cells=(0,), lower=0.0, upper=1.0),),
    positions=None,
    bound="any_time",
    alpha=0.01,
    alpha_split={"unsafe": 1.0},
    sharing="undivided",
    stopped="not_certifiable",
)
SPACE = Space(
    channels=3,
    height=64,
    width=64,
    alphabets=(101,),
    resize="antialiased_bicubic",
    input_height=4,
    input_width=6,
    native_operator_norm=resize_norm((4, 6), (64, 64)),
)


def certificate(job_id: str) -> Certificate:
    """A certificate of this job that certifies nothing: image-only, one draw."""
    now = datetime.now(UTC)
    made = Certificate(
        id=job_id,
        kind="hybrid",
        created_at=now,
        finished_at=now,
        verdict="abstained",
        reason="Abstained.",
        frontier=(FrontierPoint(tokens=0, radius=None, native_radius=None, method=None),),
        max_tokens=None,
        target=None,
        worst_case=(),
        evidence=EVIDENCE,
        method="auto",
        asked_verdict="unsafe",
        threat=ThreatUsed(text="none", slots=0, max_tokens=0, image="l2"),
        noise=NoiseUsed(token_kernel="uniform", beta=0.25, sigma=0.25, scope="shared"),
        tau=0.01,
        space=SPACE,
        model=ModelRef(name="reference-guard", fingerprint="sha256:0123"),
        false_flag=None,
        seed="5eed",
        questions_asked=1,
        notes=(),
        software="holdfast",
        notice=(),
        signature=None,
    )
    plain = made.model_dump(mode="json")
    question = question_of(plain)
    found = answer(question, votes_of(plain, question))
    return made.model_copy(
        update={
            "notice": notice(question, found.verdict, pictured=True, tie_band=0.0, asked=1),
            "reason": reason(question, found.verdict, max_tokens=None, target=None, stopped="not_certifiable"),
            "evidence": made.evidence.model_copy(update={"sharing": sharing(question, None)}),
        }
    )


async def submitted(http: httpx.AsyncClient) -> str:
    """Submits the standard body and returns the job's id."""
    answer = await http.post(URL, json=body())
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The answer is this problem, in the one wire shape."""
    problem: dict[str, Any] = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:holdfast:problem:{slug}"), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "instance", "errors"}
    assert problem["status"] == status
    assert problem["instance"] == f"urn:holdfast:request:{answer.headers['x-request-id']}"
    return problem


async def assert_nothing_queued(redis: AsyncRedis) -> None:
    """Only the worker's lease is in the queue."""
    assert {key.decode() for key in await redis.keys("*")} <= {keys.WORKERS, keys.worker("worker")}
