"""Verification of feature certificates: what is written passes, and no part of it can be altered unseen."""

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.certificates import native_radius, verify
from holdfast.signing import check_signature, key_set
from tests.certificates.altering import Json, Path, alterations, altered, failing, leaves, lengthened, unsigned
from tests.certificates.feature_issued import KINDS, issue, issued
from tests.certificates.issued import KEY

FIELDS = ["evidence", "bounds", "radii", "prediction", "embedding", "target"]
SMALL = ("feature", "prototypes", "linear", "prediction target", "target missed", "embedding", "token embedding")
PARTS = {
    "prediction": {"prototypes", "linear", "any time with a head", "target missed", "prediction target"},
    "embedding": {"embedding", "token embedding"},
    "target": {"target", "target missed", "prediction target"},
}
STATED = {"inner_product_at_least", "cosine_at_least", "radius", "native_radius", "certified"}


def small(kind: str) -> Json:
    return issue(**{**KINDS[kind], "epsilons": (0.05,), "draws": 50, "horizon": 50})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_verified(kind: str) -> None:
    checks = verify(issued(kind))
    assert [check for check in checks if not check.ok] == []
    assert [check.field for check in checks] == ["signature", *FIELDS]


@pytest.mark.parametrize("kind", KINDS)
def test_the_certificates_are_of_the_kind_they_stand_for_and_certify_something(kind: str) -> None:
    certificate = issued(kind)
    assert {part for part in PARTS if certificate[part] is not None} == {part for part in PARTS if kind in PARTS[part]}
    assert certificate["target"] is None or certificate["target"]["certified"] == ("missed" not in kind)
    assert all(row["radius"] for row in (certificate["prediction"] or {"radii": []})["radii"])
    assert certificate["bounds"][0]["cosine_at_least"]


@pytest.mark.parametrize("kind", SMALL)
def test_every_leaf_of_a_signed_certificate_is_guarded_and_named(kind: str) -> None:
    certificate, keys = small(kind), key_set(KEY)
    assert not failing(certificate)
    for path, changed in [*alterations(certificate), *lengthened(certificate)]:
        found = [*failing(changed), *(check for check in check_signature(changed, keys) if not check.ok)]
        assert path[0] in [check.field for check in found], path


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_signature_every_number_of_the_answer_is_guarded_still(kind: str) -> None:
    certificate = unsigned(issued(kind))
    for path, leaf in leaves({name: certificate[name] for name in FIELDS[1:]}):
        if path[-1] in STATED:
            changes = [leaf * 1.01 + 1e-6, leaf * 0.99 - 1e-6, None] if isinstance(leaf, float) else [not leaf, 0.5]
            for other in changes:
                assert failing(altered(certificate, path, set_to(path, other))), (path, leaf, other)


def set_to(path: Path, value: Any) -> Callable[[Any], None]:
    return lambda holder: holder.__setitem__(path[-1], value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", [("sigma",), ("evidence", "alpha"), ("space", "native_operator_norm")])
def test_without_a_signature_every_parameter_is_guarded_still(kind: str, path: Path) -> None:
    certificate = unsigned(issued(kind))
    holder: Any = certificate
    for step in path[:-1]:
        holder = holder[step]
    if path[-1] == "native_operator_norm" and not certificate["radii"]:
        return  # an embedding has no radius
    for factor in (0.99, 1.01):
        assert failing(altered(certificate, path, set_to(path, holder[path[-1]] * factor))), (path, factor)


def test_without_a_signature_every_count_of_the_reference_is_guarded_still() -> None:
    certificate = unsigned(issued("feature"))
    for path, leaf in leaves(certificate["evidence"]["channels"], ("evidence", "channels")):
        for other in (leaf + 1, leaf - 1) if isinstance(leaf, int) else ():
            assert failing(altered(certificate, path, set_to(path, other))), (path, leaf)


def test_a_number_on_the_cautious_side_passes_within_a_billionth_and_one_beyond_exact_never() -> None:
    certificate = unsigned(issued("feature"))
    row, wide = certificate["radii"][0], certificate["bounds"][0]
    radius, inner = row["radius"], wide["inner_product_at_least"]
    for step, passes in ((-1e-10, True), (-1e-8, False), (1e-15, False)):
        wide["inner_product_at_least"] = wide["cosine_at_least"] = inner + step
        assert (not failing(certificate)) == passes, step
    wide["inner_product_at_least"] = wide["cosine_at_least"] = inner
    for step, passes in ((-1e-10, True), (-1e-8, False), (1e-15, False)):
        row["radius"] = radius + step
        row["native_radius"] = native_radius(row["radius"], 1.25)
        assert (not failing(certificate)) == passes, step


def test_channels_may_come_in_any_order_and_a_share_under_any_spelling_of_its_number() -> None:
    certificate = unsigned(issued("prototypes"))
    certificate["evidence"]["channels"].reverse()
    certificate["evidence"]["alpha_split"] = dict(reversed(certificate["evidence"]["alpha_split"].items()))
    assert not failing(certificate)


def evidence(**changes: object) -> Callable[[Json], None]:
    return lambda certificate: certificate["evidence"].update(changes)


def channel(index: int, **changes: object) -> Callable[[Json], None]:
    return lambda certificate: certificate["evidence"]["channels"][index].update(changes)


def within(field: str, **changes: object) -> Callable[[Json], None]:
    return lambda certificate: certificate[field].update(changes)


def without(*path: str | int) -> Callable[[Json], None]:
    def remove(certificate: Any) -> None:
        for step in path[:-1]:
            certificate = certificate[step]
        del certificate[path[-1]]

    return remove


WHOLE = {"feature_mean": 0.01}
CONTRADICTIONS: dict[str, tuple[str, Callable[[Json], None], str, str]] = {
    "shares that are too large": (
        "feature", evidence(alpha_split={"feature_mean": 0.01, "feature_cdf": 0.01}), "evidence", "an equal share"),
    "a statement left out": ("feature", evidence(alpha_split=WHOLE), "bounds", "a row for every epsilon"),
    "statements of a head that is not there": (
        "any time", evidence(alpha_split={"feature_mean": 0.005, "vote": 0.005}), "evidence", "alpha_split must give"),
    "a head without its statements": ("any time with a head", evidence(alpha_split=WHOLE), "evidence", "margin_mean"),
    "a curve with a target": (
        "target", evidence(alpha_split={"feature_mean": 0.005, "feature_cdf": 0.005}), "target", "at any time"),
    "fewer draws than were fixed": ("feature", evidence(horizon=401), "evidence", "passes=400 must be the horizon=401"),
    "more draws than were planned": ("any time", evidence(horizon=399), "evidence", "at most the horizon=399"),
    "a fixed number that stopped early": ("feature", evidence(stopped="tolerance"), "evidence", "passes_spent"),
    "a target that was not reached": ("any time", evidence(stopped="target"), "evidence", "certified"),
    "a bound of a fixed number at any time": ("any time", evidence(mean_bound="kl"), "evidence", "mean_bound=kl"),
    "a draw left out": ("feature", evidence(passes=399), "evidence", "add up to passes=399"),
    "a channel left out": ("linear", without("evidence", "channels", 2), "evidence", "once each"),
    "a channel twice": ("prototypes", channel(4, rival=1), "evidence", "once each"),
    "a margin over the label": ("prototypes", channel(1, rival=0), "evidence", "once each"),
    "clipped margins at any time": ("any time with a head", channel(2, name="clipped"), "evidence", "once each"),
    "levels that do not ascend": ("feature", channel(0, levels=[4000, 3000], counts=[1, 399]), "evidence", "ascend"),
    "a level without a count": ("feature", channel(0, levels=[1, 2], counts=[400]), "evidence", "a count for each"),
    "a level above 1": ("feature", channel(0, levels=[4097], counts=[400]), "evidence", "from 0 to 4096"),
    "no draw at a level": ("feature", channel(0, levels=[1, 2], counts=[0, 400]), "evidence", "from 1 to"),
    "no votes": ("linear", evidence(votes=None), "evidence", "votes=None must be there"),
    "votes of no head": ("feature", evidence(votes=3), "evidence", "votes=3"),
    "more votes than draws": ("linear", evidence(votes=401), "evidence", "at most passes=400"),
    "cosines of a linear head": ("linear", evidence(cosines=[1, 0, 0]), "evidence", "cosines must be there for each"),
    "a prototype without its cosine": ("prototypes", evidence(cosines=[1, 0]), "evidence", "cosines must be"),
    "prototypes without distances": ("prototypes", evidence(distances=None), "evidence", "distances must be"),
    "a cosine above 1": ("prototypes", evidence(cosines=[1.1, 0, 0]), "evidence", "cosines[0]=1.1"),
    "a label of no class": ("linear", within("prediction", label=3), "prediction", "one of the 3 classes"),
    "another class's name": ("linear", within("prediction", class_name="two"), "prediction", "that of class 0"),
    "a method left out": ("linear", without("prediction", "radii", 0), "prediction", "in this order"),
    "a row left out": ("feature", without("bounds", 2), "bounds", "ascending, by mean and by cdf"),
    "floors out of order": ("feature", lambda c: c["radii"].reverse(), "radii", "every cosine_floor, ascending"),
    "a radius that is kept back": (
        "feature", lambda c: c["radii"][0].update(radius=None, native_radius=None), "radii", "[0].radius=None"),
    "a cosine that is kept back": (
        "feature", lambda c: c["bounds"][0].update(cosine_at_least=None), "bounds", "[0].cosine_at_least=None"),
    "a target on no prediction": ("target", within("target", cosine=None), "target", "asks for the prediction"),
    "a target that is not certified": ("target", within("target", epsilon=3.0), "target", "must be False"),
    "an embedding with a target": (
        "embedding", lambda c: c.update(target={"epsilon": 1, "cosine": 0, "certified": True}), "embedding", "without"),
    "a matrix for a vector": ("embedding", within("embedding", shape=[1, 3]), "embedding", "shape=[1, 3]"),
    "a vector for tokens": ("token embedding", within("embedding", shape=[4]), "embedding", "shape=[4]"),
    "a value left out": ("embedding", without("embedding", "values", 0), "embedding", "of 2 values"),
    "a feature of another length": ("embedding", lambda c: c.update(dimension=4), "embedding", "dimension=4"),
    "no mean of unit vectors": ("embedding", within("embedding", values=[1, 0.1, 0]), "embedding", "at most 1"),
    "similarity at other shifts": (
        "embedding", without("embedding", "similarity", 0), "embedding", "every epsilon of the bounds"),
    "another average": ("embedding", within("embedding", draws=5), "embedding", "inner_product_at_least"),
    "a range that descends": ("feature", within("space", range=[1, 0]), "space", "ascend"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_named(name: str) -> None:
    kind, change, field, words = CONTRADICTIONS[name]
    certificate = unsigned(issued(kind))
    change(certificate)
    assert any(check.field == field and words in check.detail for check in failing(certificate)), failing(certificate)


def test_evidence_that_was_invented_but_agrees_passes_so_the_signature_must_be_checked() -> None:
    invented = unsigned(issue(alpha=0.5))
    assert not failing(invented)
    (check,) = check_signature(invented, key_set(KEY))
    assert not check.ok


@pytest.mark.parametrize("kind", ["prototypes", "any time", "embedding"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sigma",), 5e-324), (("sigma",), 100.0), (("evidence", "alpha"), 5e-324),
        (("space", "native_operator_norm"), 5e-324), (("bounds", 0, "epsilon"), 5e-324),
    ],
)  # fmt: skip
def test_parameters_at_the_ends_of_their_ranges_are_no_crash(kind: str, path: Path, value: float) -> None:
    certificate = issued(kind)
    if path[-1] == "alpha":
        shares = certificate["evidence"]["alpha_split"]
        shares |= dict.fromkeys(shares, value / len(shares))
    assert failing(altered(certificate, path, set_to(path, value)))


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
    certificate = issued("prediction target")
    for name in certificate:
        for given in (value, [value], {"digests": value}):
            found = failing({**certificate, name: given})
            nothing = given is None and name in ("signature", "embedding")
            assert nothing or name in [check.field for check in found], name
            assert all(len(check.detail) < 2000 for check in found)


def test_a_field_of_guards_is_unknown_to_a_feature_certificate() -> None:
    certificate = unsigned(issued("feature"))
    certificate["tau"] = 0.5
    (check,) = failing(certificate)
    assert (check.field, "no field 'tau'" in check.detail) == ("tau", True)
