"""A certificate checked against itself: every number computed again from its own evidence.

Nothing here asks who vouches for the evidence: that is the signature's part (`holdfast.signing`). The reading of the
document is the verifier's own: it shares no line with what wrote it, so that a slip in the one is found by the other.
"""

import itertools
from collections.abc import Mapping

from holdfast.certificates.document.canonical import digests
from holdfast.certificates.document.checks import Check
from holdfast.certificates.document.readers import Reader, read_field
from holdfast.certificates.document.unchecked import present
from holdfast.certificates.features.comparison import recomputed_feature
from holdfast.certificates.features.shape import FEATURE_CERTIFICATE
from holdfast.certificates.features.unchecked import feature_unchecked
from holdfast.certificates.guard.comparison import recomputed_guard
from holdfast.certificates.guard.shape import CERTIFICATE
from holdfast.certificates.guard.unchecked import guard_unchecked

_MOST_UNKNOWN = 5


def verify(certificate: Mapping[str, object], *, limited: bool = True) -> list[Check]:
    """Checks that everything in a certificate follows from its own evidence.

    In this order; step 2 must hold for 3 to 6 to be taken, and those for step 7:

    1. Where the certificate is signed, every field has its signed digest, and no field that was signed is missing.
    2. It has the fields of its kind and no other, each of its type and within its legal range (`shape`).
    3. Its parameters do not contradict each other: threat, noise, cells, target and the shares of alpha (`reading`).
    4. Its evidence does not contradict itself: planes have a bit for every vote, and counts are theirs (`reading`).
    5. It is small enough to be computed again for a stranger, if `limited`.
    6. It has a row for every budget, epsilon, cosine floor and method that the parameters ask for (`comparison`). Its
       space is that of its kind of model, the operator norm that of the resize between its two sizes (`space`), and a
       measured false-flag bound follows from its counts.
    7. Every bound, radius, verdict and decision is what `answer` or `feature_answer` gives for its evidence, or lies
       on the cautious side of it within 1e-9; masks are drawn again from the seed. Every sentence is the one that the
       numbers give (`words`).

    What no evidence decides (times, model, the counts themselves) is held by step 1 alone; `not_checked` names it.
    Evidence that was invented but agrees passes: check the signature too.

    Args:
        certificate: the plain JSON object, as it was parsed. It may come from anyone.
        limited: fail what would take more than about a minute or a gigabyte to compute again.

    Returns:
        Checks, at least one of which is not ok if anything is wrong; each names the top-level field.

    Raises:
        ValueError: it is no JSON object.
    """
    if not isinstance(certificate, Mapping):
        raise ValueError(f"certificate is a {type(certificate).__name__}, must be a JSON object; pass it whole")
    feature = certificate.get("kind") == "feature"
    checks = _malformed(certificate, FEATURE_CERTIFICATE if feature else CERTIFICATE)
    if not checks:
        checks = recomputed_feature(certificate, limited) if feature else recomputed_guard(certificate, limited)
    return [*_digest_checks(certificate), *checks]


def not_checked(certificate: Mapping[str, object]) -> list[str]:
    """What `verify` takes as it stands, as no evidence decides it: the signature alone holds it.

    Args:
        certificate: the plain JSON object, as it was parsed.

    Returns:
        Names of fields, and of what is in them by dots, without indexes of lists. `evidence` is named where the counts
        are meant that everything else follows from.
    """
    feature = certificate.get("kind") == "feature"
    return present(certificate, feature_unchecked(certificate) if feature else guard_unchecked(certificate))


def _malformed(certificate: Mapping[str, object], fields: Mapping[str, Reader]) -> list[Check]:
    found = []
    unknown = itertools.islice((name for name in certificate if name not in fields), _MOST_UNKNOWN)
    for name in (*fields, *unknown):
        try:
            read_field(certificate, name, fields)
        except ValueError as error:
            found.append(Check(str(name)[:100], False, str(error)))
    return found


def _digest_checks(certificate: Mapping[str, object]) -> list[Check]:
    signature = certificate.get("signature")
    if signature is None:
        return []
    signed = signature.get("digests") if isinstance(signature, Mapping) else None
    if not isinstance(signed, Mapping):
        return [Check("signature", False, "must have the digests that it signs; get the certificate again")]
    differing = [name for name in certificate if name != "signature" and not _has_digest(certificate, name, signed)]
    missing = [name for name in signed if name not in certificate or name == "signature"]
    faults = [Check(str(name)[:100], False, "differs from its signed digest: it was altered") for name in differing]
    faults += [Check(str(name)[:100], False, "was signed, but is missing") for name in missing]
    return faults or [Check("signature", True, "every field has its signed digest")]


def _has_digest(certificate: Mapping[str, object], name: str, signed: Mapping[str, object]) -> bool:
    try:
        return digests({name: certificate[name]})[name] == signed.get(name)
    except (ValueError, KeyError):
        return False
