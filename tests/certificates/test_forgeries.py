"""Nothing unchecked: every leaf of an unsigned certificate is guarded, or `not_checked` names it."""

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.certificates import not_checked
from tests.certificates.altering import Path, altered, failing, leaves, set_to, unsigned
from tests.certificates.test_verify import FEW_OF_EACH, Case, each, small

WORDS = [
    "", "x", "unsafe", "safe", "abstained", "hybrid", "tabular", "feature", "stratified", "neyman_pearson", "auto",
    "uniform", "absorbing", "shared", "per_budget", "suffix", "l0", "none", "l2", "both", "clean", "direction",
    "betting", "kl", "hoeffding", "empirical_bernstein", "any_time", "clopper_pearson", "passes_spent", "tolerance",
    "target", "not_certifiable", "mean", "cdf", "vote", "cap", "linear", "prototypes", "antialiased_bicubic",
]  # fmt: skip
NUMBERS = [0, 1, 255, 1e-6, 0.5, 1e6]
_WORD = 24  # letters; what is longer is a sentence or a digest


def forged(leaf: Any) -> Iterator[Any]:
    """Other values that someone might like better, of the leaf's type and of none."""
    if isinstance(leaf, bool):
        yield not leaf
    elif isinstance(leaf, int | float):
        yield from (leaf + 1, leaf - 1, leaf * 2, leaf * 0.99, *NUMBERS)
    elif isinstance(leaf, str):
        yield from (leaf + " ", leaf[1:], leaf.swapcase(), *(WORDS if len(leaf) < _WORD else ()))
    if leaf is not None:
        yield None
    else:
        yield from (0, 1, 0.5, "x", False, [], {})


CLAIMS = {"frontier", "worst_case", "bounds", "radii", "verdict", "max_tokens", "target", "tau", "sigma"}


def named(path: Path, names: list[str]) -> bool:
    steps = [step for step in path if isinstance(step, str)]
    return any(steps[: len(name.split("."))] == name.split(".") for name in names)


ASKED = {("target", "epsilon"), ("target", "cosine"), ("target", "tokens")}
"""What a target asks. Another question with the same answer is another true claim, as the answer is computed again."""


@pytest.mark.slow
@each(FEW_OF_EACH)
def test_whatever_is_forged_fails_or_is_said_not_to_be_checked(case: Case) -> None:
    certificate = unsigned(small(case))
    assert not failing(certificate)
    names, passed = not_checked(certificate), set()
    for path, leaf in leaves(certificate):
        for value in forged(leaf) if path[0] != "signature" else ():
            changed = altered(certificate, path, set_to(path, value))
            if value == leaf or failing(changed) or path in ASKED:
                continue
            passed.add(path)
            assert named(path, names), (path, leaf, value)
    assert {path[0] for path in passed} >= {"id", "model", "seed"}


@each(FEW_OF_EACH)
def test_what_is_not_checked_is_there_and_no_verdict_radius_or_bound(case: Case) -> None:
    certificate = small(case)
    found = {".".join(step for step in path if isinstance(step, str)) for path, _ in leaves(certificate)}
    for name in not_checked(certificate):
        assert any(path == name or path.startswith(f"{name}.") for path in found), name
        assert name.split(".")[0] not in CLAIMS


@pytest.mark.parametrize("case", [("guard", "target"), ("feature", "prediction target")], ids="-".join)
def test_no_target_is_certified_that_is_out_of_reach(case: Case) -> None:
    certificate = unsigned(small(case))
    for far in (10, 1e6):
        assert failing(altered(certificate, ("target", "epsilon"), set_to(("target", "epsilon"), far)))
