"""How strictly requests are read: unknown fields, numbers that are none, sizes; and no refusal repeats the input."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from holdfast.contract.base import MAX_FIELDS, Strict
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.guard.requests import CertificationRequest
from tests.contract.asking import feature_requests, guard_requests
from tests.contract.served import ENCODER, GIVEN, GUARD, IMAGE, TABULAR

KINDS: dict[str, tuple[type[Strict], dict[str, Any]]] = {
    "certification": (CertificationRequest, {"input": {"text": "a text", "image": IMAGE}}),
    "certification of a text alone": (CertificationRequest, {"input": {"text": "a text"}}),
    "tabular certification": (CertificationRequest, {"input": {"fields": GIVEN}}),
    "feature certification": (FeatureCertificationRequest, {"input": {"image": IMAGE}}),
    "embedding": (EmbeddingRequest, {"input": {"image": IMAGE}}),
}
MARKER = "hateful"
NO_NUMBERS = [float("nan"), float("inf"), float("-inf")]


def changed(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """The content with this value at a dotted path."""
    name, _, rest = path.partition(".")
    return {**content, name: changed(content.get(name, {}), rest, value) if rest else value}


def errors_of(kind: type[Strict], content: object) -> list[tuple[str, str]]:
    """Path and type of each error; none where the content is taken."""
    try:
        kind.model_validate(content)
    except ValidationError as refusal:
        return [(".".join(map(str, error["loc"])), error["type"]) for error in refusal.errors()]
    return []


def told(kind: type[Strict], content: object) -> str:
    """Every word of the refusal, if it is one."""
    try:
        kind.model_validate(content)
    except ValidationError as refusal:
        return f"{refusal} {[error['msg'] for error in refusal.errors()]}"
    return ""


def objects(kind: type[Strict], path: str = "") -> list[str]:
    """The paths of the objects of a request, itself first."""
    found = [path]
    for name, field in kind.model_fields.items():
        annotation: Any = field.annotation
        for inner in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, Strict):
                found += objects(inner, f"{path}{name}.")
    return found


EVERY_OBJECT = [(name, path) for name, (kind, _) in KINDS.items() for path in objects(kind)]


@pytest.mark.parametrize("name", KINDS)
def test_only_the_input_must_be_given(name: str) -> None:
    kind, content = KINDS[name]
    assert errors_of(kind, content) == []
    assert errors_of(kind, {}) == [("input", "missing")]
    nothing: list[object] = [[], "text", 3, None]
    assert all([error for _, error in errors_of(kind, what)] == ["model_type"] for what in nothing)


@pytest.mark.parametrize(("name", "path"), EVERY_OBJECT)
def test_no_object_takes_a_field_that_it_has_not(name: str, path: str) -> None:
    kind, content = KINDS[name]
    assert (f"{path}{MARKER}", "extra_forbidden") in errors_of(kind, changed(content, f"{path}{MARKER}", MARKER))


@pytest.mark.parametrize(("name", "path"), EVERY_OBJECT)
def test_an_object_of_very_many_fields_costs_one_error(name: str, path: str) -> None:
    kind, content = KINDS[name]
    for number in range(MAX_FIELDS + 1):
        content = changed(content, f"{path}{MARKER}{number}", number)
    found = [error for error in errors_of(kind, content) if error[0] == path.rstrip(".")]
    assert found == [(path.rstrip("."), "value_error")]
    assert len(errors_of(kind, content)) <= 2


NUMBERS_OF = {
    "certification": [
        "noise.beta", "noise.sigma", "decision.tau", "confidence.alpha", "sampling.max_draws", "sampling.tails",
        "sampling.tolerance", "threat.text.max_characters",
        "target.epsilon", "target.tokens", "threat.text.slots", "threat.text.max_tokens",
    ],
    "feature certification": [
        "noise.sigma", "confidence.alpha", "sampling.draws", "sampling.selection_draws", "sampling.tolerance",
        "target.epsilon", "target.cosine",
    ],
    "embedding": ["noise.sigma", "sampling.draws", "sampling.score_draws", "confidence.alpha"],
}  # fmt: skip
NUMBERS = [(name, path) for name, paths in NUMBERS_OF.items() for path in paths]


@pytest.mark.parametrize(("name", "path"), NUMBERS)
@pytest.mark.parametrize("value", [*NO_NUMBERS, 10**400, -1, -0.5, "many", [], {}, 1e300])
def test_a_value_that_is_no_number_in_range_is_refused_at_its_path(name: str, path: str, value: object) -> None:
    kind, content = KINDS[name]
    assert path in [at for at, _ in errors_of(kind, changed(content, path, value))]


@pytest.mark.parametrize("name", ["certification", "feature certification", "embedding"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, -1, 1.1e6, "far", None])
def test_radii_are_numbers_from_zero_to_a_million_and_the_first_that_is_none_is_named(name: str, value: object) -> None:
    kind, content = KINDS[name]
    assert [at for at, _ in errors_of(kind, {**content, "epsilons": [0, 1e6, value, value]})] == ["epsilons.2"]


LIMITS: list[tuple[str, str, Any, Any]] = [
    ("certification", "input.text", "x" * 100_000, "x" * 100_001),
    ("certification", "input.text", "é" * 100_000, "é" * 100_001),
    ("certification", "input.suffix", "x" * 10_000, "x" * 10_001),
    ("certification", "input.text", "\ufeff.", " \t\n\u2003\u00a0"),
    ("certification", "input.text", "a\x01b", "a\x00b"),
    ("certification", "input.suffix", " \n", "\x00"),
    ("certification", "input.text", "\U0001f600", "\ud83d"),
    ("certification", "model", "m" * 200, "m" * 201),
    ("certification", "model", "m", ""),
    ("certification", "epsilons", [0] * 64, [0] * 65),
    ("certification", "threat.text.slots", 1024, 1025),
    ("certification", "threat.text.slots", 1, 0),
    ("certification", "threat.text.max_tokens", 1024, 1025),
    ("certification", "threat.text.kind", "none", "all"),
    ("certification", "threat.image.norm", "l2", "linf"),
    ("certification", "noise.sigma", 1e-6, 0.9e-6),
    ("certification", "noise.sigma", 100, 100.1),
    ("certification", "noise.beta", 1, 1.0000001),
    ("certification", "noise.beta", 5e-324, 0),
    ("certification", "noise.scope", "per_budget", "per_token"),
    ("certification", "decision.tau", 0.9999999, 1),
    ("certification", "decision.tau", 5e-324, 0),
    ("certification", "decision.verdict", "both", "abstained"),
    ("certification", "confidence.alpha", 0.5, 0.5000001),
    ("certification", "confidence.alpha", 1e-12, 0.9e-12),
    ("certification", "sampling.max_draws", 1_000_000, 1_000_001),
    ("certification", "sampling.max_draws", 1, 0),
    ("certification", "sampling.tails", 8, 9),
    ("certification", "sampling.tails", 1, 0),
    ("certification", "threat.text.max_characters", 1024, 1025),
    ("certification", "threat.text.max_characters", 0, -1),
    ("certification", "sampling.max_draws", 10.0, 10.5),
    ("certification", "sampling.tolerance", 0, 1),
    ("certification", "target", {"tokens": 0}, {"epsilon": 0}),
    ("certification", "target", {"tokens": 1024, "epsilon": 1e6}, {"tokens": 1025, "epsilon": 1e6}),
    ("certification", "method", "neyman_pearson", "neyman-pearson"),
    ("tabular certification", "input.fields", {"f": 1}, {}),
    ("tabular certification", "input.fields", {f"f{n}": 0 for n in range(100)}, {f"f{n}": 0 for n in range(101)}),
    ("tabular certification", "input.fields", {"f": -1e308}, {"f": float("nan")}),
    ("tabular certification", "input.fields", {"f": ""}, {"f": None}),
    ("feature certification", "cosine_floors", [0, 0.999], [0, 1]),
    ("feature certification", "cosine_floors", [0] * 64, [0] * 65),
    ("feature certification", "prototypes", "h" * 200, "h" * 201),
    ("feature certification", "prototypes", None, ""),
    ("feature certification", "reference", "direction", "mean"),
    ("feature certification", "mean_bound", "kl", "normal"),
    ("feature certification", "sampling.draws", 1_000_000, 1_000_001),
    ("feature certification", "sampling.selection_draws", 100_000, 100_001),
    ("embedding", "sampling.draws", 1024, 1025),
    ("embedding", "sampling.score_draws", 1_000_000, 1_000_001),
    ("embedding", "input.image.data", "A", ""),
]


@pytest.mark.parametrize(("name", "path", "taken", "refused"), LIMITS)
def test_the_limit_is_taken_and_what_is_just_over_it_is_not(name: str, path: str, taken: Any, refused: Any) -> None:
    kind, content = KINDS[name]
    assert errors_of(kind, changed(content, path, taken)) == []
    found = errors_of(kind, changed(content, path, refused))
    assert any(at == path or at.startswith(f"{path}.") or path.startswith(f"{at}.") for at, _ in found)


@pytest.mark.parametrize(
    "given_input",
    [
        {}, {"text": None}, {"image": IMAGE}, {"suffix": "tail"}, {"fields": GIVEN, "text": "a"},
        {"fields": GIVEN, "image": IMAGE}, {"fields": GIVEN, "suffix": "tail"},
        {"fields": GIVEN, "text": "a", "image": IMAGE}, {"text": None, "image": IMAGE},
    ],
)  # fmt: skip
def test_an_input_is_a_text_with_or_without_an_image_or_fields_and_nothing_between(given_input: dict[str, Any]) -> None:
    assert errors_of(CertificationRequest, {"input": given_input}) == [("input", "value_error")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5).map(lambda drawn: MARKER + drawn),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("data") | st.just("text"), inner, max_size=2),
    max_leaves=6,
)


@pytest.mark.parametrize(("name", "path"), [(name, at) for name, at in EVERY_OBJECT if at] + NUMBERS)
@settings(max_examples=20)
@given(value=JSON)
def test_no_error_repeats_a_value_of_the_input(name: str, path: str, value: object) -> None:
    kind, content = KINDS[name]
    assert MARKER not in told(kind, changed(content, path.rstrip("."), value))


@pytest.mark.parametrize("name", KINDS)
def test_a_request_does_not_show_its_input(name: str) -> None:
    kind, content = KINDS[name]
    path = "fields" if name.startswith("tabular") else "text" if name.endswith("alone") else "image"
    shown: dict[str, dict[str, Any]] = {
        "text": {"text": MARKER, "suffix": MARKER},
        "image": {"image": {"data": MARKER}},
    }
    given_input = {**content["input"], **shown.get(path, {"fields": {MARKER: MARKER}})}
    request = kind.model_validate({"input": given_input})
    assert MARKER in request.model_dump_json()
    assert MARKER not in repr(request) + str(request)


@given(guard_requests(GUARD) | guard_requests(TABULAR))
def test_a_request_is_the_same_from_json_and_once_written(asked: dict[str, Any]) -> None:
    request = CertificationRequest.model_validate(asked)
    assert CertificationRequest.model_validate_json(json.dumps(asked)) == request
    assert CertificationRequest.model_validate_json(request.model_dump_json()) == request


@given(feature_requests(ENCODER))
def test_a_feature_request_is_the_same_from_json_and_once_written(asked: dict[str, Any]) -> None:
    request = FeatureCertificationRequest.model_validate(asked)
    assert FeatureCertificationRequest.model_validate_json(json.dumps(asked)) == request
    assert FeatureCertificationRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(("name", "path"), EVERY_OBJECT)
def test_a_request_cannot_be_changed_after_it_was_checked(name: str, path: str) -> None:
    kind, content = KINDS[name]
    part: Any = kind.model_validate(content)
    for step in path.split(".")[:-1]:
        part = getattr(part, step)
    if part is not None:
        field = next(iter(type(part).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, field, None)


@pytest.mark.parametrize("name", KINDS)
def test_the_schema_says_that_other_fields_are_refused_and_what_the_limits_are(name: str) -> None:
    kind, _ = KINDS[name]
    schema = kind.model_json_schema()
    described = [schema, *schema["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in described if part["type"] == "object")
    assert all(part.get("description") for part in described)
    assert schema["required"] == ["input"]
    assert schema["properties"]["epsilons"]["maxItems"] == 64
