"""The SDK against the real gateway; the test does what worker and certifier would."""

import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import holdfast_client
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.requests import Target
from holdfast.contract.jobs import Job
from holdfast.contract.models import EncoderInfo, GuardInfo
from holdfast.contract.problems import (
    InputRefusedError,
    InvalidValueError,
    JobFinishedError,
    NotFoundError,
    NoWorkerError,
    UnsupportedMediaTypeError,
)
from holdfast_client import (
    Certification,
    CertificationCancelledError,
    Client,
    ConnectionFailedError,
    ServiceUnreachableError,
    UnexpectedAnswerError,
)
from tests.clients.gateway import Gateway, running_gateway
from tests.waiting import PATIENCE_S

SECRET = "what the user wrote"


class Dropping(httpx.BaseTransport):
    """Loses the first `drops` connections of the kind that `loses` names: after one event, or before an answer."""

    def __init__(self, drops: int, loses: Callable[[httpx.Request], bool], *, after_sending: bool = True) -> None:
        self._inner = httpx.HTTPTransport()
        self._drops, self._loses, self._after_sending = drops, loses, after_sending
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._loses(request):
            self.requests.append(request)
            if len(self.requests) <= self._drops:
                return self._lose(request)
        return self._inner.handle_request(request)

    def _lose(self, request: httpx.Request) -> httpx.Response:
        if not self._after_sending:
            raise httpx.ConnectError("lost")
        response = self._inner.handle_request(request)
        if response.headers["Content-Type"].startswith("text/event-stream"):
            return httpx.Response(200, headers=response.headers, stream=CutAfterOneEvent(response))
        raise httpx.ReadError("lost")

    def close(self) -> None:
        self._inner.close()


class CutAfterOneEvent(httpx.SyncByteStream):
    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        whole = b""
        for part in self._response.iter_raw():
            whole += part
            if b"\n\n" in whole:
                yield whole.partition(b"\n\n")[0] + b"\n\nid: 9"
                raise httpx.ReadError("lost")

    def close(self) -> None:
        self._response.close()


def is_events(request: httpx.Request) -> bool:
    return request.url.path.endswith("/events")


def submit(client: Client, image: bytes) -> Certification[Certificate]:
    return client.certify(text=SECRET, image=image)


def test_an_input_goes_in_and_its_certificate_comes_out(
    gateway: Gateway, client: Client, image: bytes, certificate: Certificate
) -> None:
    job = submit(client, image)
    waiting = job.refresh()
    assert isinstance(waiting, Job)
    assert waiting.state == "queued"
    gateway.finish(job.id, certificate)
    assert job.wait(PATIENCE_S) == job.refresh() == certificate.model_copy(update={"id": job.id})


def test_only_what_is_given_is_asked_for(gateway: Gateway, client: Client, image: bytes, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(image)
    job = client.certify(text="t", image=tmp_path / "image.png", slots=5, tau=0.3, max_draws=60)
    spec = gateway.spec(job.id)
    assert (spec.slots, spec.tau, spec.max_draws) == (5, 0.3, 60)
    assert (spec.model, spec.text, spec.beta, spec.verdict, spec.target) == (
        "reference-guard",
        "suffix",
        0.25,
        "both",
        None,
    )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"target": (2, 0.5)}, {"target": Target(tokens=2, epsilon=0.5), "max_tokens": 2}),
        ({"threat": "none"}, {"text": "none", "slots": 0, "max_tokens": 0}),
        ({"image_threat": "none"}, {"sigma": 0.0, "epsilons": (0.0,)}),
        ({"threat": "l0", "max_tokens": 2}, {"text": "l0", "slots": 0, "max_tokens": 2}),
        ({"method": "neyman_pearson", "scope": "per_budget"}, {"method": "neyman_pearson", "scope": "per_budget"}),
        ({"verdict": "safe", "stop": "fixed"}, {"verdict": "safe", "stop": "fixed"}),
    ],
)
def test_every_threat_verdict_method_and_question_can_be_asked_for(
    gateway: Gateway, client: Client, image: bytes, options: dict[str, Any], found: dict[str, Any]
) -> None:
    spec = gateway.spec(client.certify(text="t", image=image, **options).id)
    assert {name: getattr(spec, name) for name in found} == found


def test_the_fields_of_a_tabular_input_are_certified_instead_of_text_and_image(
    gateway: Gateway, client: Client
) -> None:
    fields: dict[str, str | float] = {"age": 41, "sex": "f", "city": "Rome"}
    job = client.certify(fields=fields, model="tabular-guard", max_tokens=1)
    assert gateway.spec(job.id).kind == "tabular"
    assert gateway.input(job.id).fields == fields


@pytest.mark.parametrize("given", [{}, {"image": b"png"}, {"text": "t", "fields": {"age": 1}}])
def test_an_input_that_is_neither_kind_is_refused_with_the_remedy(given: dict[str, Any]) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidValueError, match="give text and image"):
        client.certify(**given)


def test_progress_is_iterated_until_the_outcome(
    gateway: Gateway, client: Client, image: bytes, certificate: Certificate
) -> None:
    job = submit(client, image)
    gateway.publish(job.id, 10, 20)
    following = iter(job)
    assert next(following).draws == 10
    gateway.publish(job.id, 30)
    gateway.finish(job.id, certificate)
    assert [progress.draws for progress in following] == [20, 30]


@pytest.mark.parametrize("drops", [1, 2, 3])
def test_a_dropped_stream_is_resumed_after_the_last_event_seen(
    gateway: Gateway, image: bytes, certificate: Certificate, drops: int
) -> None:
    transport = Dropping(drops, is_events)
    with Client(gateway.url, transport=transport) as client:
        job = submit(client, image)
        gateway.publish(job.id, *range(10, 60, 10))
        gateway.finish(job.id, certificate)
        assert [progress.draws for progress in job] == [10, 20, 30, 40, 50]
    resumed = [request.headers.get("Last-Event-ID") for request in transport.requests]
    assert len(resumed) == len(set(resumed)) == drops + 1


def test_a_stream_that_stays_lost_is_given_up_with_the_remedy(
    gateway: Gateway, image: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast_client.service.PATIENTLY_S", (0.01, 0.01))
    with Client(gateway.url, transport=Dropping(99, is_events, after_sending=False)) as client:
        job = submit(client, image)
        with pytest.raises(ServiceUnreachableError, match="holdfast serve"):
            list(job)


def test_an_ended_job_without_events_left_iterates_to_nothing(
    gateway: Gateway, client: Client, image: bytes, certificate: Certificate
) -> None:
    job = submit(client, image)
    gateway.finish(job.id, certificate)
    gateway.forget_events(job.id)
    assert list(job) == []


def test_a_failed_job_raises_its_own_problem(gateway: Gateway, client: Client, image: bytes) -> None:
    job = submit(client, image)
    gateway.fail(job.id, InputRefusedError("suffix of 9 tokens must fit 3 slots; ask for more slots").problem())
    with pytest.raises(InputRefusedError, match="must fit 3 slots"):
        job.wait(PATIENCE_S)


def test_a_cancelled_job_says_so_and_cannot_be_cancelled_again(gateway: Gateway, client: Client, image: bytes) -> None:
    job = submit(client, image)
    job.cancel()
    assert gateway.state(job.id) == "cancelled"
    with pytest.raises(CertificationCancelledError, match="submit the input again"):
        job.wait(PATIENCE_S)
    with pytest.raises(JobFinishedError):
        job.cancel()


def test_waiting_too_long_times_out_and_leaves_the_job(gateway: Gateway, client: Client, image: bytes) -> None:
    job = submit(client, image)
    with pytest.raises(TimeoutError, match=r"after 0\.1 s; it goes on: call wait\(\) again, or cancel\(\)"):
        job.wait(0.1)
    assert gateway.state(job.id) == "queued"


def test_a_job_is_taken_up_again_by_its_id(
    gateway: Gateway, client: Client, image: bytes, certificate: Certificate
) -> None:
    job_id = submit(client, image).id
    gateway.finish(job_id, certificate)
    assert client.certification(job_id).wait(PATIENCE_S).id == job_id


def test_refusals_are_rebuilt_as_the_classes_they_were(client: Client, image: bytes) -> None:
    with pytest.raises(InvalidValueError) as refused:
        client.certify(text="t", image=image, slots=9)
    assert [error.path for error in refused.value.errors] == ["threat.text.slots"]
    with pytest.raises(UnsupportedMediaTypeError):
        client.certify(text="t", image=b"no image")
    with pytest.raises(NotFoundError):
        client.certification("../models").refresh()


def test_without_a_worker_the_refusal_says_when_to_try_again(image: bytes) -> None:
    with running_gateway() as gateway, Client(gateway.url) as client:
        assert not client.ready()
        with pytest.raises(NoWorkerError) as refused:
            submit(client, image)
    assert refused.value.retry_after_s == 10


@pytest.mark.parametrize("options", [{"beta": 1.5}, {"sigma": float("nan")}, {"epsilons": (-1.0,)}, {"suffix": "\0"}])
def test_a_value_out_of_range_never_leaves_and_shows_no_input(options: dict[str, object], image: bytes) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidValueError) as refused:
        client.certify(text=SECRET, image=image, **options)  # type: ignore[arg-type]
    assert refused.value.errors
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_models_and_readiness_are_told(
    client: Client, model: GuardInfo, tabular_model: GuardInfo, encoder: EncoderInfo
) -> None:
    assert client.ready()
    assert client.models() == (encoder, model, tabular_model)


def test_a_get_is_asked_again_when_its_connection_is_lost(gateway: Gateway) -> None:
    transport = Dropping(2, lambda request: request.method == "GET")
    with Client(gateway.url, transport=transport) as client:
        assert len(client.models()) == 3
    assert len(transport.requests) == 3


def test_a_submission_that_may_have_been_received_is_not_sent_again(gateway: Gateway, image: bytes) -> None:
    transport = Dropping(1, lambda request: request.method == "POST")
    lost = pytest.raises(ConnectionFailedError, match="may have taken the request")
    with Client(gateway.url, transport=transport) as client, lost:
        submit(client, image)
    assert len(gateway.active()) == len(transport.requests) == 1


def test_a_submission_that_was_never_sent_is_sent_again_once_the_service_is_there(
    gateway: Gateway, image: bytes
) -> None:
    transport = Dropping(2, lambda request: request.method == "POST", after_sending=False)
    with Client(gateway.url, transport=transport) as client:
        job = submit(client, image)
    assert gateway.active() == {job.id}


def test_where_nothing_listens_the_remedy_is_to_start_the_service() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://user:hidden@127.0.0.1:{unused.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ServiceUnreachableError, match="holdfast serve") as failed:
            client.models()
    assert "hidden" not in str(failed.value)


def test_what_is_no_holdfast_service_is_told_from_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_once, args=(server, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")).start()
        refused = pytest.raises(UnexpectedAnswerError, match="check that the URL")
        with Client(f"http://127.0.0.1:{server.getsockname()[1]}") as client, refused:
            client.models()


def answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8420", "redis://127.0.0.1", "http://", "http://127.0.0.1:eighty", "holdfast"]
)
def test_a_url_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ServiceUnreachableError, match=r"http://127\.0\.0\.1:8420"):
        Client(url)


def test_the_environment_names_the_service(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", gateway.url)
    with Client() as client:
        assert client.url == gateway.url
        assert client.ready()


def test_the_public_names_are_these() -> None:
    assert set(holdfast_client.__all__) >= {"Client", "Certification", "FeatureCertification", "ProblemError"}
    assert all(hasattr(holdfast_client, name) for name in holdfast_client.__all__)
