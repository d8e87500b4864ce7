"""Verification: what the certifier writes passes, and no part of it can be altered unseen."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.certificates import verify
from holdfast.certificates.guard.reading import size_faults
from holdfast.contract.guard.certificates import Certificate
from holdfast.signing import check_signature, key_set
from tests.certificates.altering import Json, Path, alterations, altered, failing, leaves, lengthened, unsigned
from tests.certificates.issued import KEY, KINDS, issue, issued

SMALL: dict[str, Json] = {
    "suffix": {"slots": 2, "max_tokens": 2},
    "safe": {"slots": 1, "max_tokens": 1, "rate": 0.0},
    "per budget": {"slots": 1, "max_tokens": 1, "scope": "per_budget"},
    "target": {"target": {"tokens": 1, "epsilon": 0.5}, "max_tokens": 1, "stopped": "target"},
    "l0": {**KINDS["l0"], "max_tokens": 1, "method": "stratified", "orders": 4},
    "tabular": {**KINDS["tabular"], "max_tokens": 1},
}


def small(kind: str) -> Json:
    return issue(**{"orders": 2, "epsilons": (0.5,), **SMALL[kind]})


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_certifier_writes_is_verified(kind: str) -> None:
    checks = verify(issued(kind))
    assert [check for check in checks if not check.ok] == []
    assert {check.field for check in checks} == {
        "signature", "evidence", "frontier", "max_tokens", "verdict", "target", "worst_case",
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_simulated_certificates_are_of_the_kind_they_stand_for(kind: str) -> None:
    certificate = Certificate.model_validate(issued(kind))
    wanted = {"safe": "safe", "l0 and safe": "safe", "abstained": "abstained"}
    assert certificate.verdict == wanted.get(kind, "unsafe")
    assert (certificate.target is not None) == ("target" in kind)


@pytest.mark.parametrize("kind", SMALL)
def test_every_leaf_of_a_signed_certificate_is_guarded_and_named(kind: str) -> None:
    certificate, keys = small(kind), key_set(KEY)
    assert not failing(certificate)
    for path, changed in [*alterations(certificate), *lengthened(certificate)]:
        found = [*failing(changed), *(check for check in check_signature(changed, keys) if not check.ok)]
        assert path[0] in [check.field for check in found], path


SEEN = ("evidence", "frontier", "max_tokens", "verdict", "target", "worst_case")
CLAIMS = {("target", "epsilon")}  # another radius is another claim, which the evidence may carry as well


@pytest.mark.parametrize("kind", SMALL)
def test_without_a_signature_every_number_of_evidence_and_answer_is_guarded_still(kind: str) -> None:
    certificate = unsigned(small(kind))
    for path, leaf in leaves(certificate):
        if path[0] in SEEN and path not in CLAIMS and isinstance(leaf, int | float) and not isinstance(leaf, bool):
            for other in (leaf * 1.01 + 1e-6, leaf * 0.99 - 1e-6) if isinstance(leaf, float) else (leaf + 1, leaf - 1):
                changed = altered(certificate, path, lambda holder, at=path[-1], o=other: holder.__setitem__(at, o))
                assert failing(changed), (path, leaf, other)


@pytest.mark.parametrize("kind", ["suffix", "safe", "target", "l0", "tabular"])
@pytest.mark.parametrize("path", [("tau",), ("noise", "beta"), ("noise", "sigma"), ("evidence", "alpha")])
def test_without_a_signature_every_parameter_is_guarded_still(kind: str, path: Path) -> None:
    certificate = unsigned(issued(kind))
    for factor in (0.99, 1.01):
        scale = lambda holder, at=path[-1], by=factor: holder.__setitem__(at, holder[at] * by)  # noqa: E731
        assert failing(altered(certificate, path, scale)), (path, factor)


def test_a_number_on_the_cautious_side_passes_within_a_billionth_and_one_beyond_exact_never() -> None:
    certificate = unsigned(issued("suffix"))
    row = certificate["worst_case"][1]
    exact = row["unsafe_probability_at_least"]
    for factor, passes in ((1 - 1e-10, True), (1 - 1e-8, False), (1 + 1e-15, False)):
        row["unsafe_probability_at_least"] = exact * factor
        assert (not failing(certificate)) == passes, factor


def test_a_seed_decides_the_masks_of_an_l0_certificate() -> None:
    certificate = unsigned(issued("l0 by covers"))
    certificate["seed"] = "cd" * 32
    assert failing(certificate)


def test_evidence_that_was_invented_but_agrees_passes_so_the_signature_must_be_checked() -> None:
    invented = issue(rate=1.0)
    assert not failing(unsigned(invented))
    (check,) = check_signature(unsigned(invented), key_set(KEY))
    assert not check.ok


def first_order(**changes: object) -> Callable[[Json], None]:
    return lambda certificate: certificate["evidence"]["orders"][0].update(changes)


def in_evidence(**changes: object) -> Callable[[Json], None]:
    return lambda certificate: certificate["evidence"].update(changes)


CONTRADICTIONS: dict[str, tuple[str, Callable[[Json], None], str, str]] = {
    "draws that were taken before": ("suffix", lambda c: c["evidence"]["orders"].reverse(), "evidence", "fresh draws"),
    "a gap between orders": ("suffix", lambda c: c["evidence"]["orders"].pop(0), "evidence", "fresh draws from 0"),
    "an order counted twice": (
        "suffix", lambda c: c["evidence"]["orders"].append(c["evidence"]["orders"][-1]), "evidence", "fresh draws"),
    "an order of no draws": ("suffix", first_order(stop=0), "evidence", "fresh draws"),
    "cells out of order": ("suffix", first_order(cells=[1, 0, *range(2, 9)]), "evidence", "ascending"),
    "a cell that was not asked for": ("target", first_order(cells=[0]), "evidence", "asked for"),
    "more unsafe than draws": ("target", first_order(unsafe=[17]), "evidence", "a count of its 16 draws"),
    "an outcome too few": ("l0", first_order(outcomes="ff"), "evidence", "a bit for each of its 16 draws"),
    "an outcome too many": ("l0", first_order(outcomes="ffff80"), "evidence", "a bit for each of its 16 draws"),
    "outcomes that no mask needs": ("suffix", first_order(outcomes="ffff"), "evidence", "must not be there"),
    "no outcomes where masks matter": ("l0", first_order(outcomes=None), "evidence", "must be there"),
    "a share too large": ("suffix", in_evidence(alpha_split={"unsafe": 1, "safe": 1}), "evidence", "equal share"),
    "a share for one side alone": ("suffix", in_evidence(alpha_split={"unsafe": 1}), "evidence", "equal share"),
    "a fixed bound that stopped early": (
        "suffix", in_evidence(bound="clopper_pearson"), "evidence", "passes_spent"),
    "a target that was not reached": ("suffix", in_evidence(stopped="target"), "evidence", "target"),
    "positions of no field": ("tabular", in_evidence(positions=2), "evidence", "categorical fields"),
    "masks beyond memory": ("l0", in_evidence(positions=10**6), "evidence", "33554432 masks"),
    "slots of the l0 threat": ("l0", lambda c: c["threat"].update(slots=3), "threat", "slots=3 must be 0"),
    "a budget over the slots": ("suffix", lambda c: c["threat"].update(max_tokens=9), "threat", "at most slots=8"),
    "an image threat without noise": ("text only", lambda c: c["threat"].update(image="l2"), "threat", "none"),
    "a radius without image noise": (
        "text only", lambda c: c["worst_case"][0].update(epsilon=0.5), "worst_case", "epsilon must be 0"),
    "two alphabets of tokens": ("suffix", lambda c: c["space"].update(alphabets=[5, 6]), "space", "alphabets"),
    "a range that descends": ("suffix", lambda c: c["space"].update(range=[1, 0]), "space", "ascend"),
    "a guard per budget of the l0 threat": ("l0", lambda c: c["noise"].update(scope="per_budget"), "noise", "suffix"),
    "a budget without its point": ("suffix", lambda c: c["frontier"].pop(), "frontier", "9 budgets"),
    "a row left out": ("suffix", lambda c: c["worst_case"].pop(), "worst_case", "a row for every budget"),
    "a target of another budget": ("target", lambda c: c["target"].update(tokens=1), "target", "max_tokens=2"),
    "a radius that is kept back": (
        "suffix", lambda c: c["frontier"][3].update(radius=None, native_radius=None), "frontier", "[3].radius=None"),
    "a claim of the other method": (
        "suffix", lambda c: c["frontier"][0].update(method="stratified"), "frontier", "by method neyman_pearson"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_named(name: str) -> None:
    kind, change, field, words = CONTRADICTIONS[name]
    certificate = unsigned(issued(kind))
    change(certificate)
    assert any(check.field == field and words in check.detail for check in failing(certificate)), failing(certificate)


def test_kernels_without_a_latent_form_are_a_finding_and_no_crash() -> None:
    certificate = unsigned(issued("suffix"))
    certificate["noise"]["beta"] = 0.999
    (check,) = failing(certificate)
    assert "nothing can be computed" in check.detail
    assert "(V-1)/V" in check.detail


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tau",), 5e-324), (("tau",), 1 - 2**-53), (("evidence", "alpha"), 5e-324), (("noise", "beta"), 1e-300),
        (("noise", "sigma"), 5e-324), (("space", "native_operator_norm"), 5e-324),
    ],
)  # fmt: skip
def test_parameters_at_the_ends_of_their_ranges_are_no_crash(kind: str, path: Path, value: float) -> None:
    assert failing(altered(issued(kind), path, lambda holder: holder.__setitem__(path[-1], value)))


@pytest.mark.parametrize("given", [None, [], "text", 3])
def test_what_is_no_object_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="must be a JSON object; pass it whole"):
        verify(given)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 10**400, float("nan"), float("inf"), "", "\ud800", [], {}, [None], {"": 0}, nested(900), {1: 2}],
)
def test_no_value_in_any_field_is_a_crash(value: Any) -> None:
    certificate = issued("target")
    for name in certificate:
        for given in (value, [value], {"digests": value}):
            found = failing({**certificate, name: given})
            nothing = given is None and name in ("signature", "false_flag")
            assert nothing or name in [check.field for check in found], name
            assert all(len(check.detail) < 2000 for check in found)


@pytest.mark.parametrize("name", ["orders", "cells"])
def test_a_huge_certificate_costs_no_more_than_reading_it(name: str) -> None:
    certificate = unsigned(issued("l0"))
    certificate["evidence"][name] = certificate["evidence"][name] * 5_000
    assert failing(certificate)


def test_covers_that_would_take_minutes_to_count_are_over_the_limit() -> None:
    certificate = issued("l0")
    certificate["evidence"] |= {"positions": 600, "orders": [{"stop": 10_000}]}
    assert not list(size_faults(certificate))
    certificate["evidence"]["orders"] = [{"stop": 20_000}]
    ((field, fault),) = size_faults(certificate)
    assert field == "evidence"
    assert "20000 draws must make at most 2147483648 with their covers" in fault


def test_only_limits_stand_against_a_certificate_of_many_budgets() -> None:
    certificate = issue(slots=66, max_tokens=66, epsilons=(), orders=1, alphabets=(3,), beta=0.5)
    assert [check.field for check in failing(certificate)] == ["threat"]
    assert all(check.ok for check in verify(certificate, limited=False))


@pytest.mark.parametrize("field", ["max_tokens", "slots"])
def test_a_huge_budget_is_no_work(field: str) -> None:
    certificate = unsigned(issued("suffix"))
    certificate["threat"][field] = 10**12
    assert [check.field for check in failing(certificate)] == ["threat"]
