"""What a request to a guard means: what is asked stands, what is not is the model's, and both are the same twice."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contract.guard.requests import CertificationRequest, Target
from holdfast.contract.guard.spec import GuardSpec, resolve
from holdfast.contract.models import Cost, GuardInfo
from tests.contract.asking import guard_requests
from tests.contract.served import GUARD, MEASURED, MEASURED_L0, TABULAR, UNMEASURED, request, resolved

NO_TEXT: dict[str, Any] = {"threat": {"text": {"kind": "none"}}}
NO_IMAGE: dict[str, Any] = {"threat": {"image": {"norm": "none"}}}
L0: dict[str, Any] = {"threat": {"text": {"kind": "l0"}}}
APPEND: dict[str, Any] = {"threat": {"text": {"kind": "append"}}}


def test_a_silent_request_is_the_models_own_operating_point() -> None:
    assert resolved() == GuardSpec(
        model="guard", fingerprint="sha256:0", kind="hybrid", text="suffix", slots=8, max_tokens=8,
        token_kernel="uniform", alphabets=(101,), beta=0.25, sigma=0.3, scope="shared", tau=0.01, verdict="both",
        alpha=0.02, method="auto", max_draws=900, tails=3, stop="any_time", tolerance=0.04, target=None,
        epsilons=(0.0, 0.25, 0.5, 1.0), space=GUARD.space, tie_band=1e-5, false_flag=MEASURED,
        notes=("trained on drawings",),
    )  # fmt: skip


ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "slots": ({"threat": {"text": {"slots": 5}}}, {"slots": 5, "max_tokens": 5}),
    "a budget that is the slots": ({"threat": {"text": {"slots": 5, "max_tokens": 5}}}, {"slots": 5, "max_tokens": 5}),
    "a kernel": ({"noise": {"token_kernel": "absorbing"}}, {"token_kernel": "absorbing"}),
    "beta": ({"noise": {"beta": 0.5}}, {"beta": 0.5}),
    "sigma": ({"noise": {"sigma": 0.7}}, {"sigma": 0.7}),
    "a guard per budget": ({"noise": {"scope": "per_budget"}}, {"scope": "per_budget"}),
    "tau": ({"decision": {"tau": 0.4}}, {"tau": 0.4}),
    "a verdict": ({"decision": {"verdict": "safe"}}, {"verdict": "safe"}),
    "alpha": ({"confidence": {"alpha": 0.1}}, {"alpha": 0.1}),
    "a method": ({"method": "stratified"}, {"method": "stratified"}),
    "draws": ({"sampling": {"max_draws": 50}}, {"max_draws": 50}),
    "tails": ({"sampling": {"tails": 5}}, {"tails": 5}),
    "a fixed number of draws": ({"sampling": {"stop": "fixed"}}, {"stop": "fixed"}),
    "no tolerance": ({"sampling": {"tolerance": 0}}, {"tolerance": 0.0}),
    "a target": ({"target": {"tokens": 3, "epsilon": 0.5}}, {"target": Target(tokens=3, epsilon=0.5), "max_tokens": 3}),
    "a target of no token": ({"target": {"tokens": 0}}, {"target": Target(tokens=0), "max_tokens": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_changes_this_and_nothing_else(name: str) -> None:
    more, changes = ASKED[name]
    asked = resolved(**more)
    unmeasured = {"slots", "beta", "sigma", "tau", "token_kernel", "scope"} & set(changes)
    expected = {**changes, "false_flag": None if unmeasured else MEASURED}
    assert asked == resolved().model_copy(update=expected)


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        (L0, {"text": "l0", "slots": 0, "max_tokens": 3, "beta": 0.6, "tau": 0.2, "false_flag": MEASURED_L0}),
        ({"threat": {"text": {"kind": "l0", "max_tokens": 0}}},
         {"text": "l0", "slots": 0, "max_tokens": 0, "beta": 0.6, "tau": 0.2, "false_flag": MEASURED_L0}),
        ({**L0, "noise": {"beta": 0.5}},
         {"text": "l0", "slots": 0, "max_tokens": 3, "beta": 0.5, "tau": 0.2, "false_flag": None}),
        (NO_TEXT, {"text": "none", "slots": 0, "max_tokens": 0, "tails": 1, "false_flag": None}),
        (APPEND, {"text": "append", "slots": 0, "max_tokens": 12, "tails": 1, "verdict": "unsafe", "false_flag": None}),
        ({"threat": {"text": {"kind": "append", "max_characters": 3}}},
         {"text": "append", "slots": 0, "max_tokens": 3, "tails": 1, "verdict": "unsafe", "false_flag": None}),
        (NO_IMAGE, {"sigma": 0.0, "epsilons": (0.0,), "false_flag": None}),
        ({**NO_IMAGE, "epsilons": [0.5]}, {"sigma": 0.0, "epsilons": (0.0,), "false_flag": None}),
    ],
)  # fmt: skip
def test_a_threat_brings_its_own_operating_point_and_positions(more: dict[str, Any], changes: dict[str, Any]) -> None:
    assert resolved(**more) == resolved().model_copy(update=changes)


def test_the_l0_budget_is_three_unless_the_model_takes_fewer() -> None:
    few = GUARD.model_copy(update={"limits": GUARD.limits.model_copy(update={"max_tokens": 2})})
    assert (resolved(**L0).max_tokens, resolved(few, **L0).max_tokens) == (3, 2)


def test_an_l0_request_to_a_guard_that_was_not_measured_so_is_taken_at_its_word() -> None:
    asked = resolved(UNMEASURED, **L0, noise={"beta": 0.4}, decision={"tau": 0.3})
    assert (asked.beta, asked.tau, asked.false_flag) == (0.4, 0.3, None)


def test_a_tabular_input_is_attacked_in_its_categorical_fields() -> None:
    asked = resolved(TABULAR)
    assert (asked.kind, asked.text, asked.slots, asked.alphabets) == ("tabular", "l0", 3, (3, 2, 7))
    assert (asked.max_tokens, asked.beta, asked.tau) == (2, 0.25, 0.01)  # not the point of l0 noise on a text
    assert asked.false_flag == MEASURED


def test_a_tabular_budget_is_two_fields_unless_there_are_fewer() -> None:
    one = TABULAR.model_copy(update={"alphabets": (3,), "fields": TABULAR.fields[:2]})
    assert resolved(one, input={"fields": {"age": 3, "job": "nurse"}}).max_tokens == 1


@pytest.mark.parametrize(
    "more", [{"threat": {"text": {"max_tokens": 1}}}, {"target": {"tokens": 1}}, {"method": "neyman_pearson"}]
)
def test_what_was_measured_holds_whatever_budget_target_or_method_is_asked(more: dict[str, Any]) -> None:
    assert resolved(TABULAR, **more).false_flag == MEASURED


@pytest.mark.parametrize(
    "more",
    [
        NO_TEXT, NO_IMAGE, {"noise": {"beta": 0.26}}, {"noise": {"sigma": 0.31}}, {"decision": {"tau": 0.011}},
        {"noise": {"token_kernel": "absorbing"}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [GUARD, TABULAR], ids=["hybrid", "tabular"])
def test_a_false_flag_bound_is_not_stated_of_another_smoothed_guard(model: GuardInfo, more: dict[str, Any]) -> None:
    assert resolved(model).false_flag is not None
    assert resolved(model, **more).false_flag is None


def test_epsilons_are_ascending_and_distinct() -> None:
    assert resolved(epsilons=[2, 0.5, 2.0, 0]).epsilons == (0.0, 0.5, 2.0)
    assert resolved(epsilons=[]).epsilons == ()


def test_the_input_stays_out_of_the_spec() -> None:
    asked = resolved(input={"text": "a hateful sentence", "suffix": "hateful tail", "image": {"data": "aGF0ZWZ1bA=="}})
    assert asked == resolved()
    assert "hateful" not in asked.model_dump_json()


def asking_for(spec: GuardSpec) -> dict[str, Any]:
    """A request that names every value of the spec."""
    text: dict[str, Any] = {"kind": spec.text}
    if spec.text == "suffix":
        text["slots"] = spec.slots
    elif spec.text == "l0":
        text["max_tokens"] = spec.max_tokens
    elif spec.text == "append":
        text["max_characters"] = spec.max_tokens
    noise = {"token_kernel": spec.token_kernel, "beta": spec.beta, "scope": spec.scope}
    return {
        "threat": {"text": text, "image": {"norm": "l2" if spec.sigma else "none"}},
        "noise": {**noise, "sigma": spec.sigma} if spec.sigma else noise,
        "decision": {"tau": spec.tau, "verdict": spec.verdict},
        "confidence": {"alpha": spec.alpha},
        "method": spec.method,
        "sampling": {
            "max_draws": spec.max_draws,
            "tails": spec.tails,
            "stop": spec.stop,
            "tolerance": spec.tolerance,
        },
        "target": None if spec.target is None else spec.target.model_dump(),
        "epsilons": spec.epsilons,
    }


@given(guard_requests(GUARD) | guard_requests(TABULAR))
def test_a_request_that_names_every_value_of_a_spec_means_that_spec(asked: dict[str, Any]) -> None:
    model = TABULAR if asked["model"] == "table" else GUARD
    spec = resolve(CertificationRequest.model_validate(asked), model)
    assert resolve(CertificationRequest.model_validate(request(model, **asking_for(spec))), model) == spec


@given(guard_requests(GUARD) | guard_requests(TABULAR))
def test_a_spec_is_read_back_from_the_queue_as_it_was(asked: dict[str, Any]) -> None:
    spec = resolve(CertificationRequest.model_validate(asked), TABULAR if asked["model"] == "table" else GUARD)
    assert GuardSpec.model_validate_json(spec.model_dump_json()) == spec


@given(guard_requests(GUARD), st.data())
def test_what_a_request_says_of_one_value_does_not_change_another(asked: dict[str, Any], data: st.DataObject) -> None:
    free = {"confidence": {"alpha": 0.07}, "sampling": {"max_draws": 5000}, "epsilons": [0.0, 0.125]}
    name = data.draw(st.sampled_from(sorted(free)))
    before, after = (
        resolve(CertificationRequest.model_validate(one), GUARD) for one in (asked, {**asked, name: free[name]})
    )
    touched = {
        "confidence": {"alpha"},
        "sampling": {"max_draws", "tails", "stop", "tolerance"},
        "epsilons": {"epsilons"},
    }
    assert before.model_dump(exclude=touched[name]) == after.model_dump(exclude=touched[name])


@pytest.mark.parametrize(
    ("more", "tails", "slots"),
    [({}, 3 * 4, 8), ({"sampling": {"tails": 1}}, 4, 8), ({"target": {"tokens": 3}}, 3, 8), (NO_TEXT, 1, 0)],
)
def test_what_a_draw_costs_follows_from_what_was_measured(more: dict[str, Any], tails: int, slots: int) -> None:
    cost = Cost(prefill_s=0.004, position_s=0.0001, closing=2, room=48)
    asked = resolved(GUARD.model_copy(update={"cost": cost}), **more)
    assert asked.draw_s == pytest.approx(0.004 + tails * (slots + 2) * 0.0001)
    assert asked.room == 48


def test_masks_matter_where_any_position_may_be_rewritten_and_only_there() -> None:
    threats: tuple[dict[str, Any], ...] = ({}, NO_TEXT, NO_IMAGE, APPEND, L0)
    assert [resolved(**more).masks_matter for more in threats] == [False, False, False, False, True]
    assert resolved(TABULAR).masks_matter
    assert not resolved(TABULAR, **NO_TEXT).masks_matter
