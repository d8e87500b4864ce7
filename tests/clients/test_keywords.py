"""The keywords of the SDK and the options of the command line: declared once, each explained, none forgotten."""

import inspect
from typing import Any

import pytest
from pydantic import BaseModel

import holdfast_client
from holdfast.contract.base import Strict
from holdfast.contract.features.keywords import CertifyFeaturesKeywords, EmbedKeywords
from holdfast.contract.features.requests import EmbeddingRequest, FeatureCertificationRequest
from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast.contract.guard.requests import CertificationRequest
from holdfast.contract.keywords import described, nested
from holdfast_client import AsyncClient, Client
from holdfast_client.cli import main

KINDS = [
    ("certify", CertifyKeywords, CertificationRequest),
    ("certify_features", CertifyFeaturesKeywords, FeatureCertificationRequest),
    ("embed", EmbedKeywords, EmbeddingRequest),
]
IMAGE = "input.image"  # a file for a keyword, a document of its own in the request


def leaves(model: type[BaseModel], path: str = "") -> set[str]:
    """Where the values of a request stand."""
    found = set()
    for name, field in model.model_fields.items():
        inner = next((kind for kind in (field.annotation, *_parts(field.annotation)) if _is_model(kind)), None)
        place = f"{path}{name}"
        found |= {place} if inner is None or place == IMAGE else leaves(inner, f"{place}.")
    return found


def _parts(annotation: Any) -> tuple[Any, ...]:
    return getattr(annotation, "__args__", ())


def _is_model(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


@pytest.mark.parametrize(("_", "keywords", "request_kind"), KINDS)
def test_every_value_of_a_request_has_one_keyword(_: str, keywords: type, request_kind: type[Strict]) -> None:
    places = [place for _, keyword in described(keywords).values() for place in keyword.at.split()]
    assert sorted(places) == sorted(leaves(request_kind))


@pytest.mark.parametrize(("method", "keywords", "_"), KINDS)
def test_help_leads_from_the_method_to_every_keyword_and_what_it_asks(method: str, keywords: type, _: type) -> None:
    for client in (Client, AsyncClient):
        assert keywords.__name__ in (inspect.getdoc(getattr(client, method)) or "")
    assert getattr(holdfast_client, keywords.__name__) is keywords
    taught = " ".join((keywords.__doc__ or "").split())
    assert all(f" {name}: {keyword.text}" in taught for name, (_, keyword) in described(keywords).items())


@pytest.mark.parametrize(("method", "keywords", "_"), KINDS)
def test_every_keyword_is_an_option_that_is_explained_in_the_same_words(
    method: str, keywords: type, _: type, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([method.replace("_", "-"), "--help"])
    told = "".join(capsys.readouterr().out.split())
    for name, (_, keyword) in described(keywords).items():
        if name != "image" or keywords is CertifyKeywords:  # an encoder's one input needs no option
            assert f"--{name.replace('_', '-')}" in told
            assert "".join(keyword.text.split()) in told


def test_values_go_to_their_places_and_what_is_not_given_is_not_asked_for() -> None:
    asked = {"slots": 3, "target": (2, 0.5), "beta": None}
    assert nested(CertifyKeywords, asked) == {
        "threat": {"text": {"slots": 3}},
        "target": {"tokens": 2, "epsilon": 0.5},
    }


def test_an_unknown_keyword_is_an_error_that_says_where_the_known_ones_are() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(TypeError, match=r"'slotz'; help\(CertifyKeywords\)"):
        client.certify(text="t", slotz=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("target", [3, (3,), (3, 0.5, 1), "30"])
def test_a_target_that_is_no_pair_is_an_error_that_says_what_it_is(target: Any) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(TypeError, match=r"tuple of 2 .*\(tokens, radius\)"):
        client.certify(text="t", image=b"png", target=target)
