from typing import Any

import pytest

from holdfast_worker.models.guard.answers import Reading
from holdfast_worker.models.guard.config import GuardConfig


def reading(**settings: Any) -> Reading:
    return Reading.of(GuardConfig(name="g", decision="generate", **settings))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Unsafe.", True),
        ("Safe\nbecause Unsafe would be wrong", False),
        (" \n**unsafe** ", True),
        ("SAFE!", False),
        ("Uns", None),
        ("", None),
        ("Unsafe", None),
        ("...", None),
    ],
)
def test_the_first_word_is_the_verdict_once_it_is_complete(text: str, verdict: bool | None) -> None:
    assert reading().verdict(text, ended=False) is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{\n    "rating": "Unsafe",', True),
        ('{"rating":"Safe"', False),
        ('Here you are:\n```json\n{"category": "NA: None applying", "rating" : "Safe"}', False),
        ('{"rating": "Unsafe", "rationale": "not \\"rating\\": \\"Safe\\""}', True),
        ('{"rating": "Unsafe', None),
        ('{"category": "Unsafe",', None),
    ],
)
def test_the_first_rating_of_the_json_is_the_verdict(text: str, verdict: bool | None) -> None:
    assert reading(answer="json_rating").verdict(text, ended=False) is verdict


@pytest.mark.parametrize("answer", ["word", "json_rating"])
@pytest.mark.parametrize("text", ["", "I cannot say", '{"rating": "Maybe"}', "{", '{"rating": null}'])
def test_an_answer_that_gives_neither_verdict_counts_as_stated(answer: str, text: str) -> None:
    assert reading(answer=answer).verdict(text, ended=True) is True
    assert reading(answer=answer, unparseable="safe").verdict(text, ended=True) is False


def test_a_word_of_neither_verdict_is_final_whatever_would_follow() -> None:
    assert reading(unparseable="safe").verdict("Maybe Unsafe", ended=False) is False


def test_a_word_that_the_answer_ends_with_is_complete() -> None:
    assert reading(unparseable="safe").verdict("Unsafe", ended=True) is True
    assert reading().verdict("Safe", ended=True) is False


def test_variants_of_several_words_are_read_from_json() -> None:
    read = reading(answer="json_rating", unsafe_tokens=["Review Needed"], safe_tokens=["Compliant"])
    assert read.verdict('{"rating": "review needed"}', ended=False) is True
