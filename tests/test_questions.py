"""What was asked, what decides the numbers and what is issued say the same, whichever way one is read from another."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.certificates.features.reading import feature_question_of as read_by_verifier_of_features
from holdfast.certificates.guard.reading import question_of as read_by_verifier
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.questions import feature_question_of, feature_spec_of, question_of, spec_of
from tests.certificates import feature_issued
from tests.certificates.issued import KINDS, issued
from tests.certifier.specs import spec

_OF_THE_RUN = ("rate", "orders", "stopped", "pictured")
GUARDS = sorted(KINDS)
ENCODERS = sorted(feature_issued.KINDS)


def asked(kind: str) -> Any:
    return spec(**{name: value for name, value in KINDS[kind].items() if name not in _OF_THE_RUN})


@pytest.mark.parametrize("kind", GUARDS)
def test_the_verifier_reads_by_itself_the_question_that_was_answered(kind: str) -> None:
    certificate = issued(kind)
    assert read_by_verifier(certificate) == question_of(asked(kind))


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
