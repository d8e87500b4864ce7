"""Checking a certificate without the service: its numbers from its evidence, its signature from the keys."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from holdfast.contract.jobs import Check, Issued, KeySet, Verification
from holdfast.contract.strict_json import strict_json

Checkable: TypeAlias = Issued | Mapping[str, Any] | str | bytes
"""A certificate as the SDK gave it, its JSON as it was parsed, or its JSON; the latter two may have been altered."""


def verify(certificate: Checkable, keys: KeySet | None = None) -> Verification:
    """Recomputes a certificate from its own evidence, and checks its signature where `keys` are given.

    Without keys it says whether the numbers follow from the evidence, not who vouches for the evidence.

    Args:
        certificate: The certificate, its JSON, or that as it was parsed; it may have been altered.
        keys: The public keys to trust, as `Client.keys` gives them.

    Returns:
        One check for each of its claims, and the names of what no evidence decides, which the signature alone holds;
        with keys, an unsigned certificate is not valid.

    Raises:
        ValueError: the JSON is no certificate's, or a key is none.
        ModuleNotFoundError: the extra `verify` is not installed.
    """
    from holdfast.certificates import not_checked
    from holdfast.certificates import verify as recompute
    from holdfast.signing import check_signature

    given = _parsed(certificate)
    found = recompute(given)
    if keys is None:  # digests that fit are no signature: whoever alters a field can alter its digest
        found = [check for check in found if check.field != "signature" or not check.ok]
    else:
        found += check_signature(given, keys)
    checks = tuple(Check(field=check.field, ok=check.ok, detail=check.detail) for check in found)
    valid = all(check.ok for check in checks)
    return Verification(valid=valid, checks=checks, not_checked=tuple(not_checked(given)))


def as_json(certificate: Checkable) -> str | bytes:
    """The certificate as it goes over the wire; the service reads it strictly."""
    if isinstance(certificate, str | bytes):
        return certificate
    if isinstance(certificate, Mapping):
        return json.dumps(dict(certificate), allow_nan=False)
    return certificate.model_dump_json()


def _parsed(certificate: Checkable) -> dict[str, Any]:
    if isinstance(certificate, str | bytes):
        return certificate_from_json(certificate)
    return dict(certificate) if isinstance(certificate, Mapping) else certificate.model_dump(mode="json")


def certificate_from_json(content: str | bytes) -> dict[str, Any]:
    """The object that the JSON is; what readers of JSON could take in two ways is refused.

    Raises:
        ValueError: it is none.
    """
    try:
        certificate = strict_json(content)
    except ValueError as error:
        raise ValueError(f"the certificate is no JSON ({error}); give what `holdfast certify --json` printed") from None
    if not isinstance(certificate, dict):
        raise ValueError("the certificate must be a JSON object; give what `holdfast certify --json` printed")
    return certificate
