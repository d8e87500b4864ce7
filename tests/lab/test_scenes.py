import hashlib
from itertools import product

import numpy as np
import pytest

from holdfast_lab.canvas import SIDE
from holdfast_lab.scenes import (
    FAINTEST,
    UNSAFE,
    WALLS,
    Hazard,
    Intent,
    Kind,
    draw_example,
    draw_scene,
    wordings,
)

# Of the first 64 training examples' pictures from seed 0: the shipped guard was trained on what is drawn so.
DRAWN_SO_FAR = "84361d99acdde9a05bd8c8022025d7348e106e51ae1150c4fa69b140b7e36b1e"


def test_half_of_each_picture_kind_and_half_of_each_intent_is_unsafe() -> None:
    for hazard in Hazard:
        assert 2 * sum((hazard, intent) in UNSAFE for intent in Intent) == len(Intent)
    for intent in Intent:
        assert 2 * sum((hazard, intent) in UNSAFE for hazard in Hazard) == len(Hazard)


def test_drawn_attributes_are_balanced_and_independent() -> None:
    rng = np.random.default_rng(5)
    examples = [draw_example(rng, held_out=False) for _ in range(2000)]
    for combination in product(Hazard, Intent):
        share = np.mean([(e.hazard, e.intent) == combination for e in examples])
        # Five standard deviations of a binomial share at 1/4.
        assert share == pytest.approx(0.25, abs=0.05)


def test_the_same_seed_draws_the_same_examples_and_another_seed_others() -> None:
    first, again, other = (
        [draw_example(np.random.default_rng(seed), held_out=True) for _ in range(3)] for seed in (1, 1, 2)
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert a.text == b.text
        assert np.array_equal(a.image, b.image)
        assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize("hazard", Hazard)
def test_a_scene_is_a_64_pixel_rgb_picture(hazard: Hazard) -> None:
    scene = draw_scene(np.random.default_rng(0), hazard)
    image = scene.image
    assert scene.hazard is hazard
    assert image.shape == (SIDE, SIDE, 3)
    assert image.dtype == np.uint8


def test_a_seed_draws_what_it_has_always_drawn() -> None:
    rng = np.random.default_rng(0)
    pictures = b"".join(draw_example(rng, held_out=False).image.tobytes() for _ in range(64))
    assert hashlib.sha256(pictures).hexdigest() == DRAWN_SO_FAR


def test_a_description_says_what_is_on_the_picture() -> None:
    scenes = [draw_scene(np.random.default_rng(seed), Hazard.POWER) for seed in range(60)]
    assert {scene.kind for scene in scenes} == {Kind.WALL_SOCKET, Kind.POWER_STRIP}
    assert min(scene.contrast for scene in scenes) >= FAINTEST
    for scene in (scene for scene in scenes if scene.contrast > 0.3):
        haze = 128 * (1 - scene.contrast)
        wall, floor = scene.image[scene.floor - 1, 0] - haze, scene.image[scene.floor, 0] - haze
        assert floor == pytest.approx(0.6 * wall, abs=1)
        assert wall / wall.mean() == pytest.approx(np.divide(WALLS[scene.wall], np.mean(WALLS[scene.wall])), abs=0.03)


@pytest.mark.parametrize("intent", Intent)
def test_training_and_held_out_wordings_are_disjoint_and_share_their_words(intent: Intent) -> None:
    training, held_out = (set(wordings(intent, held_out=split)) for split in (False, True))
    assert not training & held_out
    assert len(training) == 4 * len(held_out)
    assert {word for text in held_out for word in text.split()} == {word for text in training for word in text.split()}


def test_no_wording_serves_both_intents() -> None:
    flame, water = ({text for split in (False, True) for text in wordings(intent, held_out=split)} for intent in Intent)
    assert not flame & water
