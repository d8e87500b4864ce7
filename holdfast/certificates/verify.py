"""A certificate checked against itself: every number computed again from its own evidence.

Nothing here asks who vouches for the evidence: that is the signature's part (`holdfast.signing`). What no evidence
decides (times, model, notice, ...) is held against the signature's digests, where there are any.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.certificates.answer import Answer, answer
from holdfast.certificates.canonical import digests
from holdfast.certificates.checks import Check
from holdfast.certificates.frontier import passes_to_detect
from holdfast.certificates.reading import (
    Fault,
    counts_of,
    evidence_faults,
    parameter_faults,
    question_of,
    size_faults,
)
from holdfast.certificates.shape import CERTIFICATE, read_field
from holdfast.certificates.space import native_radius

__all__ = ["verify"]

_TOLERANCE = 1e-9
"""How far, relatively, a stated number may lie on its cautious side: other platforms' logarithms round otherwise."""
_MOST_FAULTS = 5
_COMPARED = ("evidence", "frontier", "max_tokens", "verdict", "target", "worst_case")


def verify(certificate: Mapping[str, object], *, limited: bool = True) -> list[Check]:
    """Checks that everything in a certificate follows from its own evidence (section 5 and `answer`).

    Numbers must be those that `answer` gives; one on its cautious side within 1e-9 passes. Where the certificate is
    signed, every field must have its signed digest. A certificate whose orders were invented but agree passes: check
    the signature too.

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
    malformed = _malformed(certificate)
    return [*_digest_checks(certificate), *(malformed or _recomputed(certificate, limited))]


def _malformed(certificate: Mapping[str, object]) -> list[Check]:
    found = []
    unknown = itertools.islice((name for name in certificate if name not in CERTIFICATE), _MOST_FAULTS)
    for name in (*CERTIFICATE, *unknown):
        try:
            read_field(certificate, name)
        except ValueError as error:
            found.append(Check(str(name)[:100], False, str(error)))
    return found


def _recomputed(certificate: Mapping[str, Any], limited: bool) -> list[Check]:
    sizes = size_faults(certificate) if limited else ()
    if faults := [*parameter_faults(certificate), *evidence_faults(certificate), *sizes]:
        return _checks_of(faults)
    question = question_of(certificate)
    if len(certificate["frontier"]) != question.max_tokens + 1:
        return _checks_of([("frontier", f"must have the {question.max_tokens + 1} budgets up to max_tokens")])
    grid = list(itertools.product(range(question.max_tokens + 1), question.epsilons))
    if [(row["tokens"], row["epsilon"]) for row in certificate["worst_case"]] != grid:
        return _checks_of([("worst_case", "must have a row for every budget and epsilon, in this order")])
    try:
        found = answer(question, counts_of(certificate, question))
    except (ValueError, ArithmeticError) as error:
        return _checks_of([("evidence", f"nothing can be computed from it: {error}")])
    faults = list(_differences(certificate, found))
    agreeing = [name for name in _COMPARED if name not in dict(faults)]
    return [*_checks_of(faults), *(Check(name, True, "follows from the evidence") for name in agreeing)]


def _checks_of(faults: list[Fault]) -> list[Check]:
    """One failing check per field, with its first faults."""
    by_field: dict[str, list[str]] = {}
    for name, fault in faults:
        by_field.setdefault(name, []).append(fault)
    return [Check(name, False, "; ".join(found[:_MOST_FAULTS])) for name, found in by_field.items()]


def _differences(certificate: Mapping[str, Any], found: Answer) -> Iterator[Fault]:
    yield from _bound_differences(certificate["evidence"]["cells"], found)
    yield from _frontier_differences(certificate, found)
    yield from _worst_case_differences(certificate["worst_case"], found)
    if certificate["max_tokens"] != found.max_tokens:
        yield "max_tokens", f"{certificate['max_tokens']} must be {found.max_tokens}"
    if certificate["verdict"] != found.verdict:
        yield "verdict", f"{certificate['verdict']} must be {found.verdict}"
    target = certificate["target"]
    if target is not None and target["verdict"] != found.target:
        yield "target", f"verdict={target['verdict']} must be {found.target}"


def _bound_differences(cells: list[Mapping[str, Any]], found: Answer) -> Iterator[Fault]:
    for index, (cell, lower, upper) in enumerate(zip(cells, found.lower, found.upper, strict=True)):
        if not _at_most(cell["lower"], lower):
            yield "evidence", f"cells[{index}].lower={cell['lower']} must be {lower}"
        if not _at_least(cell["upper"], upper):
            yield "evidence", f"cells[{index}].upper={cell['upper']} must be {upper}"


def _frontier_differences(certificate: Mapping[str, Any], found: Answer) -> Iterator[Fault]:
    norm = certificate["space"]["native_operator_norm"]
    for index, (point, exact) in enumerate(zip(certificate["frontier"], found.frontier, strict=True)):
        path, radius = f"[{index}]", point["radius"]
        if point["tokens"] != exact.tokens or point["method"] != exact.method:
            yield "frontier", f"{path} must be of {exact.tokens} tokens by method {exact.method}"
        agrees = radius is None if exact.radius is None else radius is not None and _at_most(radius, exact.radius)
        if not agrees:
            yield "frontier", f"{path}.radius={radius} must be {exact.radius}"
        elif point["native_radius"] != native_radius(radius, norm):
            yield "frontier", f"{path}.native_radius={point['native_radius']} must be {native_radius(radius, norm)}"


def _worst_case_differences(rows: list[Mapping[str, Any]], found: Answer) -> Iterator[Fault]:
    for index, (row, exact) in enumerate(zip(rows, found.worst_case, strict=True)):
        least, most = row["unsafe_probability_at_least"], row["unsafe_probability_at_most"]
        passes = row["passes_to_detect"]
        if not _at_most(least, exact.at_least):
            yield "worst_case", f"[{index}].unsafe_probability_at_least={least} must be {exact.at_least}"
        elif passes != (needed := passes_to_detect(least) if least > 0 else None):
            yield "worst_case", f"[{index}].passes_to_detect={passes} must be {needed}"
        if not _at_least(most, exact.at_most):
            yield "worst_case", f"[{index}].unsafe_probability_at_most={most} must be {exact.at_most}"


def _at_most(stated: float, exact: float) -> bool:
    return exact * (1.0 - _TOLERANCE) <= stated <= exact


def _at_least(stated: float, exact: float) -> bool:
    return exact <= stated <= exact * (1.0 + _TOLERANCE)


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
