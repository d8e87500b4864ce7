"""Brute force: no attack of any budget refutes any number that is served, in worlds where every attack can be tried."""

from typing import Any

import numpy as np
import pytest

from holdfast.certificates import answer
from holdfast.certificates.bounds.counts import Bound
from tests.certificates.asking import asked
from tests.certificates.scenes import SCENES, TIGHT, Scene, random_scene, tight_scene, violations
from tests.certificates.worlds import Worlds, likelihood_ratio_world

pytestmark = pytest.mark.slow

MANY = 60_000  # draws after which bounds are close to the rates that were drawn


@pytest.mark.parametrize("bound", ["any_time", "clopper_pearson"])
@pytest.mark.parametrize("kernel", ["absorbing", "uniform"])
@pytest.mark.parametrize("name", SCENES)
def test_no_attack_refutes_any_number_of_an_answer(name: str, kernel: str, bound: Bound) -> None:
    scene = random_scene(name, kernel, bound)
    found = [answer(scene.question, scene.votes(index)) for index in range(len(scene))]
    assert violations(scene, found) == []
    if scene.question.target is None:
        assert {one.verdict for one in found} >= set(scene.question.sides)
        assert sum(point.radius is not None for one in found for point in one.frontier) >= len(scene) // 2
    else:
        assert {one.target for one in found} >= set(scene.question.sides)


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("name", TIGHT)
def test_an_answer_gives_a_guard_that_keeps_nothing_back_all_that_it_has(name: str, safe: bool) -> None:
    scene = tight_scene(name, safe=safe)
    found = answer(scene.question, scene.votes(0, MANY))
    slack = 0.05
    assert violations(scene, [found]) == []
    for row in found.worst_case:
        (worst,) = scene.extreme(row.tokens, row.epsilon, largest=safe)
        kept, truth = (1 - row.at_most, 1 - worst) if safe else (row.at_least, worst)
        if scene.question.target is None or row.tokens == 1:
            assert kept == pytest.approx(truth, rel=slack)
    assert scene.question.target is None or found.target == ("safe" if safe else "unsafe")


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize(("beta", "size"), [(0.2, 2), (0.4, 5), (0.7, 5)])
@pytest.mark.parametrize("threshold", [-0.5, 0.4])
def test_the_likelihood_ratio_test_meets_the_neyman_pearson_bound(
    beta: float, size: int, threshold: float, safe: bool
) -> None:
    question = asked(kernel="uniform", beta=beta, alphabets=(size,), slots=1, method="neyman_pearson", epsilons=(0.7,))
    scene = Scene(question, (likelihood_ratio_world(beta, size, 0.7, threshold),))
    scene = scene.complement() if safe else scene
    found = answer(question, scene.votes(0, MANY))
    row, (worst,) = found.worst_case[1], scene.extreme(1, 0.7, largest=safe, outside=False)
    kept, truth = (1 - row.at_most, 1 - worst) if safe else (row.at_least, worst)
    assert violations(scene, [found]) == []
    assert 0.05 < truth == pytest.approx(kept, rel=0.05)


@pytest.mark.parametrize("safe", [False, True])
def test_the_guard_that_fails_wherever_it_is_masked_meets_the_neyman_pearson_bound(safe: bool) -> None:
    verdicts = np.zeros((1, 4, 2))
    verdicts[0, 0] = verdicts[0, 3, 0] = 1.0  # its own token is always Unsafe, a masked one below the image's cut
    bins = np.array([-np.inf, 0.5, np.inf])
    question = asked(beta=0.8, slots=1, method="neyman_pearson", alphabets=(2,))
    scene = Scene(question, (Worlds(verdicts, (2,), (0.8,), True, bins),))
    scene = scene.complement() if safe else scene
    found = answer(question, scene.votes(0, MANY))
    assert violations(scene, [found]) == []
    for row in found.worst_case[3:]:
        (worst,) = scene.extreme(1, row.epsilon, largest=safe)
        kept, truth = (1 - row.at_most, 1 - worst) if safe else (row.at_least, worst)
        assert kept == pytest.approx(truth, rel=0.05)


def test_neyman_pearson_alone_is_refuted_by_a_token_outside_the_alphabet_and_strata_are_not() -> None:
    # Unsafe unless the token is the one outside: no clean draw shows that, but the attacker may write it.
    verdicts = np.ones((1, 4, 1))
    verdicts[0, 2] = 0.0
    world = Worlds(verdicts, (2,), (0.8,), False, np.array([-np.inf, np.inf]))
    asks: dict[str, Any] = {"kernel": "uniform", "beta": 0.4, "alphabets": (2,), "slots": 1, "tau": 0.79}
    outside = {}
    for method in ("neyman_pearson", "joint", "stratified"):
        scene = Scene(asked(**asks, method=method), (world,))
        row = answer(scene.question, scene.votes(0, MANY)).worst_case[3]
        assert row.tokens == 1
        outside[method] = row.at_least <= scene.extreme(1, 0.0)[0]
        assert row.at_least <= scene.extreme(1, 0.0, outside=False)[0]
    assert outside == {"neyman_pearson": False, "joint": True, "stratified": True}
