"""Every bad input has its problem, leaves nothing in the queue, and does no harm to the service."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image

from holdfast.queue.broker import AsyncRedis
from tests.gateway.inputs import PNG, URL, assert_nothing_queued, assert_problem, body, encoded, raw_png

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(autouse=True)
async def service_unharmed(http: httpx.AsyncClient, redis: AsyncRedis, worker: None) -> AsyncIterator[None]:
    """Whatever a test of this file submits: nothing is queued, and the service is still ready."""
    yield
    await assert_nothing_queued(redis)
    assert (await http.get("/readyz")).status_code == 200


GREY = Image.new("RGB", (8, 8), "grey")
JPEG = encoded(GREY, "JPEG", progressive=True)
# A valid file all the same: its last scan, which refines what is there, over and over.
JPEG_BOMB = JPEG[:-2] + JPEG[JPEG.rindex(b"\xff\xda") : -2] * 200 + JPEG[-2:]
STILLS = [GREY, Image.new("RGB", (8, 8), "red")]
IMAGES: dict[str, tuple[bytes | str, int, str]] = {
    "truncated PNG": (PNG[:-30], 400, "malformed-image"),
    "truncated JPEG": (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-300], 400, "malformed-image"),
    "truncated WebP": (encoded(GREY, "WEBP")[:-10], 400, "malformed-image"),
    "PNG signature alone": (PNG[:8], 400, "malformed-image"),
    "PNG of no width": (raw_png(0, 4), 400, "malformed-image"),
    "PNG without pixels": (raw_png(4, 4, rows=b""), 400, "malformed-image"),
    "PNG with a broken checksum": (PNG[:20] + b"\xff" + PNG[21:], 400, "malformed-image"),
    "JPEG of two hundred scans": (JPEG_BOMB, 400, "malformed-image"),
    "PNG header of 30,000 x 30,000": (raw_png(30_000, 30_000), 413, "too-large"),
    "PNG one row over the limit": (raw_png(1000, 1001), 413, "too-large"),
    "WebP canvas of 16,000 x 16,000": (
        encoded(GREY, "WEBP", lossless=True)[:21] + b"\x7f\x3e\xa0\x0f" + bytes(20), 413, "too-large"),
    "GIF": (encoded(GREY, "GIF"), 415, "unsupported-media-type"),
    "BMP": (encoded(GREY, "BMP"), 415, "unsupported-media-type"),
    "text": (b"not an image at all", 415, "unsupported-media-type"),
    "animated PNG": (encoded(GREY, save_all=True, append_images=STILLS), 415, "unsupported-media-type"),
    "animated WebP": (encoded(GREY, "WEBP", save_all=True, append_images=STILLS), 415, "unsupported-media-type"),
    "no base64": ("<svg/>", 400, "malformed-image"),
    "base64 with a line break": ("AAAA\nAAAA", 400, "malformed-image"),
    "base64 cut short": ("AAAAA", 400, "malformed-image"),
    "data URL": ("data:image/png;base64,AAAA", 400, "malformed-image"),
    "non-ASCII": ("ÄÖÜß", 400, "malformed-image"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
async def test_a_bad_image_is_refused(http: httpx.AsyncClient, name: str) -> None:
    image, status, slug = IMAGES[name]
    assert_problem(await http.post(URL, json=body(image=image)), status, slug)


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "empty text": (body(text=""), "input.text"),
    "white space": (body(text=" \n\t"), "input"),
    "NUL in the text": (body(text="a\x00b"), "input"),
    "lone surrogate": (body(text="\ud800"), "input.text"),
    "text over every limit": (body(text="x" * 100_001), "input.text"),
    "an image without a text": ({"input": {"image": body()["input"]["image"]}}, "input"),
    "nothing at all": ({"input": {}}, "input"),
    "fields beside text": ({"input": {**body()["input"], "fields": {"age": 3}}}, "input"),
    "101 fields": ({"input": {"fields": {f"f{n}": 0 for n in range(101)}}}, "input.fields"),
    "empty image": (body(image=""), "input.image.data"),
    "NaN sigma": (body(noise={"sigma": float("nan")}), "noise.sigma"),
    "infinite epsilon": (body(epsilons=[float("inf")]), "epsilons.0"),
    "infinite draws": (body(sampling={"max_draws": float("inf")}), "sampling.max_draws"),
    "sigma 0": (body(noise={"sigma": 0}), "noise.sigma"),
    "alpha of nothing": (body(confidence={"alpha": 5e-324}), "confidence.alpha"),
    "beta 0": (body(noise={"beta": 0}), "noise.beta"),
    "number of 400 digits": (body(noise={"beta": 10**400}), "noise.beta"),
    "tau 1": (body(decision={"tau": 1}), "decision.tau"),
    "alpha over a half": (body(confidence={"alpha": 0.51}), "confidence.alpha"),
    "negative epsilon": (body(epsilons=[0, -1]), "epsilons.1"),
    "65 epsilons": (body(epsilons=list(range(65))), "epsilons"),
    "slots without end": (body(threat={"text": {"slots": 10**12}}), "threat.text.slots"),
    "unknown kernel": (body(noise={"token_kernel": "gaussian"}), "noise.token_kernel"),
}

# What only the model can tell.
RULES: dict[str, tuple[dict[str, Any], str]] = {
    "text over the model's limit": (body(text="x" * 100_000), "input.text"),
    "text alone": ({"input": {"text": "text"}, "threat": {"image": {"norm": "none"}}}, "input.image"),
    "fields for a multimodal model": ({"input": {"fields": {"age": 3}}}, "input"),
    "sigma without an image threat": (body(noise={"sigma": 1}, threat={"image": {"norm": "none"}}), "noise.sigma"),
    "beta over (V-1)/V": (body(noise={"beta": 0.995}), "noise.beta"),
    "slots over the limit": (body(threat={"text": {"slots": 17}}), "threat.text.slots"),
    "slots of the l0 threat": (body(threat={"text": {"kind": "l0", "slots": 3}}), "threat.text.slots"),
    "suffix of the l0 threat": (
        {"input": {**body()["input"], "suffix": "tail"}, "threat": {"text": {"kind": "l0"}}}, "input.suffix"),
    "l0 budget over the limit": (body(threat={"text": {"kind": "l0", "max_tokens": 9}}), "threat.text.max_tokens"),
    "budget apart from the slots": (body(threat={"text": {"slots": 4, "max_tokens": 3}}), "threat.text.max_tokens"),
    "budget without a text threat": (
        body(threat={"text": {"kind": "none", "max_tokens": 1}}), "threat.text.max_tokens"),
    "no attacker": (body(threat={"text": {"kind": "none"}, "image": {"norm": "none"}}), "threat"),
    "target over the slots": (body(target={"tokens": 9}), "target.tokens"),
    "target of tokens without a text threat": (
        body(target={"tokens": 1}, threat={"text": {"kind": "none"}}), "target.tokens"),
    "target beside another budget": (
        body(target={"tokens": 1}, threat={"text": {"kind": "l0", "max_tokens": 2}}), "threat.text.max_tokens"),
    "target of a radius without an image threat": (
        body(target={"tokens": 1, "epsilon": 1}, threat={"image": {"norm": "none"}}), "target.epsilon"),
    "a guard per budget of the l0 threat": (
        body(noise={"scope": "per_budget"}, threat={"text": {"kind": "l0"}}), "noise.scope"),
    "tails without noise on the text": (
        body(threat={"text": {"kind": "none"}}, sampling={"tails": 2}), "sampling.tails"),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES | RULES)
async def test_a_value_out_of_range_is_named(http: httpx.AsyncClient, name: str) -> None:
    content, path = (VALUES | RULES)[name]
    headers = {"Content-Type": "application/json"}
    answer = await http.post(URL, content=json.dumps(content), headers=headers)
    problem = assert_problem(answer, 422, "invalid-value")
    assert path in [error["path"] for error in problem["errors"]]


KINDS: dict[str, tuple[dict[str, Any], str, str, set[str]]] = {
    "a missing field": ({}, "missing-field", "A field is missing", {"input"}),
    "a missing field of a field": (
        {"input": {"text": "a", "image": {}}}, "missing-field", "A field is missing", {"input.image.data"}),
    "an unknown field": (body(temperature=1), "unknown-field", "A field is unknown", {"temperature"}),
    "a misspelt field": (
        {"inputs": body()["input"]}, "unknown-field", "A field is unknown", {"input", "inputs"}),
    "a value of another kind": (body(model=3), "invalid-value", "A value cannot be accepted", {"model"}),
    "a value beside a missing field": (
        {"noise": {"sigma": -1}}, "invalid-value", "A value cannot be accepted", {"input", "noise.sigma"}),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
async def test_a_refusal_is_titled_by_what_is_wrong(http: httpx.AsyncClient, name: str) -> None:
    content, slug, title, paths = KINDS[name]
    problem = assert_problem(await http.post(URL, json=content), 422, slug)
    assert problem["title"] == title
    assert {error["path"] for error in problem["errors"]} == paths


@pytest.mark.parametrize("name", RULES)
async def test_a_rule_of_the_model_comes_with_a_remedy(http: httpx.AsyncClient, name: str) -> None:
    content, path = RULES[name]
    problem = (await http.post(URL, json=content)).json()
    (message, *_) = [error["message"] for error in problem["errors"] if error["path"] == path]
    assert re.fullmatch(r".+; [a-z].+", message)


async def test_a_refused_beta_is_told_its_value_rule_and_remedy(http: httpx.AsyncClient) -> None:
    problem = assert_problem(await http.post(URL, json=body(noise={"beta": 0.995})), 422, "invalid-value")
    assert problem["detail"].startswith("beta=0.995 must be at most (V-1)/V=0.990099")
    assert "lower beta or use the absorbing kernel" in problem["detail"]


BODIES = {
    "nothing": (b"", 422, "missing-field"),
    "half a JSON": (b'{"input": {"text": "a', 400, "malformed-request"),
    "not UTF-8": (b'{"input": "\xff"}', 400, "malformed-request"),
    "nested a hundred thousand deep": (b"[" * 100_000, 400, "malformed-request"),
    "nested in a field": (b'{"input": ' + b"[" * 500 + b"]" * 500 + b"}", 422, "invalid-value"),
    "integer of 5,000 digits": (b'{"epsilons": [' + b"1" * 5000 + b"]}", 400, "malformed-request"),
    "NaN": (b"NaN", 422, "invalid-value"),
    "list": (b"[]", 422, "invalid-value"),
    "string": (b'"text"', 422, "invalid-value"),
    "a hundred thousand fields": (
        json.dumps({f"field{number}": 0 for number in range(100_000)}).encode(), 422, "invalid-value"),
    "a million epsilons": (b'{"epsilons": [' + b'"",' * 1_000_000 + b"0]}", 422, "invalid-value"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_refused(http: httpx.AsyncClient, name: str) -> None:
    content, status, slug = BODIES[name]
    answer = await http.post(URL, content=content, headers={"Content-Type": "application/json"})
    assert_problem(answer, status, slug)
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "image/png", None])
async def test_a_body_that_is_not_json_is_refused(http: httpx.AsyncClient, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = await http.post(URL, content=json.dumps(body()), headers=headers)
    assert_problem(answer, 415, "unsupported-media-type")


async def test_a_body_of_50_megabytes_is_refused_by_its_announced_length(http: httpx.AsyncClient) -> None:
    read = False

    async def large() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield bytes(50 * 10**6)

    headers = {"Content-Type": "application/json", "Content-Length": str(50 * 10**6)}
    assert_problem(await http.post(URL, content=large(), headers=headers), 413, "too-large")
    assert not read


async def test_a_body_of_no_announced_length_is_read_up_to_the_limit(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 2**20
            yield bytes(2**20)

    answer = await http.post(URL, content=endless(), headers={"Content-Type": "application/json"})
    assert_problem(answer, 413, "too-large")
    assert sent <= 22 * 2**20


async def test_a_refusal_never_repeats_the_input(http: httpx.AsyncClient) -> None:
    hateful = "a very hateful sentence"
    wrong = {"input": {"text": [hateful], "image": hateful, hateful: hateful}, "model": 3, hateful: {}}
    answer = await http.post(URL, json=wrong)
    problem = assert_problem(answer, 422, "invalid-value")
    assert "hateful" not in answer.text
    assert {"input.text", "input.image", "input.?", "model", "?"} == {error["path"] for error in problem["errors"]}


async def test_a_refusal_names_at_most_twenty_fields(http: httpx.AsyncClient) -> None:
    answer = await http.post(URL, json=body() | {f"field{number}": 0 for number in range(90)})
    assert len(assert_problem(answer, 422, "unknown-field")["errors"]) == 20


async def test_a_model_that_is_not_served_is_not_found(http: httpx.AsyncClient) -> None:
    problem = assert_problem(await http.post(URL, json=body(model="other")), 404, "not-found")
    assert problem["detail"].endswith("served: reference-guard")
