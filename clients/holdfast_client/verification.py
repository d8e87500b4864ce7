"""Checking a certificate without the service: its numbers from its evidence, its signature from the keys."""

from collections.abc import Mapping
from typing import Any

from holdfast.contract.jobs import Check, KeySet, Verification

__all__ = ["verify"]


def verify(certificate: Mapping[str, Any], keys: KeySet | None = None) -> Verification:
    """Recomputes a certificate from its own evidence, and checks its signature where `keys` are given.

    Without keys it says whether the numbers follow from the evidence, not who vouches for the evidence.

    Args:
        certificate: The certificate's JSON as it was parsed; it may have been altered.
        keys: The public keys to trust, as `Client.keys` gives them.

    Returns:
        One check for each of its claims; with keys, an unsigned certificate is not valid.

    Raises:
        ValueError: a key is none.
        ModuleNotFoundError: the extra `verify` is not installed.
    """
    from holdfast.certificates import verify as recompute
    from holdfast.signing import check_signature

    given = dict(certificate)
    found = recompute(given)
    if keys is None:  # digests that fit are no signature: whoever alters a field can alter its digest
        found = [check for check in found if check.field != "signature" or not check.ok]
    else:
        found += check_signature(given, keys)
    checks = tuple(Check(field=check.field, ok=check.ok, detail=check.detail) for check in found)
    return Verification(valid=all(check.ok for check in checks), checks=checks)
