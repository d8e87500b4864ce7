"""The asynchronous SDK against the real gateway: it asks, reads, resumes and refuses as the synchronous one does."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import Job
from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast.contract.problems import InputRefusedError, InvalidValueError, JobFinishedError, NoWorkerError
from holdfast.signing import SigningKey, key_set
from holdfast_client import (
    AsyncCertification,
    AsyncClient,
    Certification,
    CertificationCancelledError,
    Client,
    ConnectionFailedError,
    ServiceUnreachableError,
)
from tests.clients.certified import certified
from tests.clients.feature_certificates import embedding_certificate, feature_certificate
from tests.clients.gateway import SIGNING_KEY, Gateway, running_gateway
from tests.waiting import PATIENCE_S

FEATURES, EMBEDDING = feature_certificate(), embedding_certificate()


class Dropping(httpx.AsyncBaseTransport):
    """Loses the first `drops` streams after one event."""

    def __init__(self, drops: int) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._drops = drops
        self.resumed: list[str | None] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if not request.url.path.endswith("/events"):
            return response
        self.resumed.append(request.headers.get("Last-Event-ID"))
        if len(self.resumed) > self._drops:
            return response
        return httpx.Response(200, headers=response.headers, stream=CutAfterOneEvent(response))

    async def aclose(self) -> None:
        await self._inner.aclose()


class CutAfterOneEvent(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        whole = b""
        async for part in self._response.aiter_raw():
            whole += part
            if b"\n\n" in whole:
                yield whole.partition(b"\n\n")[0] + b"\n\nid: 9"
                raise httpx.ReadError("lost")

    async def aclose(self) -> None:
        await self._response.aclose()


@pytest.fixture
async def connected(gateway: Gateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(gateway.url) as client:
        yield client


async def submitted(client: AsyncClient, image: bytes) -> AsyncCertification[Certificate]:
    return await client.certify(text="t", image=image)


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Certification, AsyncCertification)])
def test_both_clients_have_the_same_calls_with_the_same_arguments(one: type, other: type) -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        found = {name: call for name, call in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}
        return {name: list(inspect.signature(call).parameters) for name, call in found.items()}

    assert calls(one) == calls(other)
    assert calls(one)


async def test_an_input_goes_in_and_its_certificate_comes_out(
    gateway: Gateway, connected: AsyncClient, image: bytes, certificate: Certificate
) -> None:
    job = await connected.certify(text="t", image=image, slots=5, target=(2, 0.5), beta=None)
    waiting = await job.refresh()
    assert isinstance(waiting, Job)
    assert (gateway.spec(job.id).slots, gateway.spec(job.id).target.tokens) == (5, 2)
    gateway.finish(job.id, certificate)
    assert await job.wait(PATIENCE_S) == await job.refresh() == certificate.model_copy(update={"id": job.id})
    assert (await connected.certification(job.id).wait(PATIENCE_S)).id == job.id


async def test_progress_is_iterated_until_the_outcome(
    gateway: Gateway, connected: AsyncClient, image: bytes, certificate: Certificate
) -> None:
    job = await submitted(connected, image)
    gateway.publish(job.id, 10, 20)
    gateway.finish(job.id, certificate)
    assert [progress.draws async for progress in job] == [10, 20]
    gateway.forget_events(job.id)
    assert [progress async for progress in job] == []


@pytest.mark.parametrize("drops", [1, 3])
async def test_a_dropped_stream_is_resumed_after_the_last_event_seen(
    gateway: Gateway, image: bytes, certificate: Certificate, drops: int
) -> None:
    transport = Dropping(drops)
    async with AsyncClient(gateway.url, transport=transport) as client:
        job = await submitted(client, image)
        gateway.publish(job.id, *range(10, 60, 10))
        gateway.finish(job.id, certificate)
        assert [progress.draws async for progress in job] == [10, 20, 30, 40, 50]
    assert len(transport.resumed) == len(set(transport.resumed)) == drops + 1


async def test_a_job_that_was_followed_for_a_while_is_cancelled_and_says_so(
    gateway: Gateway, connected: AsyncClient, image: bytes
) -> None:
    job = await submitted(connected, image)
    gateway.publish(job.id, 10)
    async for progress in job:
        assert progress.draws == 10
        break
    await job.cancel()
    with pytest.raises(CertificationCancelledError, match="submit the input again"):
        await job.wait(PATIENCE_S)
    with pytest.raises(JobFinishedError):
        await job.cancel()


async def test_a_wait_that_is_cancelled_leaves_the_job_which_can_be_waited_for_again(
    gateway: Gateway, connected: AsyncClient, image: bytes, certificate: Certificate
) -> None:
    job = await submitted(connected, image)
    waiting = asyncio.create_task(job.wait())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert gateway.state(job.id) == "queued"
    gateway.finish(job.id, certificate)
    assert (await job.wait(PATIENCE_S)).id == job.id


async def test_waiting_too_long_times_out_and_leaves_the_job(
    gateway: Gateway, connected: AsyncClient, image: bytes
) -> None:
    job = await submitted(connected, image)
    with pytest.raises(TimeoutError, match="it goes on"):
        await job.wait(0.1)
    assert gateway.state(job.id) == "queued"


async def test_many_inputs_are_waited_for_at_once(
    gateway: Gateway, connected: AsyncClient, image: bytes, certificate: Certificate
) -> None:
    jobs = await asyncio.gather(*(submitted(connected, image) for _ in range(5)))
    waiting = asyncio.gather(*(job.wait(PATIENCE_S) for job in jobs))
    for job in reversed(jobs):
        await asyncio.to_thread(gateway.finish, job.id, certificate)
    assert [found.id for found in await waiting] == [job.id for job in jobs]


async def test_a_failed_job_raises_its_own_problem(gateway: Gateway, connected: AsyncClient, image: bytes) -> None:
    job = await submitted(connected, image)
    gateway.fail(job.id, InputRefusedError("suffix of 9 tokens must fit 3 slots; ask for more slots").problem())
    with pytest.raises(InputRefusedError, match="must fit 3 slots"):
        await job.wait(PATIENCE_S)


async def test_an_image_goes_in_and_its_feature_certificate_comes_out(
    gateway: Gateway, connected: AsyncClient, image: bytes
) -> None:
    job = await connected.certify_features(image=image, draws=300)
    assert gateway.spec(job.id).draws == 300
    gateway.finish(job.id, FEATURES)
    assert await connected.feature_certification(job.id).wait(PATIENCE_S) == FEATURES.model_copy(update={"id": job.id})


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_embedding_is_followed_to_its_end(
    gateway: Gateway, connected: AsyncClient, image: bytes, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr("holdfast_service.gateway.following.MAX_WAIT_S", 0)
    with gateway.finishing_the_next_job(EMBEDDING):
        assert (await connected.embed(image=image, timeout_s=PATIENCE_S)).embedding == EMBEDDING.embedding


async def test_models_keys_readiness_and_checks_are_told(
    connected: AsyncClient, model: GuardInfo, tabular_model: GuardInfo, encoder: EncoderInfo
) -> None:
    assert await connected.ready()
    assert await connected.models() == (encoder, model, tabular_model)
    assert await connected.keys() == key_set(SigningKey.from_text(SIGNING_KEY))
    assert not (await connected.verify(certified(model))).valid  # it is unsigned


@pytest.mark.parametrize("options", [{"beta": 1.5}, {"epsilons": (-1.0,)}])
async def test_a_value_out_of_range_never_leaves(options: dict[str, Any], image: bytes) -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(InvalidValueError):
            await client.certify(text="t", image=image, **options)


async def test_without_a_worker_or_a_service_the_refusal_says_what_to_do(image: bytes) -> None:
    with running_gateway() as gateway:
        async with AsyncClient(gateway.url) as client:
            assert not await client.ready()
            with pytest.raises(NoWorkerError):
                await submitted(client, image)
    async with AsyncClient("http://user:hidden@127.0.0.1:9") as client:
        assert client.url == "http://127.0.0.1:9"
        with pytest.raises(ServiceUnreachableError, match="holdfast serve"):
            await client.models()


async def test_a_submission_that_may_have_been_received_is_not_sent_again(image: bytes) -> None:
    sent: list[httpx.Request] = []

    async def lose(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise httpx.ReadError("lost")

    async with AsyncClient(transport=httpx.MockTransport(lose)) as client:
        with pytest.raises(ConnectionFailedError, match="may have taken the request"):
            await submitted(client, image)
    assert len(sent) == 1
