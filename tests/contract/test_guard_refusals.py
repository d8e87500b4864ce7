"""What a guard does not take: each refusal has the field's path, and in words the value, the rule and the remedy."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contract.models import GuardInfo
from tests.contract.served import GIVEN, GUARD, IMAGE, TABULAR, UNMEASURED, refused, request, resolved

L0 = {"kind": "l0"}
NONE = {"kind": "none"}
APPEND = {"kind": "append"}
ABSORBS = GUARD.model_copy(update={"limits": GUARD.limits.model_copy(update={"token_kernels": ("absorbing",)})})
TEXT_ALONE = GUARD.model_copy(update={"text_alone": True})
MARKER = "hateful"


def threat(text: dict[str, Any], image: str = "l2") -> dict[str, Any]:
    return {"text": text, "image": {"norm": image}}


def text(content: str, suffix: str = "") -> dict[str, Any]:
    return {"text": content, "suffix": suffix, "image": IMAGE}


HYBRID: dict[str, tuple[GuardInfo, dict[str, Any], dict[str, str]]] = {
    "fields": (
        GUARD, {"input": {"fields": GIVEN}}, {"input": "model guard is hybrid; give text and image"}),
    "no image": (
        GUARD, {"input": {"text": "a"}},
        {"input.image": "model guard does not answer a text without an image; give one"}),
    "no image for the image threat": (
        TEXT_ALONE, {"input": {"text": "a"}},
        {"input.image": "the image threat needs an image; give one, or ask for threat.image.norm=none"}),
    "a long text": (
        GUARD, {"input": text("é" * 1001)},
        {"input.text": "text and suffix of 2002 bytes must be at most 2000 bytes for model guard; shorten it"}),
    "a long suffix": (
        GUARD, {"input": text("x" * 1000, "y" * 1001)},
        {"input.text": "text and suffix of 2001 bytes must be at most 2000 bytes for model guard; shorten it"}),
    "a suffix of l0": (
        GUARD, {"input": text("a", "b"), "threat": threat(L0)},
        {"input.suffix": "a suffix belongs to the suffix threat; put it into the text or drop it"}),
    "a suffix of none": (
        GUARD, {"input": text("a", "b"), "threat": threat(NONE)},
        {"input.suffix": "a suffix belongs to the suffix threat; put it into the text or drop it"}),
    "slots over the limit": (
        GUARD, {"threat": threat({"slots": 17})},
        {"threat.text.slots": "slots=17 must be at most 16 for model guard; ask for fewer"}),
    "slots of l0": (
        GUARD, {"threat": threat({**L0, "slots": 3})}, {"threat.text.slots": "the l0 threat has no slots; drop them"}),
    "slots of none": (
        GUARD, {"threat": threat({**NONE, "slots": 3})},
        {"threat.text.slots": "the none threat has no slots; drop them"}),
    "a budget over the limit": (
        GUARD, {"threat": threat({**L0, "max_tokens": 7})},
        {"threat.text.max_tokens": "a budget of 7 tokens must be at most 6; lower it"}),
    "a budget below the slots": (
        GUARD, {"threat": threat({"slots": 4, "max_tokens": 3})},
        {"threat.text.max_tokens": "the suffix threat's budget is its slots; drop max_tokens"}),
    "a budget of none": (
        GUARD, {"threat": threat({**NONE, "max_tokens": 2})},
        {"threat.text.max_tokens": "max_tokens=2 must be 0 without a text threat; drop it"}),
    "a target over the slots": (
        GUARD, {"target": {"tokens": 9}}, {"target.tokens": "a budget of 9 tokens must be at most 8; lower it"}),
    "a target over the l0 limit": (
        GUARD, {"target": {"tokens": 7}, "threat": threat(L0)},
        {"target.tokens": "a budget of 7 tokens must be at most 6; lower it"}),
    "a target of tokens without a text threat": (
        GUARD, {"target": {"tokens": 1}, "threat": threat(NONE)},
        {"target.tokens": "tokens=1 must be 0 without a text threat; lower it"}),
    "a target apart from the budget": (
        GUARD, {"target": {"tokens": 2}, "threat": threat({**L0, "max_tokens": 3})},
        {"threat.text.max_tokens": "max_tokens=3 must be the target's 2 tokens; drop it"}),
    "a target of a radius without an image threat": (
        GUARD, {"target": {"tokens": 2, "epsilon": 0.5}, "threat": threat({}, "none")},
        {"target.epsilon": "epsilon=0.5 must be 0 without an image threat; drop it"}),
    "image noise without an image threat": (
        GUARD, {"noise": {"sigma": 0.5}, "threat": threat({}, "none")},
        {"noise.sigma": "sigma=0.5 has no use without an image threat; drop it"}),
    "no attacker": (
        GUARD, {"threat": threat(NONE, "none")},
        {"threat": "an attacker who may change nothing needs no certificate; allow text or image"}),
    "no operating point": (
        UNMEASURED, {"threat": threat(L0)},
        {"noise.beta": "model guard has no measured default for noise on the text; give noise.beta",
         "decision.tau": "model guard has no measured default for noise on the text; give decision.tau"}),
    "half an operating point": (
        UNMEASURED, {"threat": threat(L0), "noise": {"beta": 0.5}},
        {"decision.tau": "model guard has no measured default for noise on the text; give decision.tau"}),
    "a kernel that is not served": (
        ABSORBS, {},
        {"noise.token_kernel": "token_kernel=uniform must be one of absorbing for model guard; ask for one"}),
    "a rate over that of the alphabet": (
        GUARD, {"noise": {"beta": 0.995}},
        {"noise.beta": "beta=0.995 must be at most (V-1)/V=0.9900990099009901 for an alphabet of 101; lower beta or use"
                       " the absorbing kernel"}),
    "a guard per budget of l0": (
        GUARD, {"noise": {"scope": "per_budget"}, "threat": threat(L0)},
        {"noise.scope": "per_budget belongs to the suffix threat; ask for shared"}),
    "tails without noise on the text": (
        GUARD, {"sampling": {"tails": 2}, "threat": threat(NONE)},
        {"sampling.tails": "tails=2 must be 1 without noise on the text; drop it"}),
    "erase-and-check of the suffix threat": (
        GUARD, {"method": "erase_and_check"},
        {"method": "erase_and_check certifies the append threat, not suffix; ask for threat.text.kind=append"}),
    "another method of the append threat": (
        GUARD, {"method": "joint", "threat": threat(APPEND)},
        {"method": "method=joint does not certify the append threat; ask for erase_and_check or auto"}),
    "strata of l0": (
        GUARD, {"method": "stratified", "threat": threat(L0)},
        {"method": "stratified has no strata under the l0 threat; ask for joint"}),
    "strata of a guard per budget": (
        GUARD, {"method": "stratified", "noise": {"scope": "per_budget"}},
        {"method": "stratified has no strata under scope=per_budget; ask for joint"}),
    "the Safe verdict of the append threat": (
        GUARD, {"decision": {"verdict": "safe"}, "threat": threat(APPEND)},
        {"decision.verdict": "the append threat certifies Unsafe alone; ask for unsafe"}),
    "characters of the suffix threat": (
        GUARD, {"threat": threat({"max_characters": 5})},
        {"threat.text.max_characters": "max_characters belongs to append, not to suffix; drop it"}),
    "tokens of the append threat": (
        GUARD, {"threat": threat({**APPEND, "max_tokens": 5})},
        {"threat.text.max_tokens": "the append threat counts code points; give max_characters instead"}),
    "a target of the append threat": (
        GUARD, {"threat": threat(APPEND), "target": {"tokens": 3}},
        {"target": "the append threat's frontier is one number for all budgets; drop the target"}),
    "the append threat without an image threat": (
        GUARD, {"threat": threat(APPEND, "none")},
        {"threat.image.norm": "the append threat is certified under image noise alone; allow l2"}),
    "all at once": (
        GUARD, {"threat": threat({**NONE, "slots": 1, "max_tokens": 2}, "none"), "noise": {"sigma": 0.5}},
        {"threat.text.slots": "the none threat has no slots; drop them",
         "threat.text.max_tokens": "max_tokens=2 must be 0 without a text threat; drop it",
         "threat": "an attacker who may change nothing needs no certificate; allow text or image",
         "noise.sigma": "sigma=0.5 has no use without an image threat; drop it"}),
}  # fmt: skip

FIELDS: dict[str, tuple[GuardInfo, dict[str, Any], dict[str, str]]] = {
    "text": (TABULAR, {"input": text("a")}, {"input": "model table is tabular; give fields"}),
    "a field too few": (
        TABULAR, {"input": {"fields": {"job": "nurse", "age": 3}}},
        {"input.fields.home": "field home is missing; give it a value"}),
    "a field too many": (
        TABULAR, {"input": {"fields": {**GIVEN, MARKER: 1}}},
        {"input.fields": "1 fields are not the model's; see GET /v1/models/table"}),
    "no value of the field": (
        TABULAR, {"input": {"fields": {**GIVEN, "job": MARKER}}},
        {"input.fields.job": "field job must be one of: teacher, doctor, nurse; send one"}),
    "a number for a category": (
        TABULAR, {"input": {"fields": {**GIVEN, "home": 1}}},
        {"input.fields.home": "field home must be one of: owned, rented; send one"}),
    "text for a number": (
        TABULAR, {"input": {"fields": {**GIVEN, "age": "3"}}},
        {"input.fields.age": "field age must be a number; send it as one"}),
    "a suffix threat": (
        TABULAR, {"threat": threat({"kind": "suffix"})},
        {"threat.text.kind": "model table is tabular and has no text; ask for l0 or none"}),
    "slots": (
        TABULAR, {"threat": threat({"slots": 3})}, {"threat.text.slots": "the l0 threat has no slots; drop them"}),
    "a budget over the fields": (
        TABULAR, {"threat": threat({"max_tokens": 4})},
        {"threat.text.max_tokens": "a budget of 4 tokens must be at most 3; lower it"}),
    "a target over the fields": (
        TABULAR, {"target": {"tokens": 4}}, {"target.tokens": "a budget of 4 tokens must be at most 3; lower it"}),
    "a rate over that of the smallest field": (
        TABULAR, {"noise": {"beta": 0.6}},
        {"noise.beta": "beta=0.6 must be at most (V-1)/V=0.5 for an alphabet of 2; lower beta or use the absorbing"
                       " kernel"}),
}  # fmt: skip


@pytest.mark.parametrize("name", HYBRID)
def test_a_request_that_makes_no_sense_is_told_where_and_why(name: str) -> None:
    model, more, told = HYBRID[name]
    assert refused(model, **more) == told


@pytest.mark.parametrize("name", FIELDS)
def test_fields_that_do_not_fit_are_told_where_and_why(name: str) -> None:
    model, more, told = FIELDS[name]
    found = refused(model, **more)
    assert found == told
    assert MARKER not in str(found)


@pytest.mark.parametrize(("model", "more", "told"), [*HYBRID.values(), *FIELDS.values()], ids=[*HYBRID, *FIELDS])
def test_every_refusal_ends_with_its_remedy(model: GuardInfo, more: dict[str, Any], told: dict[str, str]) -> None:
    assert all(re.fullmatch(r"[^;]+; [a-z][^;]+", message) for message in refused(model, **more).values())


AT_THE_LIMIT: list[tuple[GuardInfo, dict[str, Any]]] = [
    (GUARD, {"input": text("é" * 1000)}),
    (TEXT_ALONE, {"input": {"text": "a"}, "threat": threat({}, "none")}),
    (TEXT_ALONE, {"input": text("a")}),
    (GUARD, {"threat": threat({"slots": 16})}),
    (GUARD, {"threat": threat({**L0, "max_tokens": 6})}),
    (GUARD, {"threat": threat({**NONE, "max_tokens": 0})}),
    (GUARD, {"threat": threat(NONE), "target": {"tokens": 0, "epsilon": 1}}),
    (GUARD, {"threat": threat(NONE), "noise": {"beta": 1}}),  # no token is attacked: the rate says nothing
    (GUARD, {"threat": threat({}, "none"), "target": {"tokens": 8, "epsilon": 0}}),
    (GUARD, {"target": {"tokens": 8}, "sampling": {"max_draws": 1}}),
    (GUARD, {"target": {"tokens": 2}, "threat": threat({**L0, "max_tokens": 2})}),
    (GUARD, {"noise": {"beta": 100 / 101}}),
    (GUARD, {"noise": {"beta": 1, "token_kernel": "absorbing"}}),
    (GUARD, {"noise": {"beta": 0.9}, "sampling": {"tails": 8}}),
    (GUARD, {"threat": threat(NONE), "sampling": {"tails": 1}}),
    (GUARD, {"threat": threat({**APPEND, "max_characters": 1024})}),
    (GUARD, {"threat": threat(APPEND), "method": "erase_and_check", "decision": {"verdict": "unsafe"}}),
    (UNMEASURED, {"threat": threat(L0), "noise": {"beta": 0.5}, "decision": {"tau": 0.5}}),
    (ABSORBS, {"noise": {"token_kernel": "absorbing"}}),
    (TABULAR, {"threat": threat({"max_tokens": 3})}),
    (TABULAR, {"noise": {"beta": 0.5}}),
    (TABULAR, {"input": {"fields": {**GIVEN, "age": -1e300}}}),
]


@pytest.mark.parametrize(("model", "more"), AT_THE_LIMIT)
def test_the_limit_itself_is_taken(model: GuardInfo, more: dict[str, Any]) -> None:
    assert resolved(model, **more).model == model.name


@given(st.integers(1, 1024), st.integers(1, 1024))
def test_slots_are_taken_up_to_the_models_limit_and_no_further(slots: int, limit: int) -> None:
    model = GUARD.model_copy(update={"limits": GUARD.limits.model_copy(update={"max_slots": limit})})
    more = {"threat": threat({"slots": slots})}
    if slots <= limit:
        assert resolved(model, **more).slots == slots
    else:
        assert set(refused(model, **more)) == {"threat.text.slots"}


@given(st.integers(2, 10**6), st.floats(1e-6, 1))
def test_the_uniform_kernel_is_served_up_to_the_rate_at_which_every_token_is_drawn_anew(size: int, beta: float) -> None:
    model = GUARD.model_copy(update={"alphabets": (size,)})
    if beta <= (size - 1) / size:
        assert resolved(model, noise={"beta": beta}).beta == beta
    else:
        assert set(refused(model, noise={"beta": beta})) == {"noise.beta"}


@given(st.text(min_size=1, max_size=100).filter(lambda drawn: drawn.strip() and "\x00" not in drawn))
def test_no_refusal_repeats_the_text(content: str) -> None:
    marked = f"{MARKER} {content}"
    told = refused(input=text(marked, marked), threat=threat({**NONE, "slots": 3}, "none"))
    assert MARKER not in str(told)


def test_only_twenty_values_of_a_field_are_listed() -> None:
    job = TABULAR.fields[1].model_copy(update={"values": tuple(f"job{number}" for number in range(100))})
    model = TABULAR.model_copy(update={"fields": (TABULAR.fields[0], job, TABULAR.fields[2])})
    told = refused(model)["input.fields.job"]
    assert told.count("job") == 1 + 20
    assert request(model)["input"]["fields"]["job"] == "teacher"
