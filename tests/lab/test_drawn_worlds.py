"""Every certificate of a prediction on worlds that are drawn here: unit prototypes, unit features, no network."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from holdfast.certificates import LEVELS, ScoreSample
from holdfast_lab.encoder.comparison import (
    CAP,
    CAP_CDF,
    CONDITION,
    MARGIN_CDF,
    MARGIN_MEAN,
    PLUG_IN,
    SIMILARITY_CDF,
    SIMILARITY_MEAN,
    VOTE,
    clipped_name,
    plug_in_reach,
    reaches,
)
from holdfast_lab.encoder.draws import ScoredDraws, image_seed

ALPHA, CLIP = 0.01, 0.05
WIDTH = 6


def units(rng: np.random.Generator, count: int, *, around: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """Unit vectors near one."""
    drawn = around + spread * rng.standard_normal((count, len(around)))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True))


def sample(scores: NDArray[np.float64]) -> ScoreSample:
    """In whole levels, rounded down, as tallies hold them."""
    return ScoreSample.of(np.floor(LEVELS * np.clip(scores, 0, 1)) / LEVELS)


def world(seed: int, *, classes: int = 4, draws: int = 300, spread: float = 0.3) -> ScoredDraws:
    """A clean feature u near the first prototype, and draws of features about it."""
    rng = np.random.default_rng(seed)
    prototypes = units(rng, classes, around=np.zeros(WIDTH), spread=1.0)
    clean = units(rng, 1, around=prototypes[0], spread=0.1)[0]
    features = units(rng, draws, around=clean, spread=spread)
    label = int((prototypes @ features.mean(axis=0)).argmax())
    rivals = [k for k in range(classes) if k != label]
    distances = np.linalg.norm(prototypes[label] - prototypes, axis=-1)
    margins = np.array([features @ (prototypes[label] - prototypes[k]) / distances[k] for k in rivals])
    similarity = (1 + features @ clean) / 2
    return ScoredDraws(
        label=label,
        draws=draws,
        plain_mean=float(similarity.mean()),
        reference=sample(similarity),
        margins=tuple(sample((1 + margin) / 2) for margin in margins),
        clipped={CLIP: tuple(sample((1 + (margin / CLIP).clip(-1, 1)) / 2) for margin in margins)},
        votes=int(((features @ prototypes.T).argmax(axis=-1) == label).sum()),
        cosines=tuple((prototypes @ clean).tolist()),
        distances=tuple(distances.tolist()),
    )


seeds = st.integers(0, 10_000)
spreads = st.sampled_from([0.02, 0.1, 0.3, 1.0])


def certified(draws: ScoredDraws, alpha: float = ALPHA) -> dict[str, float]:
    """Every reach, 0 where there is none."""
    return {name: found or 0.0 for name, found in reaches(draws, alpha).items()}


@settings(max_examples=40)
@given(seeds, spreads)
def test_the_published_condition_never_reaches_beyond_the_cap(seed: int, spread: float) -> None:
    found = certified(world(seed, spread=spread))
    assert found[CONDITION] <= found[CAP] + 1e-9


@settings(max_examples=40)
@given(seeds, spreads)
def test_a_reach_is_positive_finite_or_none(seed: int, spread: float) -> None:
    for name, found in reaches(world(seed, spread=spread), ALPHA).items():
        assert found is None or 0 < found < math.inf, name


@settings(max_examples=40)
@given(seeds, spreads)
def test_no_method_reaches_further_at_a_smaller_risk(seed: int, spread: float) -> None:
    draws = world(seed, spread=spread)
    bold, careful = certified(draws, 0.1), certified(draws, 0.001)
    for name in set(bold) - {PLUG_IN}:
        assert careful[name] <= bold[name] + 1e-9, name


@settings(max_examples=40)
@given(seeds, spreads)
def test_the_plug_in_is_no_certificate_and_knows_no_risk(seed: int, spread: float) -> None:
    draws = world(seed, spread=spread)
    assert certified(draws, 0.1)[PLUG_IN] == certified(draws, 0.001)[PLUG_IN] >= certified(draws)[SIMILARITY_MEAN]


@settings(max_examples=40)
@given(seeds)
def test_more_rivals_never_let_a_prediction_reach_further(seed: int) -> None:
    draws = world(seed, spread=0.1)
    fewer = replace(draws, margins=draws.margins[:1], clipped={CLIP: draws.clipped[CLIP][:1]})
    # Each rival's bound is one of several at a share of the risk.
    for name in (MARGIN_MEAN, MARGIN_CDF, clipped_name(CLIP)):
        assert certified(draws)[name] <= certified(fewer)[name] + 1e-9


def test_votes_reach_with_their_number() -> None:
    draws = world(2)
    course = [certified(replace(draws, votes=votes))[VOTE] for votes in range(0, draws.draws + 1, 25)]
    assert course == sorted(course)
    assert course[0] == 0.0 < course[-1]


@settings(max_examples=40)
@given(seeds, spreads)
def test_a_head_without_prototypes_loses_their_methods_and_no_other(seed: int, spread: float) -> None:
    draws = world(seed, spread=spread)
    whole, linear = (reaches(one, ALPHA) for one in (draws, replace(draws, cosines=(), distances=())))
    assert set(whole) - set(linear) == {CONDITION, CAP, CAP_CDF}
    assert linear == {name: found for name, found in whole.items() if name in linear}


def test_every_method_has_its_place_in_the_table() -> None:
    assert list(reaches(world(1), ALPHA)) == [
        CONDITION, CAP, CAP_CDF, MARGIN_MEAN, MARGIN_CDF, clipped_name(CLIP), VOTE, PLUG_IN, SIMILARITY_MEAN,
        SIMILARITY_CDF,
    ]  # fmt: skip


def test_draws_that_disagree_certify_nothing() -> None:
    scattered = world(3, spread=50.0)
    assert {name for name, found in reaches(scattered, ALPHA).items() if found is not None} <= {VOTE}


@given(st.floats(0.751, 0.999999), st.floats(0.751, 0.999999))
def test_the_plug_in_grows_with_the_mean(one: float, two: float) -> None:
    low, high = sorted((one, two))
    assert (plug_in_reach(low) or 0.0) <= (plug_in_reach(high) or 0.0)


@pytest.mark.parametrize("mean", [0.0, 0.3, 0.75])
def test_a_mean_at_the_floor_or_below_reaches_nowhere(mean: float) -> None:
    assert plug_in_reach(mean) is None


def test_no_two_images_and_no_two_seeds_share_their_noise() -> None:
    secrets = {image_seed(seed, index) for seed in (0, 1, 11) for index in (0, 1, 10, 11, 110)}
    assert len(secrets) == 15
