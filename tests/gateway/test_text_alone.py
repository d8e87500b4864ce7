"""A text without an image: queued for a guard that answers it, refused with the reason for all else."""

from typing import Any

import httpx
import pytest

from holdfast.contract.models import GuardInfo
from holdfast.queue import jobs
from holdfast.queue.broker import AsyncRedis
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import URL, assert_nothing_queued, assert_problem, body

pytestmark = pytest.mark.usefixtures("worker")

ALONE: dict[str, Any] = {"input": {"text": "a text alone", "suffix": "and"}, "threat": {"image": {"norm": "none"}}}


@pytest.fixture
def settings() -> ServiceSettings:
    return ServiceSettings(root_seed="root")


@pytest.fixture
def model(model: GuardInfo) -> GuardInfo:
    return model.model_copy(update={"text_alone": True})


async def queued(redis: AsyncRedis, answer: httpx.Response) -> jobs.JobRecord:
    record = await jobs.read(redis, answer.json()["id"])
    assert record is not None
    return record


async def test_a_text_alone_is_queued_without_an_image(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    answer = await http.post(URL, json=ALONE)
    assert answer.status_code == 202, answer.text
    record, given = await queued(redis, answer), await jobs.read_input(redis, answer.json()["id"])
    assert given == jobs.JobInput("a text alone", "and")
    assert (record.input_size, record.spec.sigma) == ((0, 0), 0.0)


@pytest.mark.parametrize("text", ["suffix", "l0"])
async def test_every_threat_to_the_text_may_be_asked_of_it(http: httpx.AsyncClient, text: str) -> None:
    threat = {"text": {"kind": text}, "image": {"norm": "none"}}
    asked = {"input": {"text": "a text"}, "threat": threat, "noise": {"beta": 0.5}, "decision": {"tau": 0.3}}
    assert (await http.post(URL, json=asked)).status_code == 202


async def test_a_text_alone_has_other_draws_than_the_text_with_an_image(
    http: httpx.AsyncClient, redis: AsyncRedis
) -> None:
    pictured = body(text="a text alone", threat=ALONE["threat"])
    pictured["input"]["suffix"] = "and"
    answers = [await http.post(URL, json=asked) for asked in (ALONE, ALONE, pictured)]
    first, again, other = [(await queued(redis, answer)).seed for answer in answers]
    assert first == again != other


async def test_an_attack_on_an_image_that_is_not_there_is_refused(http: httpx.AsyncClient, redis: AsyncRedis) -> None:
    problem = assert_problem(await http.post(URL, json={"input": ALONE["input"]}), 422, "invalid-value")
    assert problem["detail"].startswith("the image threat needs an image; give one, or ask for threat.image.norm=none")
    await assert_nothing_queued(redis)


class TestOfAGuardThatNeedsAnImage:
    @pytest.fixture
    def model(self, model: GuardInfo) -> GuardInfo:
        return model.model_copy(update={"text_alone": False})

    async def test_it_is_refused_with_the_reason(self, http: httpx.AsyncClient, redis: AsyncRedis) -> None:
        problem = assert_problem(await http.post(URL, json=ALONE), 422, "invalid-value")
        assert problem["detail"] == "model reference-guard does not answer a text without an image; give one"
        await assert_nothing_queued(redis)
