"""A guard's certificate checked against itself: every number computed again from its own evidence."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.certificates.document.checks import Check, Fault, at_least, at_most, compared, failed
from holdfast.certificates.document.space import space_faults
from holdfast.certificates.guard.answer import Answer, answer
from holdfast.certificates.guard.false_flag import false_flag_faults
from holdfast.certificates.guard.question import Question
from holdfast.certificates.guard.reading import evidence_faults, parameter_faults, question_of, size_faults, votes_of
from holdfast.certificates.guard.sides import passes_to_detect
from holdfast.certificates.guard.words import notice, reason, sharing
from holdfast.certificates.noise.space import native_radius

_WORDS = ("reason", "notice")
_COMPARED = (*_WORDS, "space", "false_flag", "evidence", "frontier", "max_tokens", "verdict", "target", "worst_case")


def recomputed_guard(certificate: Mapping[str, Any], limited: bool) -> list[Check]:
    """Checks everything that `answer` decides, of a certificate whose fields have passed `shape`."""
    space = space_faults(certificate["space"], tabular=certificate["kind"] == "tabular", limited=limited)
    flag = false_flag_faults(certificate["false_flag"])
    faults = [*parameter_faults(certificate), *space, *flag, *(size_faults(certificate) if limited else ())]
    if faults := faults or list(evidence_faults(certificate)):
        return failed(faults)
    question = question_of(certificate)
    if len(certificate["frontier"]) != question.max_tokens + 1:
        return failed([("frontier", f"must have the {question.max_tokens + 1} budgets up to max_tokens")])
    grid = list(itertools.product(range(question.max_tokens + 1), question.epsilons))
    if [(row["tokens"], row["epsilon"]) for row in certificate["worst_case"]] != grid:
        return failed([("worst_case", "must have a row for every budget and epsilon, in this order")])
    try:
        found = answer(question, votes_of(certificate, question))
    except (ValueError, ArithmeticError) as error:
        return failed([("evidence", f"nothing can be computed from it: {error}")])
    return compared([*_differences(certificate, found), *_word_faults(certificate, question, found)], _COMPARED)


def _word_faults(certificate: Mapping[str, Any], question: Question, found: Answer) -> Iterator[Fault]:
    evidence = certificate["evidence"]
    sentences = notice(
        question,
        found.verdict,
        pictured=certificate["space"]["input_height"] is not None,
        tie_band=evidence["tie_band"],
        asked=certificate["questions_asked"],
    )
    if tuple(certificate["notice"]) != sentences:
        yield "notice", f"must be the {len(sentences)} sentences that parameters and numbers give"
    tokens, target, stopped = found.max_tokens, found.target, evidence["stopped"]
    exact = reason(question, found.verdict, max_tokens=tokens, target=target, stopped=stopped)
    if certificate["reason"] != exact:
        yield "reason", f"must be: {exact}"
    if evidence["sharing"] != (exact := sharing(question, evidence["positions"])):
        yield "evidence", f"sharing must be: {exact}"


def _differences(certificate: Mapping[str, Any], found: Answer) -> Iterator[Fault]:
    yield from _score_differences(certificate["evidence"]["scores"], found)
    yield from _frontier_differences(certificate, found)
    yield from _worst_case_differences(certificate["worst_case"], found)
    if certificate["max_tokens"] != found.max_tokens:
        yield "max_tokens", f"{certificate['max_tokens']} must be {found.max_tokens}"
    if certificate["verdict"] != found.verdict:
        yield "verdict", f"{certificate['verdict']} must be {found.verdict}"
    target = certificate["target"]
    if target is not None and target["verdict"] != found.target:
        yield "target", f"verdict={target['verdict']} must be {found.target}"


def _score_differences(scores: list[Mapping[str, Any]], found: Answer) -> Iterator[Fault]:
    if len(scores) != len(found.scores):
        yield "evidence", f"scores must be {len(found.scores)}, not {len(scores)}"
        return
    for index, (score, exact) in enumerate(zip(scores, found.scores, strict=True)):
        path = f"scores[{index}]"
        if (score["tokens"], tuple(score["cells"])) != (exact.tokens, exact.cells):
            yield "evidence", f"{path} must be for {exact.tokens} tokens, of the cells that they leave alone"
        if not at_most(score["lower"], exact.lower):
            yield "evidence", f"{path}.lower={score['lower']} must be {exact.lower}"
        if not at_least(score["upper"], exact.upper):
            yield "evidence", f"{path}.upper={score['upper']} must be {exact.upper}"


def _frontier_differences(certificate: Mapping[str, Any], found: Answer) -> Iterator[Fault]:
    norm = certificate["space"]["native_operator_norm"]
    for index, (point, exact) in enumerate(zip(certificate["frontier"], found.frontier, strict=True)):
        path, radius = f"[{index}]", point["radius"]
        native = None if norm is None else native_radius(radius, norm)
        if point["tokens"] != exact.tokens or point["method"] != exact.method:
            yield "frontier", f"{path} must be of {exact.tokens} tokens by method {exact.method}"
        agrees = radius is None if exact.radius is None else radius is not None and at_most(radius, exact.radius)
        if not agrees:
            yield "frontier", f"{path}.radius={radius} must be {exact.radius}"
        elif point["native_radius"] != native:
            yield "frontier", f"{path}.native_radius={point['native_radius']} must be {native}"


def _worst_case_differences(rows: list[Mapping[str, Any]], found: Answer) -> Iterator[Fault]:
    for index, (row, exact) in enumerate(zip(rows, found.worst_case, strict=True)):
        least, most = row["unsafe_probability_at_least"], row["unsafe_probability_at_most"]
        passes = row["passes_to_detect"]
        if not at_most(least, exact.at_least):
            yield "worst_case", f"[{index}].unsafe_probability_at_least={least} must be {exact.at_least}"
        elif passes != (needed := passes_to_detect(least) if least > 0 else None):
            yield "worst_case", f"[{index}].passes_to_detect={passes} must be {needed}"
        if not at_least(most, exact.at_most):
            yield "worst_case", f"[{index}].unsafe_probability_at_most={most} must be {exact.at_most}"
