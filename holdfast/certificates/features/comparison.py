"""A feature certificate checked against itself: every number computed again from its own evidence."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from holdfast.certificates.document.checks import Check, Fault, at_most, compared, failed
from holdfast.certificates.document.space import space_faults
from holdfast.certificates.features.answer import FeatureAnswer, feature_answer
from holdfast.certificates.features.reading import contradictions, feature_counts_of, feature_question_of
from holdfast.certificates.features.words import feature_notice
from holdfast.certificates.noise.space import native_radius

_COMPARED = ("notice", "space", "evidence", "bounds", "radii", "prediction", "embedding", "target")
_METHODS = {"mean": "feature_mean", "cdf": "feature_cdf"}


def recomputed_feature(certificate: Mapping[str, Any], limited: bool) -> list[Check]:
    """Checks everything that `feature_answer` decides, of a certificate whose fields have passed `feature_shape`."""
    space = space_faults(certificate["space"], tabular=False, limited=limited)
    if faults := [*contradictions(certificate), *_grid_faults(certificate), *space]:
        return failed(faults)
    try:
        found = feature_answer(feature_question_of(certificate), feature_counts_of(certificate))
    except (ValueError, ArithmeticError) as error:
        return failed([("evidence", f"nothing can be computed from it: {error}")])
    return compared([*_differences(certificate, found), *_word_faults(certificate)], _COMPARED)


def _word_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    if [*certificate["notice"]] != (exact := feature_notice(certificate)):
        yield "notice", f"must be the {len(exact)} sentences that the numbers give"


def _grid_faults(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Rows that are not every epsilon, or cosine floor, times every method that is stated."""
    stated = certificate["evidence"]["alpha_split"]
    methods = [method for method, statement in _METHODS.items() if statement in stated]
    for field, column in (("bounds", "epsilon"), ("radii", "cosine_floor")):
        rows = certificate[field]
        points = sorted({row[column] for row in rows})
        if [(row[column], row["method"]) for row in rows] != list(itertools.product(points, methods)):
            yield field, f"must have a row for every {column}, ascending, by {' and by '.join(methods)}"
    embedding = certificate["embedding"]
    if embedding is not None:
        epsilons = sorted({row["epsilon"] for row in certificate["bounds"]})
        if [row["epsilon"] for row in embedding["similarity"]] != epsilons:
            yield "embedding", "similarity must have a row for every epsilon of the bounds"


def _differences(certificate: Mapping[str, Any], found: FeatureAnswer) -> Iterator[Fault]:
    prediction, embedding, target = certificate["prediction"], certificate["embedding"], certificate["target"]
    norm = certificate["space"]["native_operator_norm"]
    yield from (("bounds", fault) for fault in _similarity_faults(certificate["bounds"], found.bounds))
    yield from (("radii", fault) for fault in _radius_faults(certificate["radii"], found.radii, norm))
    if prediction is not None:
        yield from (("prediction", fault) for fault in _prediction_faults(prediction["radii"], found, norm))
    if embedding is not None:
        yield from (("embedding", fault) for fault in _similarity_faults(embedding["similarity"], found.similarity))
    if target is not None and target["certified"] != found.target:
        yield "target", f"certified={target['certified']} must be {found.target}"


def _similarity_faults(rows: Sequence[Mapping[str, Any]], exact: Sequence[Any]) -> Iterator[str]:
    for index, (row, computed) in enumerate(zip(rows, exact, strict=True)):
        least, cosine = row["inner_product_at_least"], row["cosine_at_least"]
        if not at_most(least, computed.inner_product, unit=1.0):
            yield f"[{index}].inner_product_at_least={least} must be {computed.inner_product}"
        elif cosine != (least if least > 0 else None):
            yield f"[{index}].cosine_at_least={cosine} must be inner_product_at_least where that is above 0, else null"


def _radius_faults(rows: Sequence[Mapping[str, Any]], exact: Sequence[Any], norm: float) -> Iterator[str]:
    for index, (row, computed) in enumerate(zip(rows, exact, strict=True)):
        radius, native = row["radius"], row["native_radius"]
        none = radius is None or computed.radius is None
        if radius != computed.radius if none else not at_most(radius, computed.radius):
            yield f"[{index}].radius={radius} must be {computed.radius}"
        elif native != native_radius(radius, norm):
            yield f"[{index}].native_radius={native} must be {native_radius(radius, norm)}"


def _prediction_faults(rows: Sequence[Mapping[str, Any]], found: FeatureAnswer, norm: float) -> Iterator[str]:
    methods = [row.method for row in found.prediction]
    if [row["method"] for row in rows] != methods:
        yield f"radii must be by {', '.join(methods)}, in this order"
    else:
        yield from _radius_faults(rows, found.prediction, norm)
