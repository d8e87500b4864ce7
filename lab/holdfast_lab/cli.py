"""The command `holdfast-lab`: train, measure and sample the reference models; boosters, heads and comparisons."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from holdfast_lab.booster.command import add_booster_commands
from holdfast_lab.encoder.commands import add_encoder_commands
from holdfast_lab.erasure import add_erasure_commands
from holdfast_lab.evaluation import Guard, load
from holdfast_lab.export import export, serving_config, write_serving_config
from holdfast_lab.model_card import measured_config, model_card
from holdfast_lab.report import Report, measure
from holdfast_lab.sample_inputs import write_sample_inputs
from holdfast_lab.saying import report_step, say
from holdfast_lab.tokenizer import build_tokenizer
from holdfast_lab.training import Recipe, train
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.guard.voting import Guard as ServedGuard
from holdfast_worker.models.registry import load as load_served
from holdfast_worker.models.registry import require_guard

SHIPPED = model_folder("reference-guard")


def _train(arguments: argparse.Namespace) -> None:
    recipe = Recipe(steps=arguments.steps, seed=arguments.seed)
    tokenizer = build_tokenizer()
    export(train(tokenizer, recipe, report_step(25)), tokenizer, arguments.out)
    # Measured as it is served: from the folder, with the weights rounded to half precision.
    guard = load(arguments.out)
    _record(measure(guard, _served(arguments.out), say=say), guard, recipe, arguments.out)


def _evaluate(arguments: argparse.Namespace) -> None:
    asked = {"examples": arguments.examples, "scenes": arguments.scenes}
    measure(load(arguments.folder), _served(arguments.folder), **asked, say=say)


def _measure(arguments: argparse.Namespace) -> None:
    guard = load(arguments.folder)
    asked = {"examples": arguments.examples, "scenes": arguments.scenes}
    report = measure(guard, _served(arguments.folder), **asked, say=say)
    _record(report, guard, Recipe(steps=arguments.steps, seed=arguments.seed), arguments.folder)


def _served(folder: Path) -> ServedGuard:
    """The guard as a worker loads it, by the settings that it is exported with."""
    return require_guard(load_served(folder, serving_config() | {"device": "cpu"}))


def _record(report: Report, guard: Guard, recipe: Recipe, folder: Path) -> None:
    write_serving_config(folder, measured_config(report))
    card = model_card(report, recipe, parameters=guard.model.num_parameters(), alphabet=len(guard.prompt.alphabet))
    (folder / "README.md").write_text(card, encoding="utf-8")


def _draw(arguments: argparse.Namespace) -> None:
    write_sample_inputs(arguments.out)


def parser() -> argparse.ArgumentParser:
    """The command's parser; a parsed namespace has `run`."""
    parser = argparse.ArgumentParser(prog="holdfast-lab", description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train-reference-guard", help="train, export and measure from nothing")
    training.add_argument("--out", type=Path, default=SHIPPED, help="checkpoint folder to write")
    training.set_defaults(run=_train)
    evaluation = commands.add_parser("evaluate-reference-guard", help="measure a checkpoint folder, and write nothing")
    evaluation.set_defaults(run=_evaluate)
    measuring = commands.add_parser("measure-reference-guard", help="measure, and rewrite holdfast.json and README.md")
    measuring.set_defaults(run=_measure)
    for command in (evaluation, measuring):
        command.add_argument("--folder", type=Path, default=SHIPPED, help="checkpoint folder")
        command.add_argument("--examples", type=int, default=2000, help="examples per accuracy")
        command.add_argument("--scenes", type=int, default=1000, help="Safe scenes for a false-flag rate")
    for command in (training, measuring):
        command.add_argument("--steps", type=int, default=Recipe.steps, help="optimiser steps of the training")
        command.add_argument("--seed", type=int, default=Recipe.seed, help="of the training")
    drawing = commands.add_parser("draw-examples", help="write the quickstart's two inputs")
    drawing.add_argument("--out", type=Path, required=True, help="folder to write to")
    drawing.set_defaults(run=_draw)
    add_erasure_commands(commands)
    add_booster_commands(commands)
    add_encoder_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; the console script `holdfast-lab`."""
    parsed = parser().parse_args(arguments)
    torch.set_num_threads(parsed.threads)
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    parsed.run(parsed)
