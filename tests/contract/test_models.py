"""What describes a guard or an encoder: read as the kind that it is; nothing unknown, no number out of range."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.contract.models import (
    Cost,
    Defaults,
    EncoderDefaults,
    EncoderInfo,
    FalseFlag,
    GuardInfo,
    L0Defaults,
    Limits,
    ModelList,
    NoiseSpace,
    served_model,
)
from tests.contract.served import ENCODER, GUARD, HEAD, MEASURED, TABULAR

COST = Cost(prefill_s=0.1, position_s=0.01, closing=3, room=5)
SERVED = {"guard": GUARD, "tabular guard": TABULAR, "encoder": ENCODER}
EVERY = [
    GUARD,
    TABULAR,
    ENCODER,
    COST,
    GUARD.defaults,
    GUARD.limits,
    GUARD.space,
    MEASURED,
    HEAD,
    ENCODER.defaults,
]
IDS = [type(one).__name__ for one in EVERY]


@pytest.mark.parametrize("model", SERVED.values(), ids=SERVED)
def test_a_served_model_is_read_as_what_it_is(model: GuardInfo | EncoderInfo) -> None:
    assert served_model(model.model_dump(mode="json")) == model
    assert type(model).model_validate_json(model.model_dump_json()) == model
    assert ModelList.model_validate({"models": [model.model_dump()] * 2}).models == (model, model)


@pytest.mark.parametrize("kind", ["feature", "guard", "", None, 3])
def test_a_model_of_no_known_kind_is_refused(kind: object) -> None:
    with pytest.raises(ValidationError):
        served_model({**GUARD.model_dump(), "kind": kind})


@pytest.mark.parametrize(("model", "kind"), [(GUARD, "encoder"), (ENCODER, "hybrid"), (ENCODER, "tabular")])
def test_one_kind_is_not_read_as_the_other(model: GuardInfo | EncoderInfo, kind: str) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        served_model({**model.model_dump(), "kind": kind})


def test_a_description_without_a_kind_is_refused_for_it_could_be_either() -> None:
    plain = GUARD.model_dump()
    del plain["kind"]
    with pytest.raises(ValidationError, match="kind"):
        served_model(plain)


@pytest.mark.parametrize("one", EVERY, ids=IDS)
def test_a_description_takes_no_field_that_it_has_not_and_cannot_be_changed(one: Any) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(one).model_validate({**one.model_dump(), "colour": "blue"})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(one, next(iter(type(one).model_fields)), None)


@pytest.mark.parametrize("one", EVERY, ids=IDS)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_number_of_a_description_is_none(one: Any, number: float) -> None:
    for name, value in one:
        if isinstance(value, float):
            with pytest.raises(ValidationError):
                type(one).model_validate({**one.model_dump(), name: number})


REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (NoiseSpace, {"channels": 0, "height": 1, "width": 1}, "channels"),
    (NoiseSpace, {"channels": 3, "height": 1, "width": -1}, "width"),
    (NoiseSpace, {"channels": 3, "height": 1, "width": 1, "range": (0.0,)}, "range"),
    (FalseFlag, {**MEASURED.model_dump(), "rate_at_most": 1.1}, "rate_at_most"),
    (FalseFlag, {**MEASURED.model_dump(), "alpha": 0}, "alpha"),
    (FalseFlag, {**MEASURED.model_dump(), "scenes": 0}, "scenes"),
    (FalseFlag, {**MEASURED.model_dump(), "flagged": -1}, "flagged"),
    (L0Defaults, {"beta": 0, "tau": 0.5}, "beta"),
    (L0Defaults, {"beta": 0.5, "tau": 1}, "tau"),
    (Defaults, {"slots": -1}, "slots"),
    (Defaults, {"beta": 1.01}, "beta"),
    (Defaults, {"sigma": 0}, "sigma"),
    (Defaults, {"tau": 0}, "tau"),
    (Defaults, {"alpha": 0.51}, "alpha"),
    (Defaults, {"max_draws": 0}, "max_draws"),
    (Defaults, {"max_draws": 1_000_001}, "max_draws"),
    (Defaults, {"tails": 0}, "tails"),
    (Defaults, {"tails": 9}, "tails"),
    (Defaults, {"max_characters": -1}, "max_characters"),
    (Cost, {**COST.model_dump(), "prefill_s": -1e-9}, "prefill_s"),
    (Cost, {**COST.model_dump(), "position_s": -1e-9}, "position_s"),
    (Cost, {**COST.model_dump(), "closing": -1}, "closing"),
    (Cost, {**COST.model_dump(), "room": 0}, "room"),
    (GuardInfo, {**GUARD.model_dump(), "tie_band": -1e-9}, "tie_band"),
    (Defaults, {"tolerance": 1}, "tolerance"),
    (Defaults, {"token_kernel": "gaussian"}, "token_kernel"),
    (Limits, {"max_slots": -1, "max_text_bytes": 1}, "max_slots"),
    (Limits, {"max_slots": 0, "max_text_bytes": 0}, "max_text_bytes"),
    (Limits, {"max_slots": 0, "max_text_bytes": 1, "max_tokens": -1}, "max_tokens"),
    (GuardInfo, {**GUARD.model_dump(), "alphabets": ()}, "alphabets"),
    (GuardInfo, {**GUARD.model_dump(), "alphabets": (3, 1)}, "alphabets"),
    (GuardInfo, {**GUARD.model_dump(), "fields": ({"name": ""},)}, "fields"),
    (GuardInfo, {**GUARD.model_dump(), "kind": "encoder"}, "kind"),
    (EncoderDefaults, {"sigma": 0}, "sigma"),
    (EncoderDefaults, {"draws": 0}, "draws"),
    (EncoderDefaults, {"selection_draws": 0}, "selection_draws"),
    (EncoderDefaults, {"embedding_alpha": 0}, "embedding_alpha"),
    (EncoderDefaults, {"reference": "mean"}, "reference"),
    (EncoderInfo, {**ENCODER.model_dump(), "dimension": 0}, "dimension"),
    (EncoderInfo, {**ENCODER.model_dump(), "token_shape": (1, 2, 3)}, "token_shape"),
    (EncoderInfo, {**ENCODER.model_dump(), "denoiser": "median"}, "denoiser"),
    (type(HEAD), {**HEAD.model_dump(), "classes": ("one",)}, "classes"),
    (type(HEAD), {**HEAD.model_dump(), "clip": 0}, "clip"),
    (type(HEAD), {**HEAD.model_dump(), "clip": 1.5}, "clip"),
    (type(HEAD), {**HEAD.model_dump(), "version": ""}, "version"),
]


@pytest.mark.parametrize(("kind", "content", "name"), REFUSED)
def test_a_value_out_of_range_is_named(kind: type[Any], content: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        kind.model_validate(content)
    assert {error["loc"][0] for error in refusal.value.errors()} == {name}


@given(st.floats(1e-6, 1), st.floats(1e-6, 0.999), st.floats(1e-9, 0.5), st.integers(1, 10**6), st.floats(0, 0.999))
def test_an_operating_point_goes_over_the_wire_to_the_last_bit(
    beta: float, tau: float, alpha: float, draws: int, tolerance: float
) -> None:
    point = L0Defaults(beta=beta, tau=tau)
    sent = Defaults(beta=beta, tau=tau, alpha=alpha, max_draws=draws, tolerance=tolerance, l0=point)
    assert Defaults.model_validate_json(sent.model_dump_json()) == sent


@pytest.mark.parametrize("kind", [Defaults, EncoderDefaults])
def test_what_stands_where_a_request_is_silent_is_explained(kind: type[Defaults] | type[EncoderDefaults]) -> None:
    unexplained = {name for name, field in kind.model_fields.items() if not field.description}
    assert unexplained <= {"token_kernel"}
