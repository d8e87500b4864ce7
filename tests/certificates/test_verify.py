"""Verification of both chapters: what the certifier writes passes, and no part of it can be altered unseen."""

import json
import math
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from holdfast.certificates import verify
from holdfast.certificates.document.envelope import RISK, SIGMA
from holdfast.certificates.document.readers import Reader
from holdfast.certificates.guard.reading import size_faults
from holdfast.certificates.noise.space import native_radius
from holdfast.contract.base import Confidence, Strict
from holdfast.contract.features.requests import FeatureNoise
from holdfast.contract.guard.requests import Noise
from holdfast.signing import check_signature, key_set
from tests.certificates import feature_issued, issued
from tests.certificates.altering import Json, Path, alterations, altered, failing, leaves, lengthened, set_to, unsigned
from tests.certificates.contradictions import FEATURE, GUARD, Change

Case = tuple[str, str]  # chapter and kind

CHAPTERS: dict[str, Any] = {"guard": issued, "feature": feature_issued}
SMALL: dict[str, dict[str, Json]] = {
    "guard": {
        "suffix": {"slots": 2, "max_tokens": 2},
        "safe": {"slots": 1, "max_tokens": 1, "rate": 0.0},
        "per budget": {"slots": 1, "max_tokens": 1, "scope": "per_budget"},
        "target": {"target": {"tokens": 1, "epsilon": 0.5}, "max_tokens": 1, "stopped": "target"},
        "append": {**issued.APPEND, "max_tokens": 1},
        "l0": {**issued.KINDS["l0"], "max_tokens": 1, "method": "joint", "near_tie": 0.05},
        "tabular": {**issued.KINDS["tabular"], "max_tokens": 1},
    },
    "feature": {
        kind: feature_issued.KINDS[kind]
        for kind in ("feature", "prototypes", "linear", "prediction target", "target missed", "embedding",
                     "token embedding")
    },
}  # fmt: skip
FEW = {"guard": {"draws": 35, "epsilons": (0.5,)}, "feature": {"draws": 50, "epsilons": (0.05,)}}
FIELDS = {
    "guard": {
        "signature",
        "reason",
        "notice",
        "space",
        "false_flag",
        "evidence",
        "frontier",
        "max_tokens",
        "verdict",
        "target",
        "worst_case",
    },
    "feature": {"signature", "notice", "space", "evidence", "bounds", "radii", "prediction", "embedding", "target"},
}
CLAIMS_OF_ITS_OWN = {("target", "epsilon"), ("evidence", "tie_band")}
FEATURE_NUMBERS = {"inner_product_at_least", "cosine_at_least", "radius", "native_radius", "certified"}
EVERY = [(chapter, kind) for chapter, module in CHAPTERS.items() for kind in module.KINDS]
FEW_OF_EACH = [(chapter, kind) for chapter, kinds in SMALL.items() for kind in kinds]


def certificate_of(case: Case) -> Json:
    chapter, kind = case
    return dict(CHAPTERS[chapter].issued(kind))


def small(case: Case) -> Json:
    """A certificate of this kind with as few numbers as can be."""
    chapter, kind = case
    return dict(CHAPTERS[chapter].issue(**{**SMALL[chapter][kind], **FEW[chapter]}))


def each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=["-".join(case) for case in cases])


@each(EVERY)
def test_what_the_certifier_writes_is_verified(case: Case) -> None:
    checks = verify(certificate_of(case))
    assert [check for check in checks if not check.ok] == []
    assert {check.field for check in checks} == FIELDS[case[0]]


@pytest.mark.parametrize("kind", issued.KINDS)
def test_the_guards_certificates_are_of_the_kind_they_stand_for(kind: str) -> None:
    certificate, wanted = issued.issued(kind), {"safe": "safe", "l0 and safe": "safe", "abstained": "abstained"}
    assert certificate["verdict"] == wanted.get(kind, "unsafe")
    assert (certificate["target"] is not None) == ("target" in kind)


@pytest.mark.parametrize("kind", feature_issued.KINDS)
def test_the_encoders_certificates_are_of_the_kind_they_stand_for_and_certify_something(kind: str) -> None:
    certificate = feature_issued.issued(kind)
    headed = {"prototypes", "linear", "any time with a head", "target missed", "prediction target"}
    assert (certificate["prediction"] is not None) == (kind in headed)
    assert (certificate["embedding"] is not None) == ("embedding" in kind)
    assert (certificate["target"] is not None) == ("target" in kind)
    assert certificate["target"] is None or certificate["target"]["certified"] == ("missed" not in kind)
    assert all(row["radius"] for row in (certificate["prediction"] or {"radii": []})["radii"])
    assert certificate["bounds"][0]["cosine_at_least"]


@pytest.mark.slow
@each(FEW_OF_EACH)
def test_every_leaf_of_a_signed_certificate_is_guarded_and_named(case: Case) -> None:
    certificate, keys = small(case), key_set(issued.KEY)
    assert not failing(certificate)
    for path, changed in [*alterations(certificate), *lengthened(certificate)]:
        found = [*failing(changed), *(check for check in check_signature(changed, keys) if not check.ok)]
        assert path[0] in [check.field for check in found], path


def near(leaf: Any) -> list[Any]:
    """Numbers beside this one, far enough away to be another claim."""
    if isinstance(leaf, bool):
        return [not leaf, 0.5]
    return [leaf * 1.01 + 1e-6, leaf * 0.99 - 1e-6] if isinstance(leaf, float) else [leaf + 1, leaf - 1]


def is_computed(chapter: str, path: Path, leaf: Any) -> bool:
    """Whether the verifier must have found this number itself: a target and an assumption are claims of their own."""
    if chapter == "feature":
        return path[0] in FIELDS[chapter] and path[-1] in FEATURE_NUMBERS and leaf is not None
    numeric = isinstance(leaf, int | float) and not isinstance(leaf, bool)
    return numeric and path[0] in FIELDS[chapter] - {"space"} and path not in CLAIMS_OF_ITS_OWN


@each([*FEW_OF_EACH, *(case for case in EVERY if case[0] == "feature" and case not in FEW_OF_EACH)])
def test_without_a_signature_every_computed_number_is_guarded_still(case: Case) -> None:
    certificate = unsigned(small(case) if case in FEW_OF_EACH else certificate_of(case))
    computed = [(path, leaf) for path, leaf in leaves(certificate) if is_computed(case[0], path, leaf)]
    assert computed
    for path, leaf in computed:
        for other in near(leaf):
            assert failing(altered(certificate, path, set_to(path, other))), (path, leaf, other)


PARAMETERS: dict[str, list[Path]] = {
    "guard": [
        ("tau",), ("noise", "beta"), ("noise", "sigma"), ("evidence", "alpha"), ("space", "native_operator_norm"),
    ],
    "feature": [("sigma",), ("evidence", "alpha"), ("space", "native_operator_norm")],
}  # fmt: skip


@each([*(("guard", kind) for kind in ("suffix", "safe", "target", "l0", "tabular")), *FEW_OF_EACH[-7:]])
def test_without_a_signature_every_parameter_is_guarded_still(case: Case) -> None:
    certificate = unsigned(certificate_of(case))
    for path in PARAMETERS[case[0]]:
        for factor in (0.99, 1.01):
            assert failing(altered(certificate, path, partial(scale, path[-1], factor))), (path, factor)


def scale(at: str | int, factor: float, holder: Any) -> None:
    holder[at] *= factor


def test_a_seed_decides_the_masks_of_an_l0_certificate() -> None:
    certificate = unsigned(issued.issued("l0 by covers"))
    certificate["seed"] = "cd" * 32
    assert failing(certificate)


def test_every_count_of_an_encoders_reference_is_guarded_still() -> None:
    certificate = unsigned(feature_issued.issued("feature"))
    for path, leaf in leaves(certificate["evidence"]["channels"], ("evidence", "channels")):
        for other in near(leaf) if isinstance(leaf, int) else ():
            assert failing(altered(certificate, path, set_to(path, other))), (path, leaf)


def test_a_number_on_the_cautious_side_passes_within_a_billionth_and_one_beyond_exact_never() -> None:
    certificate = unsigned(issued.issued("suffix"))
    row = certificate["worst_case"][1]
    exact = row["unsafe_probability_at_least"]
    for factor, passes in ((1 - 1e-10, True), (1 - 1e-8, False), (1 + 1e-15, False)):
        row["unsafe_probability_at_least"] = exact * factor
        assert (not failing(certificate)) == passes, factor


def test_the_same_holds_for_an_encoders_bounds_and_radii() -> None:
    certificate = unsigned(feature_issued.issued("feature"))
    row, wide = certificate["radii"][0], certificate["bounds"][0]
    radius, inner = row["radius"], wide["inner_product_at_least"]
    for step, passes in ((-1e-10, True), (-1e-8, False), (1e-15, False)):
        wide["inner_product_at_least"] = wide["cosine_at_least"] = inner + step
        assert (not failing(certificate)) == passes, step
    wide["inner_product_at_least"] = wide["cosine_at_least"] = inner
    for step, passes in ((-1e-10, True), (-1e-8, False), (1e-15, False)):
        row["radius"] = radius + step
        row["native_radius"] = native_radius(row["radius"], certificate["space"]["native_operator_norm"])
        assert (not failing(certificate)) == passes, step


def test_channels_may_come_in_any_order_and_a_share_under_any_spelling_of_its_number() -> None:
    certificate = unsigned(feature_issued.issued("prototypes"))
    certificate["evidence"]["channels"].reverse()
    certificate["evidence"]["alpha_split"] = dict(reversed(certificate["evidence"]["alpha_split"].items()))
    assert not failing(certificate)


@pytest.mark.parametrize(
    "invented", [issued.issue(rate=1.0), feature_issued.issue(alpha=0.5)], ids=["guard", "feature"]
)
def test_evidence_that_was_invented_but_agrees_passes_so_the_signature_must_be_checked(invented: Json) -> None:
    assert not failing(unsigned(invented))
    (check,) = check_signature(unsigned(invented), key_set(issued.KEY))
    assert not check.ok


CONTRADICTIONS = [
    *(("guard", name, *row) for name, row in GUARD.items()),
    *(("feature", name, *row) for name, row in FEATURE.items()),
]


@pytest.mark.parametrize(
    ("chapter", "name", "kind", "change", "field", "words"), CONTRADICTIONS, ids=[row[1] for row in CONTRADICTIONS]
)
def test_a_contradiction_is_named(chapter: str, name: str, kind: str, change: Change, field: str, words: str) -> None:
    certificate = unsigned(certificate_of((chapter, kind)))
    change(certificate)
    assert any(check.field == field and words in check.detail for check in failing(certificate)), failing(certificate)


def test_kernels_without_a_latent_form_are_a_finding_and_no_crash() -> None:
    certificate = unsigned(issued.issued("suffix"))
    certificate["noise"]["beta"] = 0.999
    (check,) = failing(certificate)
    assert "nothing can be computed" in check.detail
    assert "(V-1)/V" in check.detail


ENDS: dict[str, list[tuple[Path, float]]] = {
    "guard": [
        (("tau",), 5e-324), (("tau",), 1 - 2**-53), (("evidence", "alpha"), 5e-324), (("noise", "beta"), 1e-300),
        (("noise", "sigma"), 5e-324), (("space", "native_operator_norm"), 5e-324),
    ],
    "feature": [
        (("sigma",), 5e-324), (("sigma",), 100.0), (("evidence", "alpha"), 5e-324),
        (("space", "native_operator_norm"), 5e-324), (("bounds", 0, "epsilon"), 5e-324),
    ],
}  # fmt: skip


@each([case for case in EVERY if case[0] == "guard" or case[1] in ("prototypes", "any time", "embedding")])
def test_parameters_at_the_ends_of_their_ranges_are_no_crash(case: Case) -> None:
    for path, value in ENDS[case[0]]:
        certificate = certificate_of(case)
        if case[0] == "feature" and path[-1] == "alpha":
            shares = certificate["evidence"]["alpha_split"]
            shares |= dict.fromkeys(shares, value / len(shares))
        assert failing(altered(certificate, path, set_to(path, value))), (path, value)


@pytest.mark.parametrize("given", [None, [], "text", 3])
def test_what_is_no_object_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="must be a JSON object; pass it whole"):
        verify(given)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


OPTIONAL = {"guard": {"signature", "false_flag"}, "feature": {"signature", "embedding"}}


@each([("guard", "target"), ("feature", "prediction target")])
@pytest.mark.parametrize(
    "value",
    [None, True, -1, 10**400, float("nan"), float("inf"), "", "\ud800", [], {}, [None], {"": 0}, nested(900), {1: 2}],
)
def test_no_value_in_any_field_is_a_crash(case: Case, value: Any) -> None:
    certificate = certificate_of(case)
    for name in certificate:
        for given in (value, [value], {"digests": value}):
            found = failing({**certificate, name: given})
            nothing = given == certificate[name] or (given is None and name in OPTIONAL[case[0]])
            assert nothing or name in [check.field for check in found], name
            assert all(len(check.detail) < 2000 for check in found)


def test_a_field_of_guards_is_unknown_to_a_feature_certificate() -> None:
    certificate = unsigned(feature_issued.issued("feature"))
    certificate["tau"] = 0.5
    (check,) = failing(certificate)
    assert (check.field, "no field 'tau'" in check.detail) == ("tau", True)


@pytest.mark.parametrize("name", ["scores", "cells"])
def test_a_huge_certificate_costs_no_more_than_reading_it(name: str) -> None:
    certificate = unsigned(issued.issued("l0"))
    certificate["evidence"][name] = certificate["evidence"][name] * 5_000
    assert failing(certificate)


@pytest.mark.parametrize(("changes", "words"), [
    ({"draws": 10**6, "tails": 8, "passes": 72 * 10**6}, "a bit for each of 72000000 votes"),
    ({"unsafe": "A" * 2**20}, "must have 432, a bit for each of 3456 votes"),
])  # fmt: skip
def test_a_plane_of_another_size_than_is_stated_is_not_laid_out(changes: Json, words: str) -> None:
    certificate = unsigned(issued.issued("suffix"))
    certificate["evidence"] |= changes
    assert any(words in check.detail for check in failing(certificate))


def test_votes_and_covers_that_would_take_minutes_to_count_are_over_the_limit() -> None:
    certificate = issued.issued("l0")
    certificate["evidence"] |= {"positions": 600, "draws": 5_000}
    assert not list(size_faults(certificate))
    certificate["evidence"]["draws"] = 20_000
    ((field, fault),) = size_faults(certificate)
    assert field == "evidence"
    assert "40000 tails must make at most 2147483648 with their covers" in fault
    certificate = issued.issued("suffix")
    certificate["evidence"] |= {"draws": 1_000_000, "tails": 8}
    assert not list(size_faults(certificate))
    certificate["evidence"]["cells"] *= 2
    ((field, fault),) = size_faults(certificate)
    assert field == "evidence"
    assert "144000000 votes must be at most 134217728" in fault


def test_only_limits_stand_against_a_certificate_of_many_budgets() -> None:
    certificate = issued.issue(slots=66, max_tokens=66, epsilons=(), draws=16, alphabets=(3,), beta=0.5)
    assert [check.field for check in failing(certificate)] == ["threat"]
    assert all(check.ok for check in verify(certificate, limited=False))


@pytest.mark.parametrize(("tails", "near_tie"), [(4, 0.0), (4, 0.01), (8, 0.01)])
def test_a_thousand_draws_in_nine_cells_are_a_certificate_of_under_forty_kilobytes(tails: int, near_tie: float) -> None:
    certificate = issued.issue(draws=1000, tails=tails, near_tie=near_tie, method="stratified", tau=1e-4)
    assert len(certificate["evidence"]["cells"]) == 9
    assert len(json.dumps(certificate)) < 40_000


@pytest.mark.parametrize("rate", [0.01, 0.99])
def test_near_ties_count_against_whichever_verdict_is_certified(rate: float) -> None:
    with_ties, without = (issued.issue(rate=rate, near_tie=share) for share in (0.03, 0.0))
    assert [one["verdict"] for one in (with_ties, without)] == ["unsafe" if rate > 0.5 else "safe"] * 2
    pairs = list(zip(with_ties["frontier"], without["frontier"], strict=True))
    assert all((one["radius"] or 0.0) <= (other["radius"] or 0.0) for one, other in pairs)
    assert with_ties["frontier"][0]["radius"] < without["frontier"][0]["radius"]
    for one, other in zip(with_ties["evidence"]["scores"], without["evidence"]["scores"], strict=True):
        assert one["lower"] <= other["lower"] <= other["upper"] <= one["upper"]


@pytest.mark.parametrize("field", ["max_tokens", "slots"])
def test_a_huge_budget_is_no_work(field: str) -> None:
    certificate = unsigned(issued.issued("suffix"))
    certificate["threat"][field] = 10**12
    assert [check.field for check in failing(certificate)] == ["threat"]


RANGES: list[tuple[Reader, type[Strict], str, float, float]] = [
    (RISK, Confidence, "alpha", 1e-12, 0.5),
    (SIGMA, FeatureNoise, "sigma", 1e-6, 100.0),
    (SIGMA, Noise, "sigma", 1e-6, 100.0),
]


def is_read(reader: Reader, value: float) -> bool:
    try:
        reader(value, "value")
    except ValueError:
        return False
    return True


def is_asked(request: type[Strict], name: str, value: float) -> bool:
    try:
        request.model_validate({name: value})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("reader", "request_of", "name", "least", "most"), RANGES)
def test_the_service_and_the_verifier_refuse_the_same_values(
    reader: Reader, request_of: type[Strict], name: str, least: float, most: float
) -> None:
    assert is_read(reader, least)
    assert is_read(reader, most)
    for value in (least, most, math.nextafter(least, 0), math.nextafter(most, math.inf), 0.0, 0.01, 1.0, -1.0):
        assert is_read(reader, value) == is_asked(request_of, name, value), value


@pytest.mark.parametrize(("kind", "alpha"), [("feature", 0.9e-12), ("embedding", 1e-14)])
def test_a_risk_that_the_service_refuses_is_refused_here(kind: str, alpha: float) -> None:
    certificate = unsigned(feature_issued.issued(kind))
    shares = certificate["evidence"]["alpha_split"]
    certificate["evidence"] |= {"alpha": alpha, "alpha_split": dict.fromkeys(shares, alpha / len(shares))}
    if kind == "embedding":
        certificate["embedding"]["alpha"] = 9 * alpha
    assert any("must be 1e-12 to 0.5" in check.detail for check in failing(certificate))
