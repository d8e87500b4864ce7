"""What a question is: whatever decides its events changes its spelling, and nothing else does."""

from dataclasses import replace
from typing import Any

import pytest

from holdfast.certificates.noise import version
from holdfast.contract.features.requests import FeatureTarget
from holdfast.contract.features.spec import EmbeddingSpec
from holdfast.questions import Identity, encoder_encoding, guard_encoding
from tests.certifier import feature_specs, specs

INPUT = Identity((4, 6), "ab" * 32, "a text", "a tail")
POOLED = {"target": {"tokens": 2, "epsilon": 0.5}, "max_tokens": 2}
L0 = {"text": "l0", "slots": 0, "max_tokens": 2}

DECIDING: list[dict[str, Any]] = [
    {"fingerprint": "sha256:1"}, {"kind": "tabular"}, {"slots": 7}, {"sigma": 0.25}, {"sigma": 0.0},
    {"token_kernel": "absorbing"}, {"beta": 0.8}, {"alphabets": (481,)}, {"scope": "per_budget"},
    {"method": "neyman_pearson"}, {"target": {"tokens": 2, "epsilon": 0.25}}, {"verdict": "unsafe"}, {"stop": "fixed"},
    {"tails": 3}, {"tie_band": 1e-3},
    {"max_tokens": 3, "target": {"tokens": 3, "epsilon": 0.5}}, {**L0, "target": None}, {"target": None},
]  # fmt: skip
LEFT_OUT: list[dict[str, Any]] = [
    {"alpha": 0.05}, {"tau": 0.299}, {"tolerance": 0.5}, {"max_draws": 100}, {"epsilons": (0.0,)},
    {"model": "another name"}, {"notes": ("a note",)},
]  # fmt: skip


@pytest.mark.parametrize("change", DECIDING, ids=str)
def test_what_decides_a_guards_events_is_in_its_question(change: dict[str, Any]) -> None:
    assert guard_encoding(specs.spec(**POOLED | change), INPUT) != guard_encoding(specs.spec(**POOLED), INPUT)


@pytest.mark.parametrize("asked", [{}, POOLED, L0], ids=["suffix", "target", "l0"])
@pytest.mark.parametrize("change", LEFT_OUT, ids=str)
def test_what_only_reads_the_same_events_is_not(asked: dict[str, Any], change: dict[str, Any]) -> None:
    assert guard_encoding(specs.spec(**asked | change), INPUT) == guard_encoding(specs.spec(**asked), INPUT)


def test_a_number_of_draws_that_was_fixed_decides() -> None:
    fixed = [guard_encoding(specs.spec(**POOLED, stop="fixed", max_draws=n), INPUT) for n in (100, 200)]
    assert fixed[0] != fixed[1]


OTHER_INPUTS: list[dict[str, Any]] = [
    {"size": (6, 4)}, {"pixels_sha256": "cd" * 32}, {"text": "a text "}, {"suffix": ""}, {"fields": {"age": 3}},
    {"text": "a texta tail", "suffix": ""},
]  # fmt: skip


@pytest.mark.parametrize("change", OTHER_INPUTS, ids=str)
def test_every_part_of_the_input_is_in_the_question(change: dict[str, Any]) -> None:
    other = replace(INPUT, **change)
    assert guard_encoding(specs.spec(), other) != guard_encoding(specs.spec(), INPUT)
    assert encoder_encoding(feature_specs.spec(), other) != encoder_encoding(feature_specs.spec(), INPUT)


def test_no_two_fields_of_a_table_are_one() -> None:
    tables: list[dict[str, str | float]] = [
        {"a": 1.0, "b": "x"},
        {"a": "1.0", "b": "x"},
        {"a": 1.5, "b": "x"},
        {"b": 1.0, "a": "x"},
    ]
    assert len({guard_encoding(specs.spec(), replace(INPUT, fields=fields)) for fields in tables}) == len(tables)


def test_another_sampler_makes_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guard_encoding(specs.spec(), INPUT), encoder_encoding(feature_specs.spec(), INPUT)
    monkeypatch.setattr("holdfast.questions.SAMPLER", version.SAMPLER + "0")
    assert guard_encoding(specs.spec(), INPUT) != before[0]
    assert encoder_encoding(feature_specs.spec(), INPUT) != before[1]


HEADED = {"head": feature_specs.HEAD}
ANY_TIME = {**HEADED, "stop": "any_time"}
KL = {**HEADED, "mean_bound": "kl"}
EMBEDDING = {"embedding": EmbeddingSpec(draws=8, tokens=False, alpha=0.045), "cosine_floors": ()}
DECIDING_ENCODERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *((HEADED, change) for change in (
        {"fingerprint": "sha256:2"}, {"sigma": 0.5}, {"reference": "direction"}, {"selection_draws": 99},
        {"head": None}, {"head": feature_specs.HEAD.model_copy(update={"version": "2"})},
        {"head": feature_specs.HEAD.model_copy(update={"clip": 0.2})}, {"mean_bound": "kl"}, {"draws": 999},
        {"stop": "any_time"}, {"alpha": 0.002},
    )),
    (ANY_TIME, {"target": FeatureTarget(epsilon=0.1, cosine=0.5)}),
    (ANY_TIME, {"draws": 999}),
    (KL, {"draws": 999}),
    (EMBEDDING, {"embedding": EmbeddingSpec(draws=9, tokens=False, alpha=0.045)}),
    (EMBEDDING, {"embedding": EmbeddingSpec(draws=8, tokens=True, alpha=0.045)}),
]  # fmt: skip
LEFT_OUT_OF_ENCODERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (HEADED, {"epsilons": (0.5,)}), (HEADED, {"cosine_floors": (0.1,)}), (ANY_TIME, {"tolerance": 0.5}),
    (HEADED, {"model": "another name"}), (KL, {"alpha": 0.002}), (EMBEDDING, {"alpha": 0.002}),
    (EMBEDDING, {"embedding": EmbeddingSpec(draws=8, tokens=False, alpha=0.03)}),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "change"), DECIDING_ENCODERS, ids=str)
def test_what_decides_an_encoders_events_is_in_its_question(asked: dict[str, Any], change: dict[str, Any]) -> None:
    changed, given = feature_specs.spec(**asked | change), feature_specs.spec(**asked)
    assert encoder_encoding(changed, INPUT) != encoder_encoding(given, INPUT)


@pytest.mark.parametrize(("asked", "change"), LEFT_OUT_OF_ENCODERS, ids=str)
def test_what_only_reads_an_encoders_events_is_not(asked: dict[str, Any], change: dict[str, Any]) -> None:
    changed, given = feature_specs.spec(**asked | change), feature_specs.spec(**asked)
    assert encoder_encoding(changed, INPUT) == encoder_encoding(given, INPUT)
