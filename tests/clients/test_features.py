"""The SDK's side of encoders against the real gateway; the test does what worker and certifier would."""

import base64
import traceback
from typing import Any

import httpx
import pytest

from holdfast.contract.features.requests import FeatureTarget
from holdfast.contract.jobs import Job
from holdfast.contract.problems import InputRefusedError, InvalidValueError, NotFoundError
from holdfast_client import CertificationCancelledError, Client
from tests.clients.feature_certificates import embedding_certificate, feature_certificate
from tests.clients.gateway import Gateway
from tests.waiting import PATIENCE_S

CERTIFICATE, EMBEDDING = feature_certificate(), embedding_certificate()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway answers an embedding with its job soon."""
    monkeypatch.setattr("holdfast_service.gateway.following.MAX_WAIT_S", 0.2)


def test_an_image_goes_in_and_its_feature_certificate_comes_out(gateway: Gateway, client: Client, image: bytes) -> None:
    job = client.certify_features(image=image)
    waiting = job.refresh()
    assert isinstance(waiting, Job)
    assert (waiting.kind, waiting.state) == ("feature", "queued")
    gateway.finish(job.id, CERTIFICATE)
    assert job.wait(PATIENCE_S) == job.refresh() == CERTIFICATE.model_copy(update={"id": job.id})


def test_what_is_not_given_gets_the_encoders_default(gateway: Gateway, client: Client, image: bytes) -> None:
    spec = gateway.spec(client.certify_features(image=image, draws=300, cosine_floors=[0.9]).id)
    assert (spec.draws, spec.cosine_floors) == (300, (0.9,))
    assert (spec.sigma, spec.reference, spec.head, spec.stop, spec.target) == (0.25, "clean", None, "fixed", None)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"sigma": 0.5, "reference": "direction"}, {"sigma": 0.5, "reference": "direction"}),
        ({"epsilons": (0.5, 0.1), "alpha": 0.01}, {"epsilons": (0.1, 0.5), "alpha": 0.01}),
        ({"mean_bound": "kl", "selection_draws": 50}, {"mean_bound": "kl", "selection_draws": 50}),
        ({"stop": "any_time", "tolerance": 0.1}, {"stop": "any_time", "tolerance": 0.1}),
        ({"target": (0.4, 0.5)}, {"target": FeatureTarget(epsilon=0.5, cosine=0.4)}),
        ({"target": (None, 0.5), "prototypes": "animals"}, {"target": FeatureTarget(epsilon=0.5), "stop": "any_time"}),
    ],
)
def test_every_reference_bound_and_question_can_be_asked_for(
    gateway: Gateway, client: Client, image: bytes, options: dict[str, Any], found: dict[str, Any]
) -> None:
    spec = gateway.spec(client.certify_features(image=image, **options).id)
    assert {name: getattr(spec, name) for name in found} == found


def test_the_head_whose_prediction_is_certified_is_named(gateway: Gateway, client: Client, image: bytes) -> None:
    head = gateway.spec(client.certify_features(image=image, prototypes="animals").id).head
    assert head.classes == ("cat", "dog", "skunk")
    with pytest.raises(InvalidValueError, match="must be one of the heads of model reference-encoder: animals"):
        client.certify_features(image=image, prototypes="plants")


def test_progress_is_iterated_until_the_outcome(gateway: Gateway, client: Client, image: bytes) -> None:
    job = client.certify_features(image=image)
    gateway.publish(job.id, 10, 20)
    gateway.finish(job.id, CERTIFICATE)
    assert [progress.draws for progress in job] == [10, 20]


def test_a_feature_job_is_taken_up_again_by_its_id_and_is_no_guards(
    gateway: Gateway, client: Client, image: bytes
) -> None:
    job_id = client.certify_features(image=image).id
    gateway.finish(job_id, CERTIFICATE)
    assert client.feature_certification(job_id).wait(PATIENCE_S).id == job_id
    with pytest.raises(NotFoundError, match="/v1/feature-certifications/"):
        client.certification(job_id).refresh()


def test_a_cancelled_feature_job_says_so(gateway: Gateway, client: Client, image: bytes) -> None:
    job = client.certify_features(image=image)
    job.cancel()
    assert gateway.state(job.id) == "cancelled"
    with pytest.raises(CertificationCancelledError, match="submit the input again"):
        job.wait(PATIENCE_S)


def test_an_embedding_is_answered_in_the_call_that_asks_for_it(gateway: Gateway, client: Client, image: bytes) -> None:
    with gateway.finishing_the_next_job(EMBEDDING):
        certificate = client.embed(image=image)
    assert certificate == EMBEDDING.model_copy(update={"id": certificate.id})


@pytest.mark.usefixtures("impatient")
def test_an_embedding_that_takes_longer_is_followed_to_its_end(gateway: Gateway, client: Client, image: bytes) -> None:
    with gateway.finishing_the_next_job(EMBEDDING):
        assert client.embed(image=image, timeout_s=PATIENCE_S).embedding == EMBEDDING.embedding


@pytest.mark.usefixtures("impatient")
def test_an_embedding_that_takes_too_long_times_out_and_can_be_followed_further(
    gateway: Gateway, client: Client, image: bytes
) -> None:
    with pytest.raises(TimeoutError, match="it goes on") as late:
        client.embed(image=image, timeout_s=0.1)
    (job_id,) = gateway.active()
    assert job_id in str(late.value)
    gateway.finish(job_id, EMBEDDING)
    assert client.feature_certification(job_id).wait(PATIENCE_S).embedding == EMBEDDING.embedding


@pytest.mark.usefixtures("impatient")
def test_the_options_of_an_embedding_reach_the_service(gateway: Gateway, client: Client, image: bytes) -> None:
    with pytest.raises(TimeoutError):
        client.embed(
            image=image, tokens=True, sigma=0.5, draws=4, score_draws=200, epsilons=(1.0,), alpha=0.1, timeout_s=0
        )
    spec = gateway.spec(gateway.active().pop())
    assert (spec.embedding.draws, spec.embedding.tokens) == (4, True)
    assert spec.embedding.alpha + spec.alpha == pytest.approx(0.1)
    assert (spec.sigma, spec.draws, spec.epsilons, spec.dimension) == (0.5, 200, (1.0,), 6)


def test_a_failed_feature_job_raises_its_own_problem(gateway: Gateway, client: Client, image: bytes) -> None:
    job = client.certify_features(image=image)
    gateway.fail(job.id, InputRefusedError("the image must have colours; give another").problem())
    with pytest.raises(InputRefusedError, match="must have colours"):
        client.feature_certification(job.id).wait(PATIENCE_S)


def test_an_embedding_may_be_kept_back_for_longer_than_another_answer(image: bytes) -> None:
    allowed = []

    def answer(request: httpx.Request) -> httpx.Response:
        allowed.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json=EMBEDDING.model_dump(mode="json"))

    with Client(timeout_s=2.0, transport=httpx.MockTransport(answer)) as client:
        client.embed(image=image)
        client.feature_certification("cert").refresh()
    assert allowed == [62.0, 2.0]


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0.0},
        {"cosine_floors": (1.0,)},
        {"target": (1.5, 0.5)},
        {"target": (None, 0.5)},
        {"target": (0.5, 0.5), "stop": "fixed"},
        {"stop": "any_time", "mean_bound": "kl"},
    ],
)
def test_a_value_out_of_range_never_leaves_and_shows_no_pixel(options: dict[str, Any], image: bytes) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InvalidValueError) as refused:
        client.certify_features(image=image, **options)
    assert refused.value.errors
    assert base64.b64encode(image).decode()[:20] not in "".join(traceback.format_exception(refused.value))
