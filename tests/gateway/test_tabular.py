"""Inputs of fields: what is queued for them, and what is refused."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from holdfast.contract.guard.spec import GuardSpec
from holdfast.contract.models import FieldInfo, GuardInfo, NoiseSpace
from holdfast.queue import jobs
from holdfast.queue.broker import AsyncRedis, Broker
from holdfast.queue.leases import Heartbeat
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import URL, assert_nothing_queued, assert_problem

GIVEN: dict[str, Any] = {"job": "teacher", "home": "rented", "age": 31.5}


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(root_seed="root")


@pytest.fixture
def tabular(model: GuardInfo) -> GuardInfo:
    fields = (
        FieldInfo(name="job", values=("teacher", "nurse", "none")),
        FieldInfo(name="age"),
        FieldInfo(name="home", values=("owned", "rented")),
    )
    space = NoiseSpace(channels=1, height=1, width=1)
    changes = {"kind": "tabular", "alphabets": (3, 2), "fields": fields, "space": space}
    return model.model_copy(update=changes)


@pytest.fixture(autouse=True)
def worker(broker: Broker, tabular: GuardInfo) -> Iterator[None]:
    with Heartbeat(broker, "worker", [tabular]):
        yield


def body(fields: dict[str, Any] = GIVEN, **more: Any) -> dict[str, Any]:
    return {"input": {"fields": fields}, **more}


async def queued(http: httpx.AsyncClient, redis: AsyncRedis, request: dict[str, Any]) -> jobs.JobRecord:
    answer = await http.post(URL, json=request)
    assert answer.status_code == 202, answer.text
    record = await jobs.read(redis, answer.json()["id"])
    assert record is not None
    return record


async def test_fields_are_queued_as_they_were_given(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    record = await queued(http, redis, body())
    assert await jobs.read_input(redis, record.id) == jobs.JobInput(fields=GIVEN)
    assert isinstance(record.spec, GuardSpec)
    assert (record.spec.kind, record.spec.text, record.spec.slots, record.spec.max_tokens) == ("tabular", "l0", 2, 2)
    assert record.input_size == (1, 1)


async def test_the_seed_depends_on_every_field_and_not_on_their_order(
    http: httpx.AsyncClient, redis: AsyncRedis
) -> None:
    variants = [GIVEN, {**GIVEN, "job": "nurse"}, {**GIVEN, "home": "owned"}, {**GIVEN, "age": 31}]
    seeds = [(await queued(http, redis, body(fields))).seed for fields in variants]
    shuffled = dict(reversed(GIVEN.items()))
    assert (await queued(http, redis, body(shuffled))).seed == seeds[0]
    assert len(set(seeds)) == 4


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no field": (body({}), "input.fields"),
    "a field is missing": (body({"job": "teacher", "age": 3}), "input.fields.home"),
    "a value that the field has not": (body({**GIVEN, "job": "spy"}), "input.fields.job"),
    "a number for a category": (body({**GIVEN, "job": 3}), "input.fields.job"),
    "text for a number": (body({**GIVEN, "age": "old"}), "input.fields.age"),
    "a list for a number": (body({**GIVEN, "age": []}), "input.fields.age.float"),
    "a field that the model has not": (body({**GIVEN, "hateful": 1}), "input.fields"),
    "a suffix": ({"input": {"fields": GIVEN, "suffix": "tail"}}, "input"),
    "text and image": ({"input": {"text": "text", "image": {"data": "AA=="}}}, "input"),
    "a suffix threat": (body(threat={"text": {"kind": "suffix"}}), "threat.text.kind"),
    "slots": (body(threat={"text": {"slots": 2}}), "threat.text.slots"),
    "more budget than fields": (body(threat={"text": {"max_tokens": 3}}), "threat.text.max_tokens"),
    "beta over that of the smallest field": (body(noise={"beta": 0.6}), "noise.beta"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_field_that_does_not_fit_is_named(http: httpx.AsyncClient, redis: AsyncRedis, name: str) -> None:
    request, path = REFUSED[name]
    problem = assert_problem(await http.post(URL, json=request), 422, "invalid-value")
    assert path in [error["path"] for error in problem["errors"]]
    assert not any(given in str(problem) for given in ("spy", "hateful"))
    await assert_nothing_queued(redis)


async def test_a_number_that_is_not_finite_is_refused(http: httpx.AsyncClient) -> None:
    content = b'{"input": {"fields": {"job": "teacher", "home": "rented", "age": NaN}}}'
    answer = await http.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "invalid-value")
