"""How flat keywords become a request, whatever keywords there are: each value at its place, and no place twice."""

from collections.abc import Sequence
from typing import Annotated, Any, Required, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contract.features.keywords import CertifyFeaturesKeywords, EmbedKeywords
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.keywords import Keyword, described, documented, nested
from tests.contract.asking import feature_requests, guard_requests
from tests.contract.served import ENCODER, GUARD, IMAGE, TABULAR


class Meal(TypedDict, total=False):
    """What a guest may ask for."""

    dish: Required[Annotated[str, Keyword("What is eaten.", "plate.dish")]]
    salt: Annotated[float | None, Keyword("How much.", "plate.spice.salt")]
    when: Annotated[tuple[int, int] | None, Keyword("Hour and minute.", "time.hour time.minute")]
    drinks: Annotated[Sequence[str] | None, Keyword("In order.", "drinks")]
    mood: Annotated[str | int | None, Keyword("Either.", "mood")]


def test_a_keyword_is_described_by_its_type_without_none_and_its_place() -> None:
    kinds = {name: kind for name, (kind, _) in described(Meal).items()}
    assert kinds == {
        "dish": str, "salt": float, "when": tuple[int, int], "drinks": Sequence[str], "mood": str | int | None,
    }  # fmt: skip
    assert described(Meal)["salt"][1] == Keyword("How much.", "plate.spice.salt")


def test_every_value_stands_at_its_place() -> None:
    asked = {"dish": "soup", "salt": 0.0, "when": (12, 30), "drinks": ["tea"]}
    assert nested(Meal, asked) == {
        "plate": {"dish": "soup", "spice": {"salt": 0.0}}, "time": {"hour": 12, "minute": 30}, "drinks": ["tea"],
    }  # fmt: skip


@pytest.mark.parametrize("value", [0, False, "", [], {}])
def test_a_value_that_is_nothing_much_is_asked_for_and_none_is_not(value: object) -> None:
    assert nested(Meal, {"mood": value}) == {"mood": value}
    assert nested(Meal, {"mood": None, "when": None}) == {}


def test_what_is_asked_is_left_as_it_was() -> None:
    drinks = ["tea"]
    asked = {"dish": "soup", "drinks": drinks}
    request = nested(Meal, asked)
    assert request["drinks"] is drinks
    assert asked == {"dish": "soup", "drinks": ["tea"]}
    assert nested(Meal, asked) == request


@pytest.mark.parametrize("value", [[12, 30], (12,), (12, 30, 0), 12, "12", {}])
def test_a_pair_is_a_tuple_of_two(value: object) -> None:
    with pytest.raises(TypeError, match=r"^when must be a tuple of 2 values: Hour and minute\.$"):
        nested(Meal, {"when": value})


def test_half_of_a_pair_may_be_none() -> None:
    assert nested(Meal, {"when": (None, 30)}) == {"time": {"hour": None, "minute": 30}}


@given(st.text().filter(lambda name: name not in Meal.__annotations__))
def test_a_name_that_is_no_keyword_is_refused_even_without_a_value(name: str) -> None:
    for value in (3, None):
        with pytest.raises(TypeError, match=r"^there is no keyword .*; help\(Meal\) lists them$"):
            nested(Meal, {name: value})


def test_help_has_every_keyword_in_lines_that_fit() -> None:
    class Documented(Meal, total=False):
        """What a guest may ask for."""

        place: Annotated[str | None, Keyword("Where, " + "by the window or not, " * 10 + "as it pleases.", "place")]

    lines = str(documented(Documented).__doc__).splitlines()
    assert lines[:4] == ["What a guest may ask for.", "", "Keywords:", "    dish: What is eaten."]
    assert max(map(len, lines)) <= 100
    assert " ".join(" ".join(lines).split()).endswith("as it pleases.")


def flat(keywords: type, request: dict[str, Any]) -> dict[str, Any]:
    """The keywords that ask for this request."""

    def at(place: str) -> Any:
        found: Any = request
        for step in place.split("."):
            found = None if found is None else found.get(step)
        return found

    places = {name: keyword.at.split() for name, (_, keyword) in described(keywords).items()}
    values = {name: tuple(map(at, found)) for name, found in places.items()}
    return {name: found if len(found) > 1 else found[0] for name, found in values.items() if found[-1] is not None}


@given(guard_requests(GUARD) | guard_requests(TABULAR))
def test_a_certification_that_makes_sense_can_be_asked_for_by_keywords(asked: dict[str, Any]) -> None:
    request = CertificationRequest.model_validate(asked)
    content = request.model_dump()
    by_keywords = nested(CertifyKeywords, flat(CertifyKeywords, content))
    assert CertificationRequest.model_validate(by_keywords) == request


@given(feature_requests(ENCODER))
def test_a_feature_certification_that_makes_sense_can_be_asked_for_by_keywords(asked: dict[str, Any]) -> None:
    request = FeatureCertificationRequest.model_validate(asked)
    content = {**request.model_dump(), "target": asked["target"]}
    flattened = flat(CertifyFeaturesKeywords, content)
    by_keywords = nested(CertifyFeaturesKeywords, flattened)
    assert FeatureCertificationRequest.model_validate(by_keywords) == request


def test_an_embedding_can_be_asked_for_by_keywords() -> None:
    asked = {"image": IMAGE, "model": "encoder", "sigma": 0.5, "epsilons": (0.5,), "alpha": 0.1, "tokens": True}
    request = EmbeddingRequest.model_validate(nested(EmbedKeywords, {**asked, "draws": 3, "score_draws": 70}))
    assert (request.noise.sigma, request.confidence.alpha, request.tokens) == (0.5, 0.1, True)
    assert (request.sampling.draws, request.sampling.score_draws, request.epsilons) == (3, 70, (0.5,))


@pytest.mark.parametrize("keywords", [CertifyKeywords, CertifyFeaturesKeywords, EmbedKeywords])
def test_no_two_keywords_have_one_place_and_every_one_is_a_sentence(keywords: type) -> None:
    every = [keyword for _, keyword in described(keywords).values()]
    places = [place for keyword in every for place in keyword.at.split()]
    assert len(set(places)) == len(places)
    assert not any(other.startswith(f"{place}.") for place in places for other in places)
    assert all(keyword.text[-1] in ".?" and keyword.text[:-1].strip() for keyword in every)
