"""The lab's command line: what its help teaches, and what it refuses before anything is loaded."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast_lab.cli import SHIPPED, main, parser
from holdfast_lab.encoder.commands import SHIPPED as ENCODER
from holdfast_lab.training import Recipe


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser by its name."""
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


EVERY = sorted(commands())


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that gets as far as loading or training fails here."""

    def reached(*_: object, **__: object) -> Any:
        raise AssertionError("this should have been refused before")

    for place in (
        "holdfast_lab.cli.load", "holdfast_lab.cli.train", "holdfast_lab.encoder.commands.load",
        "holdfast_lab.encoder.commands.train", "holdfast_lab.booster.command.load_encoder",
        "holdfast_lab.booster.command.train_booster", "holdfast_lab.cli.load_served", "holdfast_lab.erasure.load",
    ):  # fmt: skip
        monkeypatch.setattr(place, reached)


def test_the_commands_are_those_that_are_documented() -> None:
    assert EVERY == [
        "compare-predictions", "draw-examples", "erase-and-check", "evaluate-booster", "evaluate-reference-guard",
        "measure-erase-and-check", "measure-reference-encoder", "measure-reference-guard", "train-booster",
        "train-head", "train-reference-encoder", "train-reference-guard",
    ]  # fmt: skip


def test_the_help_of_the_whole_names_every_command_with_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    (group,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    told = {action.dest: action.help for action in group._choices_actions}
    assert set(told) == set(EVERY)
    assert all(told.values())
    assert all(name in said for name in EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_the_help_of_a_command_teaches_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: holdfast-lab {name}")
    for action in commands()[name]._actions:
        assert all(option in said for option in action.option_strings)


@pytest.mark.parametrize("name", EVERY)
def test_every_command_can_be_run(name: str) -> None:
    assert callable(commands()[name].get_default("run"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train-booster"], "required: --encoder, --images, --sigma, --out"),
        (["evaluate-booster", "--encoder", "e", "--images", "i"], "required: --sigma, --booster"),
        (["train-head"], "required: --encoder, --name"),
        (["compare-predictions"], "required: --encoder, --head"),
        (["draw-examples"], "required: --out"),
        (["erase-and-check", "--text", "hi"], "required: --image"),
        (["train-reference-guard", "--steps", "many"], "invalid int value: 'many'"),
        (["train-head", "--encoder", "e", "--name", "n", "--kind", "tree"], "invalid choice: 'tree'"),
        (["train-booster", "--only", "both"], "invalid choice: 'both'"),
        (["evaluate-reference-guard", "--tau", "1"], "unrecognized arguments: --tau 1"),
        (["--threads", "two", "draw-examples"], "invalid int value: 'two'"),
        (["polish-reference-guard"], "invalid choice: 'polish-reference-guard'"),
    ],
)
def test_words_that_cannot_be_meant_end_with_two_and_say_which(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train-head", "compare-predictions"])
@pytest.mark.parametrize("given", [[], ["--images", "folder"], ["--labels", "table.csv"]])
def test_pictures_need_an_archive_or_a_folder_with_its_table(
    command: str, given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast_lab.encoder.commands.load_encoder", lambda *_, **__: Headed())
    named = ["--name", "n", "--out", str(tmp_path)] if command == "train-head" else ["--head", "h"]
    with pytest.raises(SystemExit, match="no images are named; give --npz FILE, or --images FOLDER and --labels CSV"):
        main([command, "--encoder", "e", *named, "--sigma", "0.1", *given])
    assert not list(tmp_path.iterdir())


class Headed:
    """As much of an encoder as is looked at before pictures are read."""

    heads: dict[str, Any] = {"h": argparse.Namespace(clip=0.1)}  # noqa: RUF012 - never changed


@pytest.mark.parametrize("name", ["reference-encoder", "another", "/no/such/folder"])
def test_a_head_is_not_written_to_where_no_folder_is(name: str) -> None:
    with pytest.raises(SystemExit, match=f"encoder '{name}' is no folder to write to; give --out FOLDER"):
        main(["train-head", "--encoder", name, "--name", "n", "--npz", "absent.npz"])


def test_untold_options_are_the_recipes_own() -> None:
    told = parser().parse_args(["train-reference-guard"])
    assert (told.steps, told.seed, told.out) == (Recipe.steps, Recipe.seed, SHIPPED)
    assert parser().parse_args(["measure-reference-encoder"]).folder == ENCODER
    assert parser().parse_args(["draw-examples", "--out", "x"]).threads == 1


def test_what_ships_lies_where_the_commands_look() -> None:
    for folder in (SHIPPED, ENCODER):
        assert {"holdfast.json", "README.md", "model.safetensors"} <= {path.name for path in folder.iterdir()}


def test_a_part_of_an_archive_that_is_empty_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast_lab.encoder.commands.load_encoder", lambda *_, **__: Headed())
    np.savez(tmp_path / "s.npz", images=np.zeros((2, 2, 2, 3), np.uint8), labels=np.array([0, 1]))
    options = ["--npz", str(tmp_path / "s.npz"), "--start", "2", "--sigma", "0.1"]
    with pytest.raises(ValueError, match="0 images and 0 labels must be equally many, and some"):
        main(["compare-predictions", "--encoder", "e", "--head", "h", *options])
