"""Signatures: what they cover, which keys they trust, and that no key shows."""

import base64
import copy
import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from holdfast.contract.jobs import KeySet
from holdfast.signing import SigningKey, check_signature, key_set, public_key, sign

SEED = bytes(range(32))
KEY = SigningKey.from_text(base64.b64encode(SEED).decode())
OTHER = SigningKey.from_text(base64.b64encode(bytes(32)).decode())


def signed(key: SigningKey = KEY, **fields: object) -> dict[str, Any]:
    certificate: dict[str, Any] = {"id": "cert_1", "tau": 0.3, "notice": ["a", "ü"], "signature": None, **fields}
    return {**certificate, "signature": sign(certificate, key).model_dump()}


def accepted(certificate: dict[str, Any], keys: KeySet, **how: bool) -> bool:
    (check,) = check_signature(certificate, keys, **how)
    assert check.field == "signature"
    return check.ok


def test_a_signed_certificate_is_accepted_by_its_key_and_by_no_other() -> None:
    assert accepted(signed(), key_set(KEY))
    assert not accepted(signed(), key_set(OTHER))


def test_the_signature_is_ed25519_over_digests_and_key_id() -> None:
    signature = signed()["signature"]
    message = json.dumps(
        {"digests": signature["digests"], "kid": KEY.kid}, sort_keys=True, separators=(",", ":")
    ).encode()
    raw = base64.urlsafe_b64decode(signature["value"] + "==")
    public = base64.urlsafe_b64decode(KEY.public.x + "=")
    Ed25519PublicKey.from_public_bytes(public).verify(raw, message)
    assert signature["digests"]["notice"] == hashlib.sha256('["a","ü"]'.encode()).hexdigest()


def test_a_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    # RFC 8037, appendix A.3
    key = public_key("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert key.kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_seed_gives_the_public_key_of_rfc_8037() -> None:
    key = SigningKey.from_text("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    assert key.public.x == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", ["", "="])
def test_a_seed_may_be_standard_or_url_safe_base64(encode: Any, padding: str) -> None:
    seed = b"\xfb\xff" * 16
    assert (
        SigningKey.from_text(f" {encode(seed).decode().rstrip('=')}{padding}\n").public
        == SigningKey.from_text(base64.b64encode(seed).decode()).public
    )


@pytest.mark.parametrize(
    ("text", "rule"),
    [("", "has 0 bytes, must have 32"), ("AAAA", "has 3 bytes, must have 32"), ("no secret!", "must be base64")],
)
def test_a_bad_seed_is_refused_without_repeating_it(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refusal:
        SigningKey.from_text(text)
    assert "python -m holdfast.signing" in str(refusal.value)
    assert not text or text not in str(refusal.value)


def test_a_key_does_not_show_its_seed() -> None:
    shown = repr(KEY) + str(KEY)
    assert KEY.kid in shown
    assert not any(secret in shown for secret in (base64.b64encode(SEED).decode()[:20], SEED.hex(), repr(SEED)))


def test_a_retired_key_is_still_trusted_and_the_new_one_comes_first() -> None:
    keys = key_set(OTHER, [KEY.public.x])
    assert [key.kid for key in keys.keys] == [OTHER.kid, KEY.kid]
    assert accepted(signed(), keys)
    assert accepted(signed(OTHER), keys)


def test_a_key_that_is_current_and_retired_is_published_once() -> None:
    assert key_set(KEY, [KEY.public.x]) == key_set(KEY)


def test_an_unknown_key_fails_and_says_where_keys_are() -> None:
    (check,) = check_signature(signed(OTHER), key_set(KEY))
    assert not check.ok
    assert "/.well-known/holdfast-keys.json" in check.detail


def test_a_key_under_anothers_id_is_not_trusted() -> None:
    certificate = signed(OTHER)
    certificate["signature"]["kid"] = KEY.kid
    posing = KeySet(keys=(OTHER.public.model_copy(update={"kid": KEY.kid}),))
    assert not accepted(certificate, key_set(KEY))
    assert not accepted(certificate, posing)


@pytest.mark.parametrize("missing", [{"signature": None}, {}])
def test_an_unsigned_certificate_passes_only_where_none_is_required(missing: dict[str, Any]) -> None:
    assert not accepted(missing, key_set(KEY))
    assert accepted(missing, key_set(None), required=False)
    (check,) = check_signature(missing, key_set(None), required=False)
    assert "unsigned" in check.detail


def test_every_character_of_a_signature_counts() -> None:
    certificate = signed()
    value = certificate["signature"]["value"]
    for index, letter in enumerate(value):
        certificate["signature"]["value"] = value[:index] + ("B" if letter == "A" else "A") + value[index + 1 :]
        assert not accepted(certificate, key_set(KEY)), index


def test_the_unused_bits_of_the_last_character_count_too() -> None:
    certificate = signed()
    value = certificate["signature"]["value"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = value[:-1] + alphabet[alphabet.index(value[-1]) ^ 1]
    assert base64.urlsafe_b64decode(twin + "==") == base64.urlsafe_b64decode(value + "==")
    certificate["signature"]["value"] = twin
    assert not accepted(certificate, key_set(KEY))


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"}, {"alg": None}, {"kid": 3}, {"kid": None}, {"value": ""}, {"value": None}, {"value": "ü"},
        {"digests": {}}, {"digests": None}, {"digests": float("nan")}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_malformed_signature_fails_and_does_not_crash(change: dict[str, Any]) -> None:
    certificate = signed()
    certificate["signature"] |= change
    assert not accepted(certificate, key_set(KEY))


@pytest.mark.parametrize("signature", [3, "text", [], {}, True])
def test_what_is_no_signature_fails(signature: object) -> None:
    assert not accepted({"signature": signature}, key_set(KEY))


def test_an_altered_digest_breaks_the_signature() -> None:
    certificate = copy.deepcopy(signed())
    certificate["signature"]["digests"]["tau"] = "0" * 64
    assert not accepted(certificate, key_set(KEY))


def test_a_certificate_keeps_its_digests_through_other_writers_of_json() -> None:
    as_written = signed(epsilon=1.0, count=3)
    as_javascript = json.loads(json.dumps(as_written).replace("1.0", "1"))
    assert sign(as_javascript, KEY).digests == as_written["signature"]["digests"]


def test_a_number_that_is_not_finite_cannot_be_signed() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        sign({"tau": float("inf")}, KEY)


def test_the_command_makes_a_key_and_shows_its_public_half() -> None:
    command = [sys.executable, "-m", "holdfast.signing"]
    setting, jwk = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    name, _, seed = setting.partition("=")
    assert name == "HOLDFAST_SIGNING_KEY"
    assert json.loads(jwk) == SigningKey.from_text(seed).public.model_dump()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PLAIN = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "signature"), JSON, min_size=1, max_size=5)


@given(PLAIN)
def test_whatever_is_signed_is_accepted_also_once_it_went_over_the_wire(plain: dict[str, Any]) -> None:
    certificate = {**plain, "signature": sign(plain, KEY).model_dump()}
    assert accepted(certificate, key_set(KEY))
    back = json.loads(json.dumps(certificate))
    assert accepted(back, key_set(KEY))
    assert sign({name: back[name] for name in plain}, KEY).digests == certificate["signature"]["digests"]


@given(PLAIN, JSON, st.data())
def test_an_altered_field_is_the_one_whose_digest_differs(
    plain: dict[str, Any], value: Any, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(plain)))
    if json.dumps(value, sort_keys=True) == json.dumps(plain[name], sort_keys=True):
        return
    before, after = sign(plain, KEY).digests, sign({**plain, name: value}, KEY).digests
    differing = {field for field in before if before[field] != after[field]}
    assert differing == {name} or (differing == set() and value == plain[name])  # 1 and 1.0 are one number


@given(PLAIN, st.data())
def test_a_signature_holds_a_digest_of_every_field_and_counts_each(plain: dict[str, Any], data: st.DataObject) -> None:
    certificate = {**plain, "signature": sign(plain, KEY).model_dump()}
    found = certificate["signature"]["digests"]
    assert set(found) == set(plain)
    name = data.draw(st.sampled_from(sorted(found)))
    without = {field: digest for field, digest in found.items() if field != name}
    swapped = {**found, name: hashlib.sha256(found[name].encode()).hexdigest()}
    for forged in (without, swapped, {**found, f"{name}!": found[name]}):
        assert not accepted({**certificate, "signature": {**certificate["signature"], "digests": forged}}, key_set(KEY))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_signature_is_the_seeds_own_and_always_the_same(seed: bytes, another: bytes) -> None:
    one, other = (SigningKey.from_text(base64.b64encode(raw).decode()) for raw in (seed, another))
    assert sign({"tau": 0.3}, one) == sign({"tau": 0.3}, one)
    assert accepted(signed(one), key_set(one))
    assert accepted(signed(one), key_set(other, [one.public.x]))
    assert accepted(signed(one), key_set(other)) == (seed == another)


@given(st.binary(max_size=64).filter(lambda raw: len(raw) != 32))
def test_a_seed_of_another_length_is_refused_with_its_length(raw: bytes) -> None:
    with pytest.raises(ValueError, match=f"^signing_key has {len(raw)} bytes, must have 32; python -m"):
        SigningKey.from_text(base64.b64encode(raw).decode())


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5)
)
def test_no_signature_that_a_stranger_writes_crashes_the_check(written: object) -> None:
    assert not accepted({"tau": 0.3, "signature": written}, key_set(KEY)) or written is None
    parts = {"alg": "EdDSA", "kid": KEY.kid, "digests": written, "value": written}
    assert not accepted({"tau": 0.3, "signature": parts}, key_set(KEY))
