"""The description that clients are generated from."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.gateway.inputs import URL

FEATURES = "/v1/feature-certifications"
ROUTES = {
    ("POST", URL),
    ("GET", f"{URL}/{{job_id}}"),
    ("DELETE", f"{URL}/{{job_id}}"),
    ("GET", f"{URL}/{{job_id}}/events"),
    ("POST", FEATURES),
    ("GET", f"{FEATURES}/{{job_id}}"),
    ("DELETE", f"{FEATURES}/{{job_id}}"),
    ("GET", f"{FEATURES}/{{job_id}}/events"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/verify"),
    ("GET", "/.well-known/holdfast-keys.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}


@pytest.fixture
async def schema(http: httpx.AsyncClient) -> dict[str, Any]:
    schema: dict[str, Any] = (await http.get("/openapi.json")).json()
    return schema


def operations(schema: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): what for path, item in schema["paths"].items() for method, what in item.items()}


async def test_these_routes_are_served_and_no_others(schema: dict[str, Any]) -> None:
    assert set(operations(schema)) == ROUTES


async def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema)))
    assert names <= set(schema["components"]["schemas"])
    assert "HTTPValidationError" not in names


async def test_every_refusal_is_documented_as_a_problem(schema: dict[str, Any]) -> None:
    for what in operations(schema).values():
        refusals = {code: answer for code, answer in what["responses"].items() if code >= "400"}
        assert all(list(answer["content"]) == ["application/problem+json"] for answer in refusals.values())
    for submission in (URL, FEATURES, "/v1/embeddings"):
        codes = set(operations(schema)["POST", submission]["responses"])
        assert codes == {"200", "202", "400", "404", "413", "415", "422", "429", "500", "503"}


async def test_every_route_says_what_it_does(schema: dict[str, Any]) -> None:
    assert all(what["summary"] and what["description"] for what in operations(schema).values())


async def test_the_docs_are_served(http: httpx.AsyncClient) -> None:
    assert (await http.get("/docs")).status_code == 200
