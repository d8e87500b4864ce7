import numpy as np
import torch

from holdfast_lab.encoder.training import Recipe, draw_batch, train
from holdfast_lab.scenes import Hazard, Kind


def test_a_few_steps_lower_the_loss() -> None:
    losses: list[float] = []
    train(Recipe(steps=40, batch=16), lambda _, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])


def test_the_same_recipe_gives_the_same_encoder_and_another_seed_another() -> None:
    first, again, other = (train(Recipe(steps=2, batch=4, seed=seed), lambda *_: None) for seed in (3, 3, 4))
    weights, same = first.tower.state_dict(), again.tower.state_dict()
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert torch.equal(first.prototypes, again.prototypes)
    assert not torch.equal(first.prototypes, other.prototypes)


def test_trained_prototypes_are_unit_rows() -> None:
    prototypes = train(Recipe(steps=1, batch=2), lambda *_: None).prototypes
    assert prototypes.shape == (len(Kind), 64)
    assert torch.allclose(prototypes.norm(dim=-1), torch.ones(len(Kind)), atol=1e-6)


def test_a_batch_shows_each_scene_twice_under_different_noises() -> None:
    batch = draw_batch(np.random.default_rng(0), size=8, sigma=0.25)
    assert torch.equal(batch.kinds[:8], batch.kinds[8:])
    assert torch.equal(batch.attributes[:, :8], batch.attributes[:, 8:])
    differences = (batch.images[:8] - batch.images[8:]).std(dim=(1, 2, 3))
    assert (differences > 0).all()
    assert (differences < 2 * 0.25).all()


def test_hazard_and_colour_agree_with_the_kind() -> None:
    batch = draw_batch(np.random.default_rng(1), size=64, sigma=0.0)
    hazards, _, colours = batch.attributes
    assert torch.equal(hazards, batch.kinds // 2)
    assert torch.equal(colours // 3, hazards)
    assert set(hazards.tolist()) == set(range(len(Hazard)))
