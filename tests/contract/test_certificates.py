"""What comes back: read from JSON as what it is, the same once written again, and never changed after."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from holdfast.contract.features.certificates import FeatureCertificate, feature_certification_from_json
from holdfast.contract.guard.certificates import Certificate, certification_from_json
from holdfast.contract.jobs import Closing, Job, JobState, KeySet, Progress, PublicKey, Signature, Verification
from holdfast.contract.problems import FieldError, InputRefusedError
from tests.certificates import feature_issued
from tests.certificates.issued import KINDS, issued

PROBLEM = InputRefusedError("too long", errors=[FieldError(path="input.text", message="too long")]).problem("urn:x")
PROGRESS = Progress(draws=40, max_draws=900, seconds_left=3.5, frontier=(None, 0.25), verdict="unsafe")
BORN = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)


def job(state: Any, **more: Any) -> Job:
    return Job(id="cert_1", state=state, kind="hybrid", model="guard", created_at=BORN, progress=PROGRESS, **more)


OPEN = [job("queued"), job("running")]
ENDED = [job("failed", finished_at=BORN, problem=PROBLEM), job("cancelled", finished_at=BORN)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_is_the_same_once_it_is_read_and_written_again(kind: str) -> None:
    plain = issued(kind)
    read = certification_from_json(json.dumps(plain))
    assert isinstance(read, Certificate)
    assert json.loads(read.model_dump_json()) == plain
    assert certification_from_json(read.model_dump_json().encode()) == read


@pytest.mark.parametrize("kind", feature_issued.KINDS)
def test_a_feature_certificate_is_the_same_once_it_is_read_and_written_again(kind: str) -> None:
    plain = feature_issued.issued(kind)
    read = feature_certification_from_json(json.dumps(plain))
    assert isinstance(read, FeatureCertificate)
    assert json.loads(read.model_dump_json()) == plain
    assert feature_certification_from_json(read.model_dump_json().encode()) == read


@pytest.mark.parametrize("one", [*OPEN, *ENDED], ids=lambda one: one.state)
@pytest.mark.parametrize("read", [certification_from_json, feature_certification_from_json])
def test_a_job_without_a_certificate_is_read_as_the_job_that_it_is(one: Job, read: Any) -> None:
    assert read(one.model_dump_json()) == one


def test_every_state_of_a_job_is_one_of_a_job_or_of_a_certificate() -> None:
    states = {state for kind in (Job, Certificate) for state in get_args(kind.model_fields["state"].annotation)}
    assert states == set(get_args(JobState))


@pytest.mark.parametrize("state", ["done", "ended", "", None, 3])
def test_an_answer_of_no_known_state_is_not_taken_for_a_job(state: object) -> None:
    plain = json.loads(job("queued").model_dump_json())
    with pytest.raises(ValidationError):
        certification_from_json(json.dumps({**plain, "state": state}))


def test_a_certificate_of_an_encoder_is_none_of_a_guard_and_the_other_way_round() -> None:
    with pytest.raises(ValidationError):
        certification_from_json(json.dumps(feature_issued.issued("feature")))
    with pytest.raises(ValidationError):
        feature_certification_from_json(json.dumps(issued("suffix")))


@pytest.mark.parametrize(
    ("kind", "plain"), [(Certificate, issued("suffix")), (FeatureCertificate, feature_issued.issued("prototypes"))]
)
def test_what_a_newer_service_adds_is_passed_over(kind: type[Certificate], plain: dict[str, Any]) -> None:
    newer = {**plain, "colour": "blue", "evidence": {**plain["evidence"], "colour": "blue"}}
    assert kind.model_validate(newer) == kind.model_validate(plain)


NEEDED = [name for name in Certificate.model_fields if name not in ("state",)]


@pytest.mark.parametrize("name", NEEDED)
def test_a_certificate_without_one_of_its_fields_is_none(name: str) -> None:
    plain = issued("target")
    del plain[name]
    with pytest.raises(ValidationError) as refusal:
        Certificate.model_validate(plain)
    assert {error["loc"] for error in refusal.value.errors()} == {(name,)}


@pytest.mark.parametrize("name", [name for name in FeatureCertificate.model_fields if name not in ("state", "kind")])
def test_a_feature_certificate_without_one_of_its_fields_is_none(name: str) -> None:
    plain = feature_issued.issued("prediction target")
    del plain[name]
    with pytest.raises(ValidationError) as refusal:
        FeatureCertificate.model_validate(plain)
    assert {error["loc"] for error in refusal.value.errors()} == {(name,)}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "maybe"), (("kind",), "feature"), (("frontier", 0, "method"), "guess"),
        (("frontier", 0, "tokens"), None), (("evidence", "stopped"), "tired"), (("evidence", "passes"), 1.5),
        (("evidence", "alpha_split"), {"abstained": 1.0}), (("threat", "text"), "all"), (("noise", "scope"), "none"),
        (("created_at",), "yesterday"), (("signature", "alg"), "none"), (("target", "verdict"), "abstained"),
        (("space", "range"), [0.0]), (("model", "fingerprint"), None),
    ],
)  # fmt: skip
def test_a_certificate_with_a_value_of_another_kind_is_none_and_the_value_is_named(
    path: tuple[str | int, ...], value: object
) -> None:
    plain = issued("target")
    part: Any = plain
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = value
    with pytest.raises(ValidationError) as refusal:
        Certificate.model_validate(plain)
    assert all(error["loc"][: len(path)] == path for error in refusal.value.errors())


@pytest.mark.parametrize(
    "answer",
    [
        Certificate.model_validate(issued("suffix")), FeatureCertificate.model_validate(feature_issued.issued("kl")),
        OPEN[0], PROGRESS, PROBLEM, Closing(id="cert_1", lost=True), Verification(valid=True, checks=()),
        KeySet(keys=(PublicKey(kid="k", x="x"),)), Signature(kid="k", digests={}, value="v"),
    ],
    ids=lambda answer: type(answer).__name__,
)  # fmt: skip
def test_an_answer_cannot_be_changed_and_comes_back_from_json(answer: Any) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(answer, next(iter(type(answer).model_fields)), None)
    assert type(answer).model_validate_json(answer.model_dump_json()) == answer


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Progress,
        draws=st.integers(0),
        max_draws=st.integers(1),
        seconds_left=st.none() | NUMBERS,
        frontier=st.lists(st.none() | NUMBERS).map(tuple),
        verdict=st.sampled_from(["unsafe", "safe", "abstained"]),
    )
)
def test_progress_goes_over_the_wire_to_the_last_bit(sent: Progress) -> None:
    assert Progress.model_validate_json(sent.model_dump_json()) == sent


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31)))
def test_a_time_goes_over_the_wire_to_the_microsecond(when: datetime) -> None:
    times = TypeAdapter(datetime)
    aware = when.replace(tzinfo=UTC)
    sent = job("queued").model_copy(update={"created_at": aware})
    assert Job.model_validate_json(sent.model_dump_json()).created_at == aware
    assert times.validate_json(times.dump_json(aware)) == aware
