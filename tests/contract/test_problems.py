"""One error tree, one status table, one wire shape."""

import re

import pytest

from holdfast.contract import problems
from holdfast.contract.problems import PROBLEM_BASE, PROBLEMS, FieldError, InternalError, Problem, ProblemError

TREE = re.findall(r"── (\w+)\s+(\d{3})", str(problems.__doc__))


def descendants(error: type[ProblemError]) -> set[type[ProblemError]]:
    children = set(error.__subclasses__())
    return children.union(*map(descendants, children))


def test_every_problem_is_in_the_table() -> None:
    assert set(PROBLEMS.values()) == descendants(ProblemError)
    assert len({error.slug for error in PROBLEMS.values()}) == len(PROBLEMS)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert {(error.__name__, str(error.status)) for error in PROBLEMS.values()} == set(TREE)


@pytest.mark.parametrize("error", PROBLEMS.values())
def test_a_problem_comes_back_from_the_wire_as_the_class_it_was(error: type[ProblemError]) -> None:
    sent = error("a detail", errors=[FieldError(path="noise.beta", message="too large")], retry_after_s=5)
    wire = Problem.model_validate_json(sent.problem("urn:x").model_dump_json())
    back = problems.problem_error(wire, retry_after_s=5)
    assert type(back) is error
    assert (back.detail, back.errors, back.retry_after_s) == (sent.detail, sent.errors, 5)
    assert (wire.type, wire.status, wire.title) == (PROBLEM_BASE + error.slug, error.status, error.title)


def test_a_problem_of_an_unknown_type_is_an_internal_error() -> None:
    wire = Problem(type="about:blank", title="?", status=418, detail="a teapot")
    assert type(problems.problem_error(wire)) is InternalError
