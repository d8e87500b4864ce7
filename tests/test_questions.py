"""What was asked, what decides the numbers and what is issued say the same, whichever way one is read from another."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.certificates import Question
from holdfast.certificates.features.reading import feature_question_of as read_by_verifier_of_features
from holdfast.certificates.guard.reading import question_of as read_by_verifier
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.spec import GuardSpec
from holdfast.questions import feature_question_of, feature_spec_of, question_of, spec_of
from tests.certificates import feature_issued
from tests.certificates.issued import FIELDS, KINDS, issue, issued
from tests.certifier.specs import spec

_OF_THE_RUN = ("rate", "near_tie", "draws", "stopped", "pictured")
GUARDS = sorted(KINDS)
ENCODERS = sorted(feature_issued.KINDS)


def asked(kind: str) -> Any:
    return spec(**{name: value for name, value in KINDS[kind].items() if name not in _OF_THE_RUN})


@pytest.mark.parametrize("kind", GUARDS)
def test_the_verifier_reads_by_itself_the_question_that_was_answered(kind: str) -> None:
    certificate = issued(kind)
    norm = certificate["space"]["native_operator_norm"] or 1.0
    assert read_by_verifier(certificate) == question_of(asked(kind), operator_norm=norm)


@pytest.mark.parametrize("kind", GUARDS)
def test_replay_asks_for_the_draws_that_the_certificate_was_made_of(kind: str) -> None:
    again = spec_of(Certificate.model_validate(issued(kind)))
    assert question_of(again) == replace(question_of(asked(kind)), epsilons=())
    assert (again.fingerprint, again.space) == (asked(kind).fingerprint, asked(kind).space)


@pytest.mark.parametrize("kind", ENCODERS)
def test_replay_scores_the_draws_that_a_feature_certificate_was_made_of(kind: str) -> None:
    plain = feature_issued.issued(kind)
    certificate = FeatureCertificate.model_validate(plain)
    again = feature_question_of(
        feature_spec_of(certificate),
        label=None if certificate.prediction is None else certificate.prediction.label,
        prototypes=certificate.evidence.cosines is not None,
        operator_norm=certificate.space.native_operator_norm or 1.0,
    )
    stated = read_by_verifier_of_features(plain)
    assert set(again.statements) == set(stated.statements)
    assert again == replace(stated, epsilons=(), cosine_floors=(), target=None, statements=again.statements)


def test_a_resize_is_part_of_the_question() -> None:
    assert question_of(spec(), operator_norm=1.5) == replace(question_of(spec()), operator_norm=1.5)


_METHODS = {
    "suffix": ["auto", "joint", "stratified", "neyman_pearson"],
    "append": ["auto", "erase_and_check"],
}


@st.composite
def askings(draw: st.DrawFn) -> dict[str, Any]:
    """Changes of a guard's spec, over every threat, kernel, method, scope, target and way to stop."""
    threat = draw(st.sampled_from(["suffix", "l0", "tabular", "append", "none"]))
    text_alone = threat not in ("none", "append") and draw(st.booleans())
    changes: dict[str, Any] = {
        "token_kernel": draw(st.sampled_from(["uniform", "absorbing"])),
        "beta": draw(st.floats(0.1, 0.7)),
        "sigma": 0.0 if text_alone else draw(st.floats(0.1, 2)),
        "tau": draw(st.floats(0.05, 0.95)),
        "verdict": "unsafe" if threat == "append" else draw(st.sampled_from(["both", "unsafe", "safe"])),
        "tails": 1 if threat in ("none", "append") else draw(st.integers(1, 4)),
        "alpha": draw(st.floats(1e-4, 0.5)),
        "method": draw(st.sampled_from(_METHODS.get(threat, ["auto", "joint", "neyman_pearson"]))),
        "stop": draw(st.sampled_from(["any_time", "fixed"])),
        "epsilons": (0.0,) if text_alone else tuple(sorted({0.0, draw(st.floats(0.1, 2))})),
    }
    slots = draw(st.integers(1, 3)) if threat == "suffix" else 0
    budget = slots if threat == "suffix" else 0 if threat == "none" else draw(st.integers(0, 2))
    if threat != "append" and draw(st.booleans()):
        budget = draw(st.integers(0, budget))
        changes["target"] = {"tokens": budget, "epsilon": 0.0 if text_alone else draw(st.floats(0, 1))}
    if threat == "suffix" and changes["method"] != "stratified":
        changes["scope"] = draw(st.sampled_from(["shared", "per_budget"]))
    positions = FIELDS if threat == "tabular" else {"text": threat, "slots": slots}
    return {**positions, **changes, "max_tokens": budget}


@given(askings(), st.floats(0, 1))
def test_whatever_was_asked_verifier_and_replay_read_the_question_that_was_answered(
    changes: dict[str, Any], rate: float
) -> None:
    certificate = issue(rate=rate, draws=32, stopped="draws_spent", **changes)
    wanted = question_of(spec(**changes))
    norm = certificate["space"]["native_operator_norm"]
    assert read_by_verifier(certificate) == replace(wanted, operator_norm=norm)
    assert question_of(spec_of(Certificate.model_validate(certificate))) == replace(wanted, epsilons=())


@given(askings())
def test_a_question_says_what_its_spec_says(changes: dict[str, Any]) -> None:
    asked_for, question = spec(**changes), question_of(spec(**changes))
    shared = {field.name for field in fields(Question)} & set(GuardSpec.model_fields) - {"target"}
    assert {name: getattr(question, name) for name in shared} == {name: getattr(asked_for, name) for name in shared}
    assert [tuple(cell) for cell in question.cells] == [tuple(cell) for cell in asked_for.cells]
    assert question.per_budget == (asked_for.scope == "per_budget")
    assert len(question.kernels) == len(asked_for.alphabets)
    assert question.sides == {"both": ("unsafe", "safe")}.get(asked_for.verdict, (asked_for.verdict,))
    target = None if asked_for.target is None else (asked_for.target.tokens, asked_for.target.epsilon)
    assert question.target == target


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_verifier_reads_by_itself_the_question_that_an_encoder_was_asked(kind: str) -> None:
    plain = feature_issued.issued(kind)
    changes = {name: value for name, value in feature_issued.KINDS[kind].items() if name not in ("passes", "stopped")}
    asked_for, prediction = feature_issued.spec(**changes), plain["prediction"]
    question = feature_question_of(
        asked_for,
        label=None if prediction is None else prediction["label"],
        prototypes=asked_for.head is not None and asked_for.head.kind == "prototypes",
        operator_norm=plain["space"]["native_operator_norm"],
    )
    stated = read_by_verifier_of_features(plain)
    assert replace(stated, statements=()) == replace(question, statements=())
    assert sorted(stated.statements) == sorted(question.statements)


@pytest.mark.parametrize(("label", "read"), [(None, 0), (0, 0), (2, 2)])
def test_before_the_label_is_known_any_will_do_and_without_a_head_there_is_none(label: int | None, read: int) -> None:
    headed = feature_issued.spec(head=feature_issued.LINEAR)
    assert feature_question_of(headed, label=label).label == read
    assert feature_question_of(feature_issued.spec(), label=label).label is None
