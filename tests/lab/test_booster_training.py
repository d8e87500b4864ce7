import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from holdfast_lab.booster.checkpoints import restore_checkpoint, save_checkpoint
from holdfast_lab.booster.curves import Curve
from holdfast_lab.booster.images import DrawnScenes, FolderImages, training_batch
from holdfast_lab.booster.loop import Setting
from holdfast_lab.booster.losses import robustness_loss
from holdfast_lab.booster.training import train_booster, train_denoiser, train_mapper
from holdfast_worker.denoisers.loading import load_booster
from holdfast_worker.models.encoder.encoder import Encoder
from tests.lab.booster_world import denoiser_recipe, mapper_recipe, setting, small_encoder, write_encoder, write_scenes


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    torch.set_num_threads(1)
    return small_encoder(write_encoder(tmp_path_factory.mktemp("encoder") / "small"))


@pytest.fixture(scope="module")
def world(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return setting(encoder, FolderImages(write_scenes(tmp_path_factory.mktemp("scenes") / "scenes")))


def silent(stage: str, step: int, steps: int, losses: object) -> None:
    """Reports nothing."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    return {f"{file.name} {name}": value for file in files for name, value in load_file(file).items()}


@torch.no_grad()
def unsteadiness(world: Setting, denoiser: nn.Module | None, mapper: nn.Module | None) -> float:
    """Mean of 1 - cos between noisy and clean features, on noise that no training saw."""
    clean = training_batch(world.images, [0, 1, 2, 3] * 25, world.size, np.random.default_rng(0))
    noisy = clean + 0.25 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    tokens = world.tower.tokens(noisy if denoiser is None else denoiser(noisy, 0.25))
    mapped = tokens if mapper is None else tokens + mapper(tokens, 0.25)
    return float(robustness_loss(world.tower.pooled(mapped)[None], world.tower.pooled(world.tower.tokens(clean))))


def test_a_denoiser_learns_to_keep_features_in_place(world: Setting, tmp_path: Path) -> None:
    trained = train_denoiser(world, denoiser_recipe(40), tmp_path, silent)
    assert unsteadiness(world, trained, None) < 0.7 * unsteadiness(world, None, None)


def test_a_mapper_learns_to_keep_features_in_place(world: Setting, tmp_path: Path) -> None:
    trained = train_mapper(world, mapper_recipe(40), None, tmp_path, silent)
    assert unsteadiness(world, None, trained) < 0.7 * unsteadiness(world, None, None)


@torch.no_grad()
def drift(world: Setting, denoiser: nn.Module) -> float:
    """Mean of 1 - cos between the features of images without noise, denoised and plain."""
    clean = training_batch(world.images, [0, 1, 2, 3], world.size, np.random.default_rng(0))
    features = (world.tower.pooled(world.tower.tokens(images)) for images in (denoiser(clean, 0.25), clean))
    denoised, plain = features
    return float(robustness_loss(denoised[None], plain))


def test_a_weight_on_clean_images_keeps_their_features_closer(world: Setting, tmp_path: Path) -> None:
    recipe = denoiser_recipe(40)
    without = train_denoiser(world, recipe, tmp_path / "0", silent)
    kept = train_denoiser(world, recipe.model_copy(update={"clean": 5.0}), tmp_path / "5", silent)
    assert drift(world, kept) < 0.8 * drift(world, without)


def test_a_trained_booster_loads_with_both_parts(world: Setting, encoder: Encoder, tmp_path: Path) -> None:
    train_booster(world, denoiser=denoiser_recipe(), mapper=mapper_recipe(), folder=tmp_path, report=silent)
    booster = load_booster(tmp_path, encoder.device)
    assert (booster.sigma, booster.denoiser is None, booster.mapper is None) == (0.25, False, False)


def test_the_encoder_is_left_as_it_is(world: Setting, encoder: Encoder, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in encoder.tower.state_dict().items()}
    train_booster(world, denoiser=denoiser_recipe(), mapper=mapper_recipe(), folder=tmp_path, report=silent)
    assert all(torch.equal(before[name], value) for name, value in encoder.tower.state_dict().items())
    assert all(value.grad is None for value in encoder.tower.parameters())


def test_the_same_recipe_gives_the_same_weights_whatever_was_drawn_before(world: Setting, tmp_path: Path) -> None:
    for name in ("one", "two"):
        torch.rand(3)
        run = {"denoiser": denoiser_recipe(), "mapper": mapper_recipe(), "report": silent}
        train_booster(world, folder=tmp_path / name, **run)  # type: ignore[arg-type]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


class CutError(Exception):
    """Stands for a kill, at a place of the test's choosing."""


@pytest.mark.parametrize("where", ["denoiser", "mapper"])
def test_a_stage_interrupted_between_two_saves_ends_as_if_it_had_not_been(
    world: Setting, tmp_path: Path, where: str
) -> None:
    def interrupt(stage: str, step: int, steps: int, losses: object) -> None:
        if (stage, step) == (where, 10):
            raise CutError

    run = {"denoiser": denoiser_recipe(15), "mapper": mapper_recipe(15)}
    train_booster(world, folder=tmp_path / "whole", report=silent, **run)  # type: ignore[arg-type]
    often = replace(world, save_every=4)
    with pytest.raises(CutError):
        train_booster(often, folder=tmp_path / "cut", report=interrupt, **run)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "cut/training" / where / "checkpoint.json").read_text())["step"] == 8
    train_booster(often, folder=tmp_path / "cut", report=silent, **run)  # type: ignore[arg-type]
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_mapper_may_stand_alone(world: Setting, encoder: Encoder, tmp_path: Path) -> None:
    train_booster(world, denoiser=None, mapper=mapper_recipe(), folder=tmp_path, report=silent)
    assert load_booster(tmp_path, encoder.device).denoiser is None


@pytest.mark.parametrize(("denoiser", "sigma"), [(None, None), (0.25, 0.5)])
def test_recipes_must_be_there_and_agree(
    world: Setting, tmp_path: Path, denoiser: float | None, sigma: float | None
) -> None:
    first = None if denoiser is None else denoiser_recipe()
    second = None if sigma is None else mapper_recipe().model_copy(update={"sigma": sigma})
    with pytest.raises(ValueError, match="must share one"):
        train_booster(world, denoiser=first, mapper=second, folder=tmp_path, report=silent)


def test_what_is_kept_is_the_moving_average(world: Setting, tmp_path: Path) -> None:
    network = train_denoiser(world, denoiser_recipe(), tmp_path, silent)
    (state,) = tmp_path.glob("state-*.safetensors")
    stored = load_file(state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, stored[f"average.{name}"])
    assert not torch.equal(network.stem.weight, stored["model.stem.weight"])


def test_a_loss_that_is_not_finite_ends_the_training(world: Setting, tmp_path: Path) -> None:
    recipe = denoiser_recipe(20).model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ArithmeticError, match="must be finite; lower its learning rate"):
        train_denoiser(world, recipe, tmp_path, silent)


@pytest.mark.parametrize("change", ["recipe", "images", "encoder"])
def test_a_checkpoint_of_another_training_is_refused(world: Setting, tmp_path: Path, change: str) -> None:
    train_denoiser(world, denoiser_recipe(), tmp_path, silent)
    other, recipe = world, denoiser_recipe()
    if change == "recipe":
        recipe = denoiser_recipe(3)
    elif change == "images":
        other = replace(world, images=DrawnScenes(8))
    else:
        other = replace(world, tower_fingerprint="sha256:0")
    with pytest.raises(ValueError, match=f"was made with another {change}, a resumed training must have the same"):
        train_denoiser(other, recipe, tmp_path, silent)


def test_a_mapper_is_not_resumed_on_top_of_another_denoiser(world: Setting, tmp_path: Path) -> None:
    train_mapper(world, mapper_recipe(), None, tmp_path / "mapper", silent)
    below = train_denoiser(world, denoiser_recipe(), tmp_path / "denoiser", silent)
    with pytest.raises(ValueError, match="another denoiser below"):
        train_mapper(world, mapper_recipe(), below, tmp_path / "mapper", silent)


def network() -> tuple[torch.nn.Linear, torch.optim.Adam]:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return layer, optimizer


def test_a_save_that_was_never_committed_is_as_if_it_had_not_begun(tmp_path: Path) -> None:
    layer, optimizer = network()
    kept = {name: value.clone() for name, value in layer.state_dict().items()}
    save_checkpoint(tmp_path, step=5, run={}, network=layer, average=kept, optimizer=optimizer)
    (tmp_path / "state-00000009.safetensors").write_bytes(b"torn")
    (tmp_path / ".checkpoint.json.new").write_text('{"step": 9, "wei')
    fresh, optimizer = network()
    done = restore_checkpoint(tmp_path, run={}, network=fresh, average=dict(kept), optimizer=optimizer)
    assert done == 5
    assert all(torch.equal(value, kept[name]) for name, value in fresh.state_dict().items())


def test_a_save_leaves_one_state_and_its_index(tmp_path: Path) -> None:
    layer, optimizer = network()
    for step in (5, 9):
        save_checkpoint(tmp_path, step=step, run={}, network=layer, average={}, optimizer=optimizer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.json", "state-00000009.safetensors"]
    assert json.loads((tmp_path / "checkpoint.json").read_text())["step"] == 9


def test_a_resumed_curve_forgets_what_will_be_run_again_and_what_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("step,loss\n10,0.5\n20,0.25\n30,0.2\n2,1")
    curve = Curve(path, ["loss"], done=20)
    curve.append(30, {"loss": 0.125})
    assert path.read_text() == "step,loss\n10,0.5\n20,0.25\n30,0.125\n"


def test_a_curve_is_drawn_with_a_line_for_each_loss(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "curve.csv", ["loss", "robustness"], done=0)
    curve.append(10, {"loss": 0.5, "robustness": 0.0})
    curve.append(20, {"loss": 0.25, "robustness": 0.0})
    curve.plot()
    drawn = (tmp_path / "curve.svg").read_text()
    assert drawn.count("<polyline") == 2
    assert 'points="320.0,30.0 610.0,120.0"' in drawn
