"""`POST /v1/verify` and the published keys."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from holdfast.certificates import packed
from holdfast.contract.jobs import KeySet, Verification
from holdfast.queue.broker import Broker, connect
from holdfast.signing import SigningKey, sign
from holdfast_service.gateway.app import create_app
from holdfast_service.settings import ServiceSettings
from tests.gateway.inputs import assert_problem, certificate

OLD, NEW, FOREIGN = (base64.b64encode(bytes([n]) * 32).decode() for n in range(3))
KEYS = "/.well-known/holdfast-keys.json"
VERIFY = "/v1/verify"


@asynccontextmanager
async def service(current: str | None = None, *retired: str) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with this signing key, and the public halves of those before it."""
    old = [SigningKey.from_text(seed).public.x for seed in retired]
    app = create_app(connect(None), ServiceSettings(signing_key=current, verification_keys=old))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
    ):
        yield http


def issued(seed: str | None = None) -> dict[str, Any]:
    """A certificate as it goes over the wire, signed where there is a seed."""
    made = certificate("cert_1")
    if seed is not None:
        made = made.model_copy(update={"signature": sign(made, SigningKey.from_text(seed))})
    written: dict[str, Any] = json.loads(made.model_dump_json())
    return written


async def verified(http: httpx.AsyncClient, given: dict[str, Any]) -> Verification:
    answer = await http.post(VERIFY, json=given)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return Verification.model_validate(answer.json())


async def test_a_certificate_of_this_service_is_valid() -> None:
    async with service(NEW) as http:
        found = await verified(http, issued(NEW))
    assert found.valid
    assert {"signature", "evidence", "frontier", "verdict"} <= {check.field for check in found.checks}


async def test_an_altered_certificate_is_not_and_the_field_is_named() -> None:
    async with service(NEW) as http:
        found = await verified(http, {**issued(NEW), "notice": ["It is safe."]})
    assert not found.valid
    assert {check.field for check in found.checks if not check.ok} == {"notice"}


async def test_a_certificate_outlives_the_rotation_of_its_key() -> None:
    async with service(NEW, OLD) as http:
        assert (await verified(http, issued(OLD))).valid
    async with service(NEW) as http:
        assert not (await verified(http, issued(OLD))).valid


async def test_a_foreign_key_is_not_trusted() -> None:
    async with service(NEW, OLD) as http:
        found = await verified(http, issued(FOREIGN))
    assert not found.valid
    assert KEYS in next(check.detail for check in found.checks if not check.ok)


async def test_an_unsigned_certificate_is_valid_only_where_the_service_has_no_key() -> None:
    async with service() as http:
        found = await verified(http, issued())
        assert found.valid
        assert any("unsigned" in check.detail for check in found.checks)
    async with service(NEW) as http:
        assert not (await verified(http, issued())).valid


async def test_the_keys_are_published_current_first_without_their_seeds() -> None:
    async with service(NEW, OLD) as http:
        answer = await http.get(KEYS)
    assert answer.headers["cache-control"] == "public, max-age=300"
    expected = [SigningKey.from_text(seed).public for seed in (NEW, OLD)]
    assert KeySet.model_validate(answer.json()) == KeySet(keys=tuple(expected))
    assert set(answer.json()["keys"][0]) == {"kty", "crv", "kid", "x"}


async def test_a_service_without_a_key_publishes_an_empty_set() -> None:
    async with service() as http:
        assert (await http.get(KEYS)).json() == {"keys": []}


@pytest.mark.parametrize("name", ["signing_key", "verification_keys"])
def test_a_bad_key_stops_the_start_and_does_not_show(name: str) -> None:
    bad = "a-secret-that-is-too-short"
    with pytest.raises(ValidationError, match="must have 32") as refusal:
        ServiceSettings(**{name: bad if name == "signing_key" else [bad]})
    assert bad not in str(refusal.value)


BODIES = {
    "nothing": (b"", 400, "malformed-request"),
    "half": (b'{"id": "cert_1"', 400, "malformed-request"),
    "not UTF-8": (b'{"id": "\xff"}', 400, "malformed-request"),
    "NaN": (b'{"tau": NaN}', 400, "malformed-request"),
    "infinity in digits": (b'{"tau": -1e999}', 400, "malformed-request"),
    "integer of 5,000 digits": (b'{"tau": ' + b"1" * 5000 + b"}", 400, "malformed-request"),
    "one field twice": (b'{"tau": 0.1, "tau": 0.3}', 400, "malformed-request"),
    "nested a hundred thousand deep": (b'{"tau": ' + b"[" * 100_000, 400, "malformed-request"),
    "list": (b"[]", 422, "invalid-value"),
    "null": (b"null", 422, "invalid-value"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_certificate_is_refused(http: httpx.AsyncClient, name: str) -> None:
    content, status, slug = BODIES[name]
    answer = await http.post(VERIFY, content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, status, slug)


async def test_a_body_that_does_not_call_itself_json_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post(VERIFY, content=b"{}", headers={"Content-Type": "text/plain"})
    assert_problem(answer, 415, "unsupported-media-type")


async def test_a_body_over_the_limit_is_refused(broker: Broker) -> None:
    app = create_app(broker, ServiceSettings(max_body_bytes=100))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
    ):
        assert_problem(await http.post(VERIFY, json=issued()), 413, "too-large")


@pytest.mark.parametrize(
    "given", [{}, {"evidence": [[[[]]]] * 5}, {"x" * 1000: {"y": 1}}, {"signature": {"digests": 3}}]
)
async def test_a_malformed_certificate_is_invalid_and_no_error(http: httpx.AsyncClient, given: dict[str, Any]) -> None:
    found = await verified(http, given)
    assert not found.valid
    assert all(len(check.detail) < 500 for check in found.checks)


async def test_verifying_leaves_the_service_free_to_answer(http: httpx.AsyncClient) -> None:
    large = issued()
    draws = 1_000_000
    large["evidence"] |= {"draws": draws, "passes": draws, "unsafe": packed(np.zeros(draws, np.bool_))}
    verifying = asyncio.create_task(verified(http, large))
    await asyncio.sleep(0.01)
    assert (await http.get("/healthz")).status_code == 200
    assert not verifying.done()
    assert (await verifying).valid
