"""Checkpoints, curves and recipes of a booster's training, one by one: torn, foreign, of another time, and whole."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from holdfast_lab.booster.checkpoints import restore_checkpoint, save_checkpoint
from holdfast_lab.booster.curves import Curve
from holdfast_lab.booster.loop import _follow, fresh
from holdfast_lab.booster.recipes import DenoiserRecipe, MapperRecipe
from holdfast_worker.denoisers.mapper import MapperShape

RUN: dict[str, Any] = {"recipe": {"sigma": 0.25, "seed": 0}, "images": "scenes:8", "size": [16, 16], "below": None}


def trained(steps: int, *, of: type[torch.optim.Optimizer] = torch.optim.Adam) -> tuple[nn.Linear, Any]:
    """A layer and its optimiser after some steps, the same every time."""
    layer = fresh(lambda: nn.Linear(3, 2), 0, 0)
    optimizer: Any = of(layer.parameters(), lr=0.1)  # type: ignore[call-arg]
    take(layer, optimizer, range(steps))
    return layer, optimizer


def take(layer: nn.Linear, optimizer: Any, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        torch.autograd.backward((layer(torch.full((1, 3), 1.0 + step)) - 1).square().sum())
        optimizer.step()


def average_of(layer: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in layer.state_dict().items()}


def save(folder: Path, steps: int, **changed: Any) -> nn.Linear:
    layer, optimizer = trained(steps)
    save_checkpoint(
        folder, step=steps, run=RUN | changed, network=layer, average=average_of(layer), optimizer=optimizer
    )
    return layer


def restore(folder: Path, **changed: Any) -> tuple[int, nn.Linear, Any, dict[str, Tensor]]:
    layer, optimizer = trained(0)
    average = average_of(layer)
    done = restore_checkpoint(folder, run=RUN | changed, network=layer, average=average, optimizer=optimizer)
    return done, layer, optimizer, average


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
@pytest.mark.parametrize("of", [torch.optim.Adam, torch.optim.AdamW])
def test_a_resumed_optimiser_goes_on_to_the_same_bits(
    tmp_path: Path, cut: int, of: type[torch.optim.Optimizer]
) -> None:
    whole, _ = trained(8, of=of)
    layer, optimizer = trained(cut, of=of)
    save_checkpoint(tmp_path, step=cut, run=RUN, network=layer, average=average_of(layer), optimizer=optimizer)
    resumed, again = trained(0, of=of)
    done = restore_checkpoint(tmp_path, run=RUN, network=resumed, average=average_of(resumed), optimizer=again)
    take(resumed, again, range(done, 8))
    assert done == cut
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_average_comes_back_by_name_and_is_not_the_network(tmp_path: Path) -> None:
    layer, optimizer = trained(3)
    average = {name: value + 1 for name, value in average_of(layer).items()}
    save_checkpoint(tmp_path, step=3, run=RUN, network=layer, average=average, optimizer=optimizer)
    _, restored, _, found = restore(tmp_path)
    assert all(torch.equal(found[name], average[name]) for name in average)
    assert torch.equal(restored.weight, layer.weight)


def test_where_nothing_was_saved_nothing_is_restored(tmp_path: Path) -> None:
    done, layer, optimizer, _ = restore(tmp_path / "never-made")
    assert (done, optimizer.state_dict()["state"]) == (0, {})
    assert torch.equal(layer.weight, trained(0)[0].weight)
    assert not (tmp_path / "never-made").exists()


@pytest.mark.parametrize("key", list(RUN))
def test_whatever_the_outcome_is_determined_by_must_be_the_same_and_is_named(tmp_path: Path, key: str) -> None:
    save(tmp_path, 2)
    with pytest.raises(ValueError, match=rf"another {key}, a resumed training must have the same"):
        restore(tmp_path, **{key: "other"})


def test_every_difference_is_named_in_one_message(tmp_path: Path) -> None:
    save(tmp_path, 2)
    with pytest.raises(ValueError, match="another encoder, images, size, a resumed"):
        restore(tmp_path, images="folder:1", size=[8, 8], encoder="added since")


def test_a_run_is_compared_as_json_so_that_tuples_and_lists_are_one(tmp_path: Path) -> None:
    save(tmp_path, 2, size=(16, 16))
    assert restore(tmp_path, size=[16, 16])[0] == restore(tmp_path, size=(16, 16))[0] == 2


def test_a_refused_checkpoint_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    save(tmp_path, 4)
    layer, optimizer = trained(0)
    before = average_of(layer)
    with pytest.raises(ValueError, match="another images"):
        restore_checkpoint(
            tmp_path, run=RUN | {"images": "x"}, network=layer, average=dict(before), optimizer=optimizer
        )
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert optimizer.state_dict()["state"] == {}


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "checkpoint.json").write_text('{"step": 3, "wei'),
        lambda folder: (folder / "checkpoint.json").write_text('{"epoch": 3}'),
        lambda folder: (folder / "checkpoint.json").write_text("[]"),
        lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff"),
        lambda folder: next(folder.glob("state-*")).unlink(),
        lambda folder: next(folder.glob("state-*")).write_bytes(b"torn"),
    ],
    ids=["torn index", "foreign index", "no object", "no text", "no state", "torn state"],
)
def test_a_checkpoint_that_is_damaged_or_of_something_else_is_refused_with_the_remedy(
    tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    save(tmp_path, 3)
    harm(tmp_path)
    with pytest.raises(ValueError, match=r"is no checkpoint that can be resumed \(.+\); remove it to begin again"):
        restore(tmp_path)


def test_a_kill_between_the_state_and_its_index_keeps_the_save_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save(tmp_path, 3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 6)
    done, layer, _, _ = restore(tmp_path)
    assert done == 3
    assert torch.equal(layer.weight, before.weight)
    save(tmp_path, 6)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.json", "state-00000006.safetensors"}


def test_the_index_names_the_state_that_is_there(tmp_path: Path) -> None:
    save(tmp_path, 12)
    index = json.loads((tmp_path / "checkpoint.json").read_text())
    assert set(index) == {"step", "weights", "run"}
    stored = load_file(tmp_path / index["weights"])
    assert {name.split(".")[0] for name in stored} == {"model", "average", "optimizer"}


@given(st.floats(0, 0.999), st.integers(1, 20))
def test_the_moving_average_of_a_constant_is_that_constant(decay: float, steps: int) -> None:
    layer, _ = trained(2)
    average = average_of(layer)
    for _ in range(steps):
        _follow(average, layer, decay)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(average[name], value)


def test_a_decay_of_zero_follows_at_once() -> None:
    layer, _ = trained(2)
    average = average_of(trained(0)[0])
    _follow(average, layer, 0.0)
    assert torch.equal(average["weight"], layer.weight)


def test_first_weights_depend_on_seed_and_stage_and_leave_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    weights = [fresh(lambda: nn.Linear(3, 3), seed, stage).weight for seed in (0, 1) for stage in (0, 1)]
    assert torch.equal(torch.rand(1), expected)
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 4


values = st.floats(0, 1e6, allow_subnormal=False)


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curves") / "sub" / "curve.csv"


@given(rows=st.lists(st.tuples(values, values), min_size=1, max_size=8), done=st.integers(0, 100))
def test_a_curve_keeps_what_was_done_and_draws_it_inside_its_frame(
    drawing: Path, rows: list[tuple[float, float]], done: int
) -> None:
    drawing.unlink(missing_ok=True)
    curve = Curve(drawing, ["loss", "clean"], done=0)
    for place, (loss, clean) in enumerate(rows, 1):
        curve.append(10 * place, {"clean": clean, "loss": loss, "unnamed": 1.0})
    Curve(drawing, ["loss", "clean"], done=done).plot()
    kept = [line.split(",") for line in drawing.read_text().splitlines()]
    assert kept[0] == ["step", "loss", "clean"]
    assert [int(row[0]) for row in kept[1:]] == [step for step in range(10, 10 * len(rows) + 1, 10) if step <= done]
    for row, (loss, clean) in zip(kept[1:], rows, strict=False):
        np.testing.assert_allclose([float(row[1]), float(row[2])], [loss, clean], rtol=1e-5)
    if len(kept) > 1:
        points = re.findall(r"(-?[\d.]+),(-?[\d.]+)", " ".join(re.findall('points="(.*?)"', svg_of(drawing))))
        assert len(points) == 2 * (len(kept) - 1)
        assert all(30 <= float(x) <= 610 and 29.9 <= float(y) <= 210.1 for x, y in points)


def svg_of(path: Path) -> str:
    return path.with_suffix(".svg").read_text()


def test_a_curve_without_rows_is_not_drawn_and_one_of_other_columns_is_begun_anew(tmp_path: Path) -> None:
    Curve(tmp_path / "curve.csv", ["loss"], done=0).plot()
    assert not (tmp_path / "curve.svg").exists()
    (tmp_path / "curve.csv").write_text("step,loss,more\n10,0.5,1\n")
    Curve(tmp_path / "curve.csv", ["loss"], done=50)
    assert (tmp_path / "curve.csv").read_text() == "step,loss\n"


def test_an_untold_recipe_is_the_papers() -> None:
    denoiser = DenoiserRecipe(sigma=0.25)
    mapper = MapperRecipe(sigma=0.25, shape=MapperShape(width=8))
    assert (denoiser.draws, denoiser.batch, denoiser.learning_rate, denoiser.reconstruction) == (8, 8, 1e-4, 0.25)
    assert (mapper.draws, mapper.batch, mapper.learning_rate) == (8, 16, 2e-4)
    assert (mapper.statistics, mapper.identity, mapper.schedule) == (100.0, 0.25, "cosine")
    assert (denoiser.clean, mapper.clean, denoiser.ema) == (0.0, 0.0, 0.999)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma": 0.0}, {"sigma": float("nan")}, {"sigma": float("inf")}, {"seed": -1}, {"epochs": 0}, {"draws": 0},
        {"clean": -0.1}, {"ema": 1.0}, {"batch": 0}, {"learning_rate": 0.0}, {"reconstruction": -1.0},
        {"schedule": "linear"}, {"momentum": 0.9},
    ],
    ids=str,
)  # fmt: skip
def test_a_recipe_that_cannot_be_meant_is_refused_by_its_field(wrong: dict[str, Any]) -> None:
    (field,) = wrong
    with pytest.raises(ValidationError, match=field):
        DenoiserRecipe(**{"sigma": 0.25, **wrong})


def test_every_field_of_a_recipe_says_what_it_means() -> None:
    for recipe in (DenoiserRecipe, MapperRecipe):
        assert all(field.description for field in recipe.model_fields.values())
