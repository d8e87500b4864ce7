"""Requests to encoders: what is queued for them, what is refused, and what comes back."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from holdfast.contract.features.certificates import FeatureCertificate, FeatureEvidence
from holdfast.contract.features.spec import FeatureSpec
from holdfast.contract.jobs import ModelRef
from holdfast.contract.models import EncoderInfo, GuardInfo, HeadInfo, ImageSpace, NoiseSpace
from holdfast.queue import jobs
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from tests.gateway.inputs import PNG, URL, assert_nothing_queued, assert_problem, base64_of
from tests.gateway.inputs import body as guard_body
from tests.waiting import eventually

FEATURES, EMBEDDINGS = "/v1/feature-certifications", "/v1/embeddings"
ENCODER = EncoderInfo(
    name="reference-encoder",
    fingerprint="sha256:0123",
    space=NoiseSpace(channels=3, height=64, width=64),
    dimension=64,
    token_shape=(65, 96),
    heads=(
        HeadInfo(
            name="objects",
            version="1",
            fingerprint="sha256:4567",
            kind="prototypes",
            classes=("can", "socket"),
            clip=0.1,
        ),
    ),
)


@pytest.fixture(autouse=True)
def worker(broker: Broker, model: GuardInfo) -> Iterator[None]:
    with Heartbeat(broker, "worker", [model, ENCODER]):
        yield


def body(**more: Any) -> dict[str, Any]:
    return {"input": {"image": {"data": base64_of(PNG)}}, **more}


def certificate(job_id: str) -> FeatureCertificate:
    """A certificate of this job that states nothing."""
    now = datetime.now(UTC)
    return FeatureCertificate(
        id=job_id,
        created_at=now,
        finished_at=now,
        bounds=(),
        radii=(),
        prediction=None,
        embedding=None,
        target=None,
        evidence=FeatureEvidence(
            passes=1,
            selection_passes=0,
            channels=(),
            votes=None,
            cosines=None,
            distances=None,
            mean_bound="betting",
            horizon=1,
            alpha=0.01,
            alpha_split={"feature_cdf": 0.01},
            stopped="draws_spent",
        ),
        reference="clean",
        sigma=0.25,
        dimension=64,
        space=ImageSpace(
            channels=3,
            height=64,
            width=64,
            resize="antialiased_bicubic",
            input_height=4,
            input_width=6,
            native_operator_norm=13.1,
        ),
        model=ModelRef(name=ENCODER.name, fingerprint=ENCODER.fingerprint),
        seed="5eed",
        questions_asked=1,
        software="holdfast",
        notice=(),
        signature=None,
    )


async def queued(http: httpx.AsyncClient, redis: AsyncRedis, **more: Any) -> FeatureSpec:
    answer = await http.post(FEATURES, json=body(**more))
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{FEATURES}/{answer.json()['id']}"
    record = await jobs.read(redis, answer.json()["id"])
    assert record is not None
    assert isinstance(record.spec, FeatureSpec)
    return record.spec


async def only_job(redis: AsyncRedis) -> tuple[str, FeatureSpec]:
    """The one job that is being submitted, once it is there."""
    (job_id,) = await eventually(lambda: jobs.active_jobs(redis))
    record = await jobs.read(redis, job_id)
    assert record is not None
    assert isinstance(record.spec, FeatureSpec)
    return job_id, record.spec


async def test_a_silent_request_gets_the_models_defaults(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    spec = await queued(http, redis)
    assert (spec.sigma, spec.alpha, spec.draws, spec.reference) == (0.25, 0.001, 10_000, "clean")
    assert spec.statements == ("feature_mean", "feature_cdf")


async def test_named_prototypes_add_the_prediction(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    spec = await queued(http, redis, prototypes="objects")
    assert spec.head == ENCODER.heads[0]
    assert spec.statements[2:] == ("margin_mean", "margin_cdf", "clipped_cdf", "vote")


async def test_any_time_makes_only_statements_that_hold_at_any_time(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    spec = await queued(http, redis, prototypes="objects", sampling={"stop": "any_time"})
    assert spec.statements == ("feature_mean", "margin_mean", "vote")


async def test_an_embedding_waits_for_its_certificate(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    waiting = asyncio.create_task(http.post(EMBEDDINGS, json=body()))
    job_id, _ = await only_job(redis)
    await jobs.finish(redis, job_id, "done", retention_s=60, certificate=certificate(job_id))
    answer = await asyncio.wait_for(waiting, 10)
    assert (answer.status_code, answer.json()["kind"]) == (200, "feature")
    assert (await http.get(f"{FEATURES}/{job_id}")).json() == answer.json()


async def test_an_embedding_that_is_not_waited_for_is_a_job(http: httpx.AsyncClient) -> None:
    answer = await http.post(EMBEDDINGS, json=body(), headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["Location"] == f"{FEATURES}/{answer.json()['id']}"


async def test_an_embeddings_risks_add_up_to_its_alpha(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    waiting = asyncio.create_task(http.post(EMBEDDINGS, json=body(confidence={"alpha": 0.1}, tokens=True)))
    job_id, spec = await only_job(redis)
    assert spec.embedding is not None
    assert spec.alpha + spec.embedding.alpha == pytest.approx(0.1)
    assert spec.dimension == 65 * 96
    await jobs.finish(redis, job_id, "cancelled", retention_s=60)
    await waiting


REFUSED = {
    "a guard": ({"model": "reference-guard"}, "model"),
    "an unknown head": ({"prototypes": "animals"}, "prototypes"),
    "no noise": ({"noise": {"sigma": 0}}, "noise.sigma"),
    "a floor of one": ({"cosine_floors": [1.0]}, "cosine_floors.0"),
    "a bound that needs a fixed number of draws": (
        {"mean_bound": "kl", "sampling": {"stop": "any_time"}},
        "body",
    ),
    "a target at a fixed number of draws": ({"target": {"epsilon": 0.1, "cosine": 0.5}}, "body"),
}


@pytest.mark.parametrize(("more", "path"), REFUSED.values(), ids=REFUSED)
async def test_a_request_that_makes_no_sense_is_refused_and_says_where(
    http: httpx.AsyncClient, redis: AsyncRedis, more: dict[str, Any], path: str
) -> None:
    problem = assert_problem(await http.post(FEATURES, json=body(**more)), 422, "invalid-value")
    assert [error["path"] for error in problem["errors"]] == [path]
    assert await jobs.active_jobs(redis) == set()


async def test_a_field_that_is_not_there_is_refused(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    problem = assert_problem(await http.post(FEATURES, json=body(threat={})), 422, "unknown-field")
    assert [error["path"] for error in problem["errors"]] == ["threat"]
    assert await jobs.active_jobs(redis) == set()


async def test_a_guards_route_refuses_an_encoder(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    answer = await http.post(URL, json=guard_body(model="reference-encoder"))
    assert "feature-certifications" in assert_problem(answer, 422, "invalid-value")["detail"]
    await assert_nothing_queued(redis)


async def test_an_image_that_is_none_is_refused(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    answer = await http.post(FEATURES, json={"input": {"image": {"data": base64_of(PNG[:50])}}})
    assert_problem(answer, 400, "malformed-image")
    await assert_nothing_queued(redis)


async def test_a_job_is_found_only_among_its_kind(http: httpx.AsyncClient) -> None:
    job_id = (await http.post(FEATURES, json=body())).json()["id"]
    assert f"{FEATURES}/{job_id}" in assert_problem(await http.get(f"{URL}/{job_id}"), 404, "not-found")["detail"]
    assert (await http.get(f"{FEATURES}/{job_id}")).json()["kind"] == "feature"


async def test_a_feature_certification_can_be_cancelled_and_followed(http: httpx.AsyncClient) -> None:
    job_id = (await http.post(FEATURES, json=body())).json()["id"]
    assert (await http.delete(f"{FEATURES}/{job_id}")).json()["state"] == "cancelled"
    assert "event: cancelled" in (await http.get(f"{FEATURES}/{job_id}/events")).text


async def test_encoders_are_listed_beside_guards(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["models"]
    assert [(model["name"], model["kind"]) for model in listed] == [
        ("reference-encoder", "encoder"),
        ("reference-guard", "hybrid"),
    ]
    assert EncoderInfo.model_validate((await http.get("/v1/models/reference-encoder")).json()) == ENCODER
