"""Ed25519 signatures of certificates (RFC 8032, keys as in RFC 8037), and `python -m holdfast.signing` for a new key.

A signature holds a SHA-256 digest of every field of the certificate, and signs digests and key id together: an altered
field differs from its digest, which names it, and an altered digest breaks the signature.
"""

import base64
import hashlib
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel

from holdfast.certificates import Check
from holdfast.certificates.document.canonical import canonical_json, digests
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.jobs import KeySet, PublicKey, Signature

_SEED_BYTES = 32
_KEYS_AT = "/.well-known/holdfast-keys.json"


@dataclass(frozen=True)
class SigningKey:
    """A private key with its public half; it shows no secret."""

    public: PublicKey
    _private: Ed25519PrivateKey = field(repr=False, compare=False)

    @property
    def kid(self) -> str:
        """The key's id: the thumbprint of its public half."""
        return self.public.kid

    @classmethod
    def from_text(cls, text: str) -> "SigningKey":
        """The key of a 32-byte Ed25519 seed in base64, URL-safe or standard, padded or not.

        Raises:
            ValueError: it is not base64, or not of 32 bytes.
        """
        seed = _from_base64(text, "signing_key")
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(public_key(_base64url(private.public_key().public_bytes_raw())), private)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes that sign `message`."""
        return self._private.sign(message)


def public_key(x: str) -> PublicKey:
    """The public key of a JWK's `x`: 32 bytes in base64; its `kid` is its thumbprint (RFC 7638).

    Raises:
        ValueError: it is not base64, or not of 32 bytes.
    """
    x = _base64url(_from_base64(x, "verification_keys"))
    thumbprint = hashlib.sha256(canonical_json({"crv": "Ed25519", "kty": "OKP", "x": x})).digest()
    return PublicKey(kid=_base64url(thumbprint), x=x)


def key_set(current: SigningKey | None, retired: Sequence[str] = ()) -> KeySet:
    """The public keys to publish: the current one first, then the `x` of those that signed before it.

    Raises:
        ValueError: an `x` is not base64 of 32 bytes.
    """
    keys = [current.public] if current is not None else []
    keys += [public_key(x) for x in retired]
    return KeySet(keys=tuple({key.kid: key for key in keys}.values()))


def sign(certificate: Certificate | FeatureCertificate | Mapping[str, object], key: SigningKey) -> Signature:
    """Signs the certificate without its `signature` field.

    Raises:
        ValueError: a field has no canonical JSON (a number that is not finite, say).
    """
    plain = certificate.model_dump(mode="json") if isinstance(certificate, BaseModel) else certificate
    found = digests(plain)
    return Signature(kid=key.kid, digests=found, value=_base64url(key.sign(_message(found, key.kid))))


def check_signature(certificate: Mapping[str, object], keys: KeySet, *, required: bool = True) -> list[Check]:
    """Whether one of these keys signed the certificate's digests; `verify` checks each field against its digest.

    Args:
        certificate: the plain JSON object.
        keys: the public keys that are trusted.
        required: whether an unsigned certificate fails.

    Returns:
        One check of the field `signature`; never raises for what the certificate holds.
    """
    given = certificate.get("signature")
    if given is None:
        remedy = "; ask its issuer for a signed one" if required else ""
        return [_check(not required, f"unsigned: only what follows from the evidence was checked{remedy}")]
    if not isinstance(given, Mapping) or set(given) != {"alg", "kid", "digests", "value"} or given["alg"] != "EdDSA":
        return [_check(False, "must be an EdDSA signature with alg, kid, digests and value; get the certificate again")]
    known = {key.kid: key for key in (public_key(key.x) for key in keys.keys)}
    kid, value = given["kid"], given["value"]
    if not isinstance(kid, str) or kid not in known:
        return [_check(False, f"signed with a key that is not known here; the issuer's keys are at {_KEYS_AT}")]
    if isinstance(value, str) and _signed_by(known[kid], value, given["digests"]):
        return [_check(True, f"signed with key {kid}")]
    return [_check(False, f"not signed by key {kid}: the signature or its digests were altered")]


def _check(ok: bool, detail: str) -> Check:
    return Check("signature", ok, detail)


def _signed_by(key: PublicKey, value: str, signed: object) -> bool:
    try:
        message = _message(signed, key.kid)
        raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        if _base64url(raw) != value:  # the last digit has bits that decoding drops
            return False
        Ed25519PublicKey.from_public_bytes(_from_base64(key.x, "x")).verify(raw, message)
    except (ValueError, InvalidSignature):
        return False
    return True


def _message(signed: object, kid: str) -> bytes:
    return canonical_json({"digests": signed, "kid": kid})


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _from_base64(text: str, name: str) -> bytes:
    """The 32 bytes of `text`; the refusal does not repeat it, as it may be a secret."""
    standard = text.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        raise ValueError(f"{name} must be base64; python -m holdfast.signing makes a new key") from None
    if len(raw) != _SEED_BYTES:
        raise ValueError(
            f"{name} has {len(raw)} bytes, must have {_SEED_BYTES}; python -m holdfast.signing makes a new key"
        )
    return raw


def _main() -> None:
    seed = _base64url(secrets.token_bytes(_SEED_BYTES))
    public = SigningKey.from_text(seed).public
    sys.stdout.write(f"HOLDFAST_SIGNING_KEY={seed}\n{public.model_dump_json()}\n")


if __name__ == "__main__":
    _main()
