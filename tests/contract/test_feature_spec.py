"""What a request to an encoder means: statements, shares of alpha, rivals, and which bounds go with which stop."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest, FeatureTarget
from holdfast.contract.features.spec import MAX_VALUES, FeatureSpec, resolve_features
from holdfast.contract.models import EncoderDefaults
from holdfast.contract.problems import InvalidValueError
from tests.contract.asking import feature_requests
from tests.contract.served import ENCODER, HEAD, IMAGE, embedding, features

OTHER = ENCODER.model_copy(
    update={
        "defaults": EncoderDefaults(
            sigma=0.5, alpha=0.02, draws=600, selection_draws=7, reference="direction", embedding_draws=3,
            embedding_alpha=0.2,
        )
    }
)  # fmt: skip
ANY_TIME: dict[str, Any] = {"sampling": {"stop": "any_time"}}


def meant(asked: dict[str, Any]) -> FeatureSpec:
    return resolve_features(FeatureCertificationRequest.model_validate(asked), ENCODER)


def test_a_silent_request_is_the_models_own_operating_point() -> None:
    assert features(OTHER) == FeatureSpec(
        model="encoder", fingerprint="sha256:2", sigma=0.5, reference="direction", epsilons=(0.0, 0.25, 0.5, 1.0),
        cosine_floors=(0.5,), head=None, mean_bound="betting", alpha=0.02, draws=600, selection_draws=7, stop="fixed",
        tolerance=0.02, target=None, embedding=None, space=ENCODER.space, dimension=64,
    )  # fmt: skip


ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigma": ({"noise": {"sigma": 0.75}}, {"sigma": 0.75}),
    "a reference": ({"reference": "direction"}, {"reference": "direction"}),
    "a head": ({"prototypes": "objects"}, {"head": HEAD}),
    "a bound": ({"mean_bound": "kl"}, {"mean_bound": "kl"}),
    "alpha": ({"confidence": {"alpha": 0.3}}, {"alpha": 0.3}),
    "draws": ({"sampling": {"draws": 77}}, {"draws": 77}),
    "selection draws": ({"sampling": {"selection_draws": 9}}, {"selection_draws": 9}),
    "any time": ({"sampling": {"stop": "any_time", "tolerance": 0}}, {"stop": "any_time", "tolerance": 0.0}),
    "radii": ({"epsilons": [2, 1, 2]}, {"epsilons": (1.0, 2.0)}),
    "floors": ({"cosine_floors": [0.9, 0, 0.9]}, {"cosine_floors": (0.0, 0.9)}),
    "a target": (
        {**ANY_TIME, "target": {"epsilon": 0.5, "cosine": 0.25}},
        {"stop": "any_time", "target": FeatureTarget(epsilon=0.5, cosine=0.25)}),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_changes_this_and_nothing_else(name: str) -> None:
    more, changes = ASKED[name]
    assert features(**more) == features().model_copy(update=changes)


@pytest.mark.parametrize(
    ("more", "statements"),
    [
        ({}, ("feature_mean", "feature_cdf")),
        (ANY_TIME, ("feature_mean",)),
        ({"prototypes": "signs"}, ("feature_mean", "feature_cdf", "margin_mean", "margin_cdf", "clipped_cdf", "vote")),
        ({"prototypes": "objects", **ANY_TIME}, ("feature_mean", "margin_mean", "vote")),
    ],
)
def test_only_bounds_that_hold_at_any_time_share_alpha_with_stopping_early(
    more: dict[str, Any], statements: tuple[str, ...]
) -> None:
    assert features(**more).statements == statements


@given(feature_requests(ENCODER))
def test_a_curve_is_never_bounded_where_sampling_may_stop(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    assert (spec.stop == "any_time") == (not any(name.endswith("_cdf") for name in spec.statements))
    assert len(set(spec.statements)) == len(spec.statements)


@given(feature_requests(ENCODER))
def test_rivals_are_the_other_classes_and_votes_go_with_a_head(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    assert spec.rivals == (0 if spec.head is None else 2)
    assert ("vote" in spec.statements) == (spec.head is not None)
    assert spec.max_draws == spec.draws


@given(feature_requests(ENCODER))
def test_a_request_that_names_every_value_of_a_spec_means_that_spec(asked: dict[str, Any]) -> None:
    spec = meant(asked)
    again = {
        **asked,
        "noise": {"sigma": spec.sigma},
        "reference": spec.reference,
        "epsilons": spec.epsilons,
        "cosine_floors": spec.cosine_floors,
        "confidence": {"alpha": spec.alpha},
        "sampling": {name: getattr(spec, name) for name in ("draws", "selection_draws", "stop", "tolerance")},
    }
    assert meant(again) == spec
    assert FeatureSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize("asked", ["animals", "Objects", "objects ", "hateful"])
def test_a_head_that_the_model_has_not_is_refused_with_those_it_has(asked: str) -> None:
    with pytest.raises(InvalidValueError) as refusal:
        features(prototypes=asked)
    (error,) = refusal.value.errors
    assert error.path == "prototypes"
    assert error.message == "prototypes must be one of the heads of model encoder: objects, signs; name one"


def test_a_model_without_heads_says_so() -> None:
    with pytest.raises(InvalidValueError, match="heads of model encoder: none; name one"):
        features(ENCODER.model_copy(update={"heads": ()}), prototypes="objects")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({**ANY_TIME, "mean_bound": "kl"}, "mean_bound=kl holds at a fixed number of draws only; ask for betting"),
        ({**ANY_TIME, "mean_bound": "hoeffding"}, "mean_bound=hoeffding holds at a fixed number of draws only"),
        ({"target": {"epsilon": 1, "cosine": 0.5}}, "a target needs sampling.stop=any_time"),
        ({**ANY_TIME, "target": {"epsilon": 1}}, "a target without a cosine asks for the prediction; name prototypes"),
        ({**ANY_TIME, "target": {"epsilon": 0, "cosine": 0.5}}, "greater than 0"),
        ({**ANY_TIME, "target": {"epsilon": 1, "cosine": 1}}, "less than 1"),
    ],
)
def test_what_cannot_be_asked_together_is_refused_with_the_way_out(more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        features(**more)


def test_a_target_without_a_cosine_is_the_prediction() -> None:
    asked = features(**ANY_TIME, target={"epsilon": 1}, prototypes="objects")
    assert asked.target == FeatureTarget(epsilon=1, cosine=None)


def test_a_silent_embedding_is_the_mean_of_the_models_draws() -> None:
    asked = embedding(OTHER)
    assert asked.embedding is not None
    assert (asked.embedding.draws, asked.embedding.tokens) == (3, False)
    assert (asked.draws, asked.selection_draws) == (600, 1)
    assert [asked.alpha, asked.embedding.alpha] == pytest.approx([0.02, 0.18])
    assert (asked.reference, asked.mean_bound, asked.stop, asked.head) == ("clean", "betting", "fixed", None)
    assert (asked.cosine_floors, asked.statements, asked.rivals) == ((), ("feature_cdf",), 0)


def test_an_embedding_scores_a_thousand_draws_at_most_unless_more_are_asked_for() -> None:
    assert embedding().draws == 1000
    assert embedding(sampling={"score_draws": 5000}).draws == 5000
    asked = embedding(sampling={"draws": 20}).embedding
    assert asked is not None
    assert asked.draws == 20


@given(st.floats(1e-12, 0.5))
def test_an_embeddings_two_risks_are_never_more_than_its_alpha(alpha: float) -> None:
    asked = embedding(confidence={"alpha": alpha})
    assert asked.embedding is not None
    spent = Fraction(asked.alpha) + Fraction(asked.embedding.alpha)
    assert Fraction(alpha) * (1 - Fraction(1, 10**12)) <= spent <= Fraction(alpha)


@pytest.mark.parametrize(("tokens", "dimension"), [(False, 64), (True, 65 * 96)])
def test_the_dimension_is_that_of_what_is_answered(tokens: bool, dimension: int) -> None:
    assert embedding(tokens=tokens).dimension == dimension


@pytest.mark.parametrize(
    ("shape", "taken"), [((1024, 1024), True), ((1025, 1024), False), ((1, MAX_VALUES + 1), False)]
)
def test_an_answer_has_at_most_a_million_numbers(shape: tuple[int, int], taken: bool) -> None:
    large = ENCODER.model_copy(update={"token_shape": shape})
    assert embedding(large).dimension == 64
    if taken:
        assert embedding(large, tokens=True).dimension == MAX_VALUES
        return
    with pytest.raises(InvalidValueError) as refusal:
        embedding(large, tokens=True)
    (error,) = refusal.value.errors
    assert error.path == "tokens"
    assert error.message == f"{shape[0]} x {shape[1]} values must be at most 1048576; ask for the pooled feature"


@pytest.mark.parametrize("name", ["cosine_floors", "prototypes", "target", "mean_bound", "reference"])
def test_an_embedding_is_not_asked_for_what_it_does_not_answer(name: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        EmbeddingRequest.model_validate({"input": {"image": IMAGE}, name: None})
