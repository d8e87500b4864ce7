"""A job's life: queued → running → done | failed | cancelled.

Every change of state is one Lua script, so that of several processes that want to end a job exactly one does, and
nothing is written for a job that has ended.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.spec import FeatureSpec
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.jobs import Job, JobState, Progress, Verdict
from holdfast.contract.problems import Problem
from holdfast.queue import events, keys, scripts
from holdfast.queue.broker import AsyncRedis

Outcome = Literal["done", "failed", "cancelled"]
Spec = GuardSpec | FeatureSpec
_SPEC: TypeAdapter[Spec] = TypeAdapter(Annotated[Spec, Field(discriminator="kind")])
CERTIFICATE: TypeAdapter[Certificate | FeatureCertificate] = TypeAdapter(
    Annotated[Certificate | FeatureCertificate, Field(discriminator="kind")]
)
"""Reads a certificate of either kind."""


@dataclass(frozen=True)
class JobRecord:
    """What the service knows of one job.

    `input_size` is the image's (height, width), (0, 0) of none. `questions_asked` counts the distinct questions of its
    client to its model within the retention time before it, itself included.
    """

    id: str
    state: JobState
    spec: Spec
    seed: str = field(repr=False)  # secret until the certificate is out
    created_at: datetime
    input_size: tuple[int, int]
    questions_asked: int = 1
    finished_at: datetime | None = None
    problem: Problem | None = None
    certificate: Certificate | FeatureCertificate | None = None

    @property
    def pictured(self) -> bool:
        """Whether an image was given, or the numeric fields of a tabular input."""
        return self.input_size != (0, 0)

    @property
    def is_open(self) -> bool:
        """Whether the job still wants draws."""
        return self.state in ("queued", "running")

    def progress(
        self, draws: int = 0, *, frontier: tuple[float | None, ...] = (), verdict: Verdict = "abstained"
    ) -> Progress:
        """How far the job is with so many draws, which certify so much."""
        draw_s = self.spec.draw_s if isinstance(self.spec, GuardSpec) else None
        left = None if draw_s is None else (self.spec.max_draws - draws) * draw_s
        return Progress(
            draws=draws, max_draws=self.spec.max_draws, seconds_left=left, frontier=frontier, verdict=verdict
        )

    def answer(self, progress: Progress) -> Job | Certificate | FeatureCertificate:
        """What `GET /v1/certifications/{id}`, or `GET /v1/feature-certifications/{id}`, says."""
        if self.certificate is not None:
            return self.certificate
        return Job(
            id=self.id,
            state=self.state,
            kind=self.spec.kind,
            model=self.spec.model,
            created_at=self.created_at,
            finished_at=self.finished_at,
            progress=progress,
            problem=self.problem,
        )


@dataclass(frozen=True)
class JobInput:
    """What a job certifies: text, suffix and image of a multimodal input, or the fields of a tabular one."""

    text: str = field(default="", repr=False)
    suffix: str = field(default="", repr=False)
    image_png: bytes = field(default=b"", repr=False)
    fields: dict[str, str | float] = field(default_factory=dict, repr=False)


def new_id() -> str:
    """A job id: its millisecond of birth, so that ids sort by age, and 64 random bits."""
    return f"cert_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"


def made_at(job_id: str) -> datetime | None:
    """When the job of this id was made, or None if it is no id of ours."""
    head, _, tail = job_id.partition("_")
    if head != "cert" or len(tail) != 28 or not set(tail) <= set("0123456789abcdef"):
        return None
    try:
        return datetime.fromtimestamp(int(tail[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError):  # twelve hexadecimal digits reach beyond the year 9999
        return None


async def create(
    redis: AsyncRedis, record: JobRecord, given: JobInput, *, retention_s: int, client: str = "anonymous"
) -> None:
    """Writes a queued job with its input, counts its question and tells the certifiers.

    Two jobs ask the same question if they have the same seed: then they get the same draws, and the second is no new
    try. Under another root seed the same request is another question, and counts.

    Args:
        redis: The queue.
        record: The job; its `questions_asked` is counted here, not taken from it.
        given: Its input.
        retention_s: How long a question counts.
        client: Whose questions are counted together.
    """
    digest = hashlib.sha256(record.seed.encode()).hexdigest()
    asked = keys.asked(client, record.spec.fingerprint)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hset(
            keys.job(record.id),
            mapping={
                "id": record.id,
                "state": record.state,
                "spec": record.spec.model_dump_json(),
                "seed": record.seed,
                "created_at": record.created_at.isoformat(),
                "input_height": record.input_size[0],
                "input_width": record.input_size[1],
            },
        )
        pipe.hset(
            keys.inputs(record.id),
            mapping={
                "text": given.text,
                "suffix": given.suffix,
                "image": given.image_png,
                "fields": json.dumps(given.fields),
            },
        )
        pipe.sadd(keys.ACTIVE_JOBS, record.id)
        await scripts.run(pipe, "ask", [asked, keys.job(record.id)], digest, int(time.time()), retention_s)
        pipe.xadd(keys.TALLY_HINTS, {"job": record.id}, maxlen=10_000, approximate=True)
        await pipe.execute()


async def read(redis: AsyncRedis, job_id: str) -> JobRecord | None:
    """The job's record, or None if there is none (never made, or past its retention)."""
    raw = {key.decode(): value.decode() for key, value in (await redis.hgetall(keys.job(job_id))).items()}
    if "spec" not in raw:
        return None
    return JobRecord(
        id=job_id,
        state=raw["state"],
        spec=_SPEC.validate_json(raw["spec"]),
        seed=raw["seed"],
        created_at=datetime.fromisoformat(raw["created_at"]),
        input_size=(int(raw["input_height"]), int(raw["input_width"])),
        questions_asked=int(raw["questions_asked"]),
        finished_at=datetime.fromisoformat(raw["finished_at"]) if "finished_at" in raw else None,
        problem=Problem.model_validate_json(raw["problem"]) if "problem" in raw else None,
        certificate=CERTIFICATE.validate_json(raw["certificate"]) if "certificate" in raw else None,
    )


async def is_open(redis: AsyncRedis, job_id: str) -> bool:
    """Whether the job still wants draws."""
    return await redis.hget(keys.job(job_id), "state") in (b"queued", b"running")


async def read_input(redis: AsyncRedis, job_id: str) -> JobInput | None:
    """The job's input, or None once the job has ended."""
    raw = await redis.hgetall(keys.inputs(job_id))
    if not raw:
        return None
    return JobInput(raw[b"text"].decode(), raw[b"suffix"].decode(), raw[b"image"], json.loads(raw[b"fields"]))


async def settle(redis: AsyncRedis, job_id: str, fields: Mapping[str, bytes]) -> dict[str, bytes]:
    """Fixes what all workers of a job must share: the first to come writes it, and every later one is told that.

    Args:
        redis: The queue.
        job_id: The job.
        fields: What this worker found, at least one field.

    Returns:
        What stands for the job; empty where it has ended.
    """
    flat = [part for pair in fields.items() for part in pair]
    answer = await scripts.run(redis, "settle", [keys.job(job_id), keys.settled(job_id)], *flat)
    return {name.decode(): value for name, value in zip(answer[::2], answer[1::2], strict=True)}


async def read_settled(redis: AsyncRedis, job_id: str) -> dict[str, bytes]:
    """What was settled for the job; empty before the first worker has, and once the job has ended."""
    return {name.decode(): value for name, value in (await redis.hgetall(keys.settled(job_id))).items()}


async def active_jobs(redis: AsyncRedis) -> set[str]:
    """Ids of the jobs that are queued or running."""
    return {member.decode() for member in await redis.smembers(keys.ACTIVE_JOBS)}


async def finish(
    redis: AsyncRedis,
    job_id: str,
    outcome: Outcome,
    *,
    retention_s: int,
    certificate: Certificate | FeatureCertificate | None = None,
    problem: Problem | None = None,
) -> bool:
    """Ends an open job and deletes its input and what was settled of it; False if it had ended already."""
    held = [key(job_id) for key in (keys.job, keys.inputs, keys.plan, keys.tallies, keys.events)]
    touched = [*held, keys.ACTIVE_JOBS, keys.settled(job_id)]
    field, value = "state", str(outcome)
    if certificate is not None:
        field, value = "certificate", certificate.model_dump_json()
    elif problem is not None:
        field, value = "problem", problem.model_dump_json()
    written = job_id, outcome, datetime.now(UTC).isoformat(), field, value, retention_s
    return bool(await scripts.run(redis, "finish", touched, *written, events.outcome_data(job_id, outcome)))
