"""From a feature certificate's JSON to what `feature_answer` takes, and what contradicts itself in it.

Every function here takes a certificate whose fields have passed `feature_shape`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.certificates.bounds.means import ScoreSample
from holdfast.certificates.document.checks import Fault
from holdfast.certificates.document.envelope import LEAST_RISK, MOST_RISK, dimensions_of
from holdfast.certificates.features.question import STATEMENTS, FeatureCounts, FeatureQuestion, sample_of_levels

_UNIT = 1.0 + 1e-5  # norm of a mean of unit vectors in single precision, at most
_SHARE_ROUNDING = 1e-12


def feature_question_of(certificate: Mapping[str, Any]) -> FeatureQuestion:
    """The parameters that decide the certificate's numbers."""
    evidence, prediction = certificate["evidence"], certificate["prediction"]
    target, embedding = certificate["target"], certificate["embedding"]
    head = None if prediction is None else prediction["head"]
    return FeatureQuestion(
        sigma=float(certificate["sigma"]),
        alpha=evidence["alpha"],
        statements=_stated(certificate),
        mean_bound=evidence["mean_bound"],
        horizon=evidence["horizon"],
        epsilons=tuple(dict.fromkeys(row["epsilon"] for row in certificate["bounds"])),
        cosine_floors=tuple(dict.fromkeys(row["cosine_floor"] for row in certificate["radii"])),
        target=None if target is None else (target["epsilon"], target["cosine"]),
        rivals=0 if head is None else len(head["classes"]) - 1,
        label=None if prediction is None else prediction["label"],
        prototypes=head is not None and head["kind"] == "prototypes",
        embedding=None if embedding is None else (embedding["draws"], embedding["alpha"]),
        fixed=_fixed(certificate),
        operator_norm=certificate["space"]["native_operator_norm"],
        dimensions=dimensions_of(certificate["space"]),
    )


def feature_counts_of(certificate: Mapping[str, Any]) -> FeatureCounts:
    """The evidence, the rivals of each statement in ascending order."""
    evidence = certificate["evidence"]
    channels = sorted(evidence["channels"], key=lambda channel: channel["rival"] or 0)

    def samples(name: str) -> tuple[ScoreSample, ...]:
        found = (channel for channel in channels if channel["name"] == name)
        return tuple(sample_of_levels(channel["levels"], channel["counts"]) for channel in found)

    return FeatureCounts(
        reference=samples("reference")[0],
        margins=samples("margin"),
        clipped=samples("clipped"),
        votes=evidence["votes"],
        cosines=None if evidence["cosines"] is None else tuple(evidence["cosines"]),
        distances=None if evidence["distances"] is None else tuple(evidence["distances"]),
    )


def contradictions(certificate: Mapping[str, Any]) -> Iterator[Fault]:
    """Parameters and counts that contradict each other."""
    yield from (("prediction", fault) for fault in _prediction_faults(certificate["prediction"]))
    yield from (("embedding", fault) for fault in _embedding_faults(certificate))
    yield from (("target", fault) for fault in _target_faults(certificate))
    yield from (("evidence", fault) for fault in _risk_faults(certificate))
    yield from (("evidence", fault) for fault in _stop_faults(certificate))
    yield from (("evidence", fault) for fault in _channel_faults(certificate))
    yield from (("evidence", fault) for fault in _head_faults(certificate))


def _stated(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in STATEMENTS if name in certificate["evidence"]["alpha_split"])


def _fixed(certificate: Mapping[str, Any]) -> bool:
    """Whether the number of draws was fixed beforehand: then the curves are stated too."""
    return "feature_cdf" in certificate["evidence"]["alpha_split"]


def _prediction_faults(prediction: Mapping[str, Any] | None) -> Iterator[str]:
    if prediction is None:
        return
    classes, label = prediction["head"]["classes"], prediction["label"]
    if label >= len(classes):
        yield f"label={label} must be one of the {len(classes)} classes, from 0"
    elif prediction["class_name"] != classes[label]:
        yield f"class_name must be that of class {label}"


def _embedding_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    embedding, dimension = certificate["embedding"], certificate["dimension"]
    if embedding is None:
        return
    if certificate["prediction"] is not None or certificate["target"] is not None:
        yield "must come without a prediction and without a target"
    shape, values = embedding["shape"], embedding["values"]
    if len(shape) != 1 + embedding["tokens"] or math.prod(shape) != dimension or len(values) != dimension:
        yield f"shape={list(shape)} of {len(values)} values must hold the dimension={dimension}, with tokens in rows"
    elif not embedding["tokens"] and math.hypot(*values) > _UNIT:
        yield f"values of norm {math.hypot(*values)} must be a mean of unit vectors, at most 1"


def _target_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    target = certificate["target"]
    if target is None:
        return
    if _fixed(certificate):
        yield "must come with statements that hold at any time, not with feature_cdf"
    if target["cosine"] is None and certificate["prediction"] is None:
        yield "cosine=None asks for the prediction, and there is none"


def _risk_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    evidence, fixed, head = certificate["evidence"], _fixed(certificate), certificate["prediction"] is not None
    wanted = {
        "feature_mean": certificate["embedding"] is None,
        "feature_cdf": fixed or certificate["embedding"] is not None,
        "margin_mean": head,
        "margin_cdf": head and fixed,
        "clipped_cdf": head and fixed,
        "vote": head,
    }
    names = [name for name, stated in wanted.items() if stated]
    embedding = certificate["embedding"]
    asked = evidence["alpha"] + (0.0 if embedding is None else embedding["alpha"])
    if not LEAST_RISK * (1 - _SHARE_ROUNDING) <= asked <= MOST_RISK:
        yield f"alpha={asked}, an embedding's own included, must be {LEAST_RISK} to {MOST_RISK}"
    share = evidence["alpha"] / len(names)
    shares = evidence["alpha_split"]
    if set(shares) != set(names) or any(abs(given - share) > _SHARE_ROUNDING * share for given in shares.values()):
        yield f"alpha_split must give {', '.join(names)} an equal share of alpha each, {share}"


def _stop_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    evidence, target = certificate["evidence"], certificate["target"]
    passes, horizon, stopped = evidence["passes"], evidence["horizon"], evidence["stopped"]
    if passes > horizon or (_fixed(certificate) and passes != horizon):
        yield f"passes={passes} must be {'' if _fixed(certificate) else 'at most '}the horizon={horizon}"
    if _fixed(certificate) and stopped != "draws_spent":
        yield "stopped must be draws_spent where the number of draws was fixed"
    if stopped == "target" and (target is None or not target["certified"]):
        yield "stopped=target needs a target that is certified"


def _channel_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    evidence = certificate["evidence"]
    found = Counter((channel["name"], channel["rival"]) for channel in evidence["channels"])
    if found != Counter(_channels(certificate)):
        yield "channels must be the reference, and of every rival those that are stated, once each"
    for index, channel in enumerate(evidence["channels"]):
        path, levels, counts = f"channels[{index}]", channel["levels"], channel["counts"]
        if len(levels) != len(counts):
            yield f"{path} must have a count for each of its {len(levels)} levels, not {len(counts)}"
        if any(low >= high for low, high in itertools.pairwise(levels)):
            yield f"{path}.levels must ascend"
        if sum(counts) != evidence["passes"]:
            yield f"{path}.counts must add up to passes={evidence['passes']}, not {sum(counts)}"


def _channels(certificate: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    prediction, stated = certificate["prediction"], certificate["evidence"]["alpha_split"]
    yield "reference", None
    if prediction is None:
        return
    rivals = [rival for rival in range(len(prediction["head"]["classes"])) if rival != prediction["label"]]
    if {"margin_mean", "margin_cdf"} & set(stated):
        yield from (("margin", rival) for rival in rivals)
    if "clipped_cdf" in stated:
        yield from (("clipped", rival) for rival in rivals)


def _head_faults(certificate: Mapping[str, Any]) -> Iterator[str]:
    evidence, prediction = certificate["evidence"], certificate["prediction"]
    votes, passes = evidence["votes"], evidence["passes"]
    if (votes is not None) != ("vote" in evidence["alpha_split"]):
        yield f"votes={votes} must be there where the vote is stated, and nowhere else"
    elif votes is not None and votes > passes:
        yield f"votes={votes} must be at most passes={passes}"
    head = None if prediction is None else prediction["head"]
    classes = len(head["classes"]) if head is not None and head["kind"] == "prototypes" else None
    for name in ("cosines", "distances"):
        numbers = evidence[name]
        if (None if numbers is None else len(numbers)) != classes:
            yield f"{name} must be there for each of a head's prototypes, and for nothing else"
