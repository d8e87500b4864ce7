"""The commands about encoders: the reference one's training, heads, and certificates of a prediction compared."""

import argparse
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from holdfast.roles import read
from holdfast_lab.encoder.card import model_card
from holdfast_lab.encoder.comparison import Row, compare, table, write_rows
from holdfast_lab.encoder.draws import Plan
from holdfast_lab.encoder.export import NAME, export
from holdfast_lab.encoder.head_files import CLIP, VERSION, save_head
from holdfast_lab.encoder.heads import HeadRecipe, train_head
from holdfast_lab.encoder.labelled import LabelledImages, read_archive, read_folder
from holdfast_lab.encoder.report import measure
from holdfast_lab.encoder.training import Recipe, train
from holdfast_lab.saying import report_step, say
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.registry import load
from holdfast_worker.settings import WorkerSettings

SHIPPED = model_folder(NAME)


def load_encoder(name: str | Path, *, heads: bool = True) -> Encoder:
    """Load an encoder as the worker serves it.

    Args:
        name: of a packaged encoder or of one in the worker's settings; or an encoder's folder.
        heads: whether to load its heads too.

    Raises:
        ValueError: it is a guard.
    """
    settings = _settings(name)
    encoder = load(settings.pop("folder", name), settings if heads else {**settings, "heads": []})
    if not isinstance(encoder, Encoder):
        raise ValueError(f"{str(name)!r} is a guard, must be an encoder; name one, such as {NAME}")
    return encoder


def _settings(name: str | Path) -> dict[str, Any]:
    """What the worker's settings say of an encoder: its folder, and what is laid over the folder's configuration."""
    return dict(read(WorkerSettings).served.get(str(name), {}))


def add_encoder_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this module's commands to those of `holdfast-lab`."""
    training = commands.add_parser("train-reference-encoder", help="train, export and measure from nothing")
    training.add_argument("--out", type=Path, default=SHIPPED, help="folder to write")
    training.set_defaults(run=_train)
    measuring = commands.add_parser("measure-reference-encoder", help="measure, and rewrite README.md")
    measuring.add_argument("--folder", type=Path, default=SHIPPED, help="the encoder's folder")
    measuring.set_defaults(run=_measure)
    for command in (training, measuring):
        command.add_argument("--steps", type=int, default=Recipe.steps, help="optimiser steps of the training")
        command.add_argument("--seed", type=int, default=Recipe.seed, help="of the training")
        command.add_argument("--scenes", type=int, default=2000, help="scenes per accuracy")
        command.add_argument("--certified", type=int, default=100, help="scenes that are certified")
        command.add_argument("--draws", type=int, default=2000, help="noisy passes per certified scene")
    _add_train_head(commands.add_parser("train-head", help="train a classification head on a frozen encoder"))
    _add_compare(commands.add_parser("compare-predictions", help="every certificate of a prediction, side by side"))


def _add_images(command: argparse.ArgumentParser) -> None:
    command.add_argument("--encoder", required=True, help="name of an encoder that the worker serves, or its folder")
    command.add_argument("--images", type=Path, help="folder of pictures; needs --labels")
    command.add_argument("--labels", type=Path, help="CSV with the columns file and label")
    command.add_argument("--npz", type=Path, help="instead: an archive of images (N, H, W, 3) and labels (N,)")
    command.add_argument("--start", type=int, help="first image (default: 0)")
    command.add_argument("--stop", type=int, help="one past the last image (default: all)")
    command.add_argument("--sigma", type=float, help="of the noise, [0,1] pixels (default: the encoder's)")
    command.add_argument("--seed", type=int, default=0, help="of the noise")


def _add_train_head(command: argparse.ArgumentParser) -> None:
    _add_images(command)
    command.add_argument("--kind", choices=("prototypes", "linear"), default="prototypes")
    command.add_argument("--name", required=True, help="of the head")
    command.add_argument("--version", default=VERSION, help=f"of the head (default: {VERSION})")
    command.add_argument("--copies", type=int, default=HeadRecipe.copies, help="noisy features per image")
    command.add_argument("--steps", type=int, default=HeadRecipe.steps, help="optimiser steps")
    command.add_argument("--clip", type=float, default=CLIP, help=f"of the margins (default: {CLIP:g})")
    command.add_argument("--out", type=Path, help="folder to write NAME.safetensors to (default: the encoder's heads/)")
    command.set_defaults(run=_train_head)


def _add_compare(command: argparse.ArgumentParser) -> None:
    _add_images(command)
    command.add_argument("--head", required=True, help="name of a head of the encoder")
    command.add_argument("--draws", type=int, default=10_000, help="noisy passes per image")
    command.add_argument("--selection-draws", type=int, default=100, help="separate passes that fix the label")
    command.add_argument("--alpha", type=float, default=0.001, help="risk of each method")
    command.add_argument("--clips", type=float, nargs="+", help="clips of the margins to try (default: the head's)")
    command.add_argument("--csv", type=Path, help="file to write the reach R/σ of every image to")
    command.set_defaults(run=_compare)


def _train(arguments: argparse.Namespace) -> None:
    export(train(_recipe(arguments), report_step(50)), arguments.out)
    # Measured as it is served: from the folder, with the weights rounded to half precision.
    _write_card(arguments, arguments.out)


def _measure(arguments: argparse.Namespace) -> None:
    _write_card(arguments, arguments.folder)


def _recipe(arguments: argparse.Namespace) -> Recipe:
    return Recipe(steps=arguments.steps, seed=arguments.seed)


def _write_card(arguments: argparse.Namespace, folder: Path) -> None:
    encoder = load_encoder(folder)
    report = measure(encoder, scenes=arguments.scenes, certified=arguments.certified, draws=arguments.draws, say=say)
    parameters = sum(weight.numel() for weight in load_file(folder / "model.safetensors").values())
    card = model_card(report, _recipe(arguments), parameters=parameters)
    (folder / "README.md").write_text(card, encoding="utf-8")


def _images(arguments: argparse.Namespace) -> LabelledImages:
    if arguments.npz is not None:
        found = read_archive(arguments.npz)
    elif arguments.images is not None and arguments.labels is not None:
        found = read_folder(arguments.images, arguments.labels)
    else:
        raise SystemExit("no images are named; give --npz FILE, or --images FOLDER and --labels CSV")
    return found.part(arguments.start, arguments.stop)


def _sigma(arguments: argparse.Namespace, encoder: Encoder) -> float:
    return encoder.config.defaults.sigma if arguments.sigma is None else float(arguments.sigma)


def _train_head(arguments: argparse.Namespace) -> None:
    own = Path(_settings(arguments.encoder).get("folder", arguments.encoder))
    if arguments.out is None and not own.is_dir():
        raise SystemExit(f"encoder {arguments.encoder!r} is no folder to write to; give --out FOLDER")
    # Without its heads: the one to be trained may be listed already.
    encoder, images = load_encoder(arguments.encoder, heads=False), _images(arguments)
    recipe = HeadRecipe(
        kind=arguments.kind,
        sigma=_sigma(arguments, encoder),
        copies=arguments.copies,
        steps=arguments.steps,
        seed=arguments.seed,
        clip=arguments.clip,
    )
    path = (arguments.out or own / "heads") / f"{arguments.name}.safetensors"
    save_head(train_head(encoder, images, recipe), path, version=arguments.version)
    say(f"{path}: {arguments.kind} of {len(images.classes)} classes from {len(images.labels)} images")
    say(f"to serve it, name {arguments.name!r} under the encoder's heads, in its holdfast.json or the settings")


def _compare(arguments: argparse.Namespace) -> None:
    encoder = load_encoder(arguments.encoder)
    if arguments.head not in encoder.heads:
        raise SystemExit(f"head {arguments.head!r} must be one of {sorted(encoder.heads)}; name one of these")
    plan = Plan(_sigma(arguments, encoder), arguments.draws, arguments.selection_draws, arguments.seed)
    rows = compare(
        encoder,
        arguments.head,
        _images(arguments),
        plan=plan,
        alpha=arguments.alpha,
        clips=arguments.clips or (encoder.heads[arguments.head].clip,),
        report=_report_row,
    )
    for line in table(rows):
        say(line)
    if arguments.csv is not None:
        write_rows(rows, arguments.csv)


def _report_row(row: Row) -> None:
    say(f"image {row.index}: {'right' if row.label == row.true else 'wrong'}")
