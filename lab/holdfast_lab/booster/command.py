"""The commands `train-booster` and `evaluate-booster`."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast_lab.booster.evaluation import evaluate, table, variant
from holdfast_lab.booster.images import DrawnScenes, FolderImages, Images
from holdfast_lab.booster.loop import Setting
from holdfast_lab.booster.recipes import DenoiserRecipe, MapperRecipe
from holdfast_lab.booster.training import train_booster
from holdfast_lab.saying import say
from holdfast_worker.denoisers.loading import Booster, load_booster
from holdfast_worker.denoisers.mapper import MapperShape
from holdfast_worker.denoisers.unet import UNetShape
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.loading import load_encoder
from holdfast_worker.models.folder import load_config

SCENES = "scenes"


def add_booster_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `train-booster` and `evaluate-booster` to the lab's commands."""
    training = commands.add_parser("train-booster", help="train denoiser and mapper for an encoder; resumes if killed")
    _add_common(training, count="drawn scenes of an epoch (default: 2000)", default=2000)
    training.add_argument("--out", type=Path, required=True, help="booster folder to write")
    training.add_argument("--only", choices=("denoiser", "mapper"), help="train one part alone")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--draws", type=int, default=8, help="noisy draws n0 of an image (default: 8)")
    training.add_argument("--clean", type=float, default=0.0, help="weight of 1 - cos without noise (default: 0)")
    training.add_argument("--save-every", type=int, default=100, help="steps between checkpoints (default: 100)")
    _add_denoiser(training)
    _add_mapper(training)
    training.set_defaults(run=_train)
    evaluation = commands.add_parser("evaluate-booster", help="certify images with and without a booster's parts")
    _add_common(evaluation, count="drawn scenes (default: 100)", default=100)
    evaluation.add_argument("--booster", type=Path, required=True, help="folder of P, or of P and M on top of it")
    evaluation.add_argument("--mapper", type=Path, help="folder of an M that was trained without P")
    evaluation.add_argument("--draws", type=int, default=1000, help="noisy passes of an image (default: 1000)")
    evaluation.add_argument("--alpha", type=float, default=0.001, help="risk of each bound (default: 0.001)")
    evaluation.set_defaults(run=_evaluate)


def _add_common(parser: argparse.ArgumentParser, *, count: str, default: int) -> None:
    parser.add_argument("--encoder", required=True, help="encoder folder, or the name of a shipped encoder")
    parser.add_argument("--images", required=True, help=f"folder of PNG, JPEG or WebP files, or '{SCENES}'")
    parser.add_argument("--count", type=int, default=default, help=count)
    parser.add_argument("--sigma", type=float, required=True, help="noise level in [0,1] units")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default)")


def _add_denoiser(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("denoiser")
    shape, defaults = UNetShape(), DenoiserRecipe.model_fields
    group.add_argument("--denoiser-epochs", type=int, default=defaults["epochs"].default)
    group.add_argument("--denoiser-batch", type=int, default=defaults["batch"].default)
    group.add_argument("--denoiser-rate", type=float, default=defaults["learning_rate"].default)
    group.add_argument("--denoiser-schedule", choices=("constant", "cosine"), default=defaults["schedule"].default)
    group.add_argument("--reconstruction", type=float, default=defaults["reconstruction"].default, help="λ1")
    group.add_argument("--width", type=int, default=shape.width, help="channels at full resolution")
    group.add_argument("--multipliers", type=int, nargs="+", default=shape.multipliers, help="of each level")
    group.add_argument("--blocks", type=int, default=shape.blocks, help="residual blocks of a level")


def _add_mapper(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("mapper")
    shape, defaults = MapperShape.model_fields, MapperRecipe.model_fields
    group.add_argument("--mapper-epochs", type=int, default=defaults["epochs"].default)
    group.add_argument("--mapper-batch", type=int, default=defaults["batch"].default)
    group.add_argument("--mapper-rate", type=float, default=defaults["learning_rate"].default)
    group.add_argument("--statistics", type=float, default=defaults["statistics"].default, help="λ2")
    group.add_argument("--identity", type=float, default=defaults["identity"].default, help="λ3")
    group.add_argument("--mapper-blocks", type=int, default=shape["blocks"].default)
    group.add_argument("--heads", type=int, default=shape["heads"].default, help="attention heads")
    group.add_argument("--scale", type=float, default=shape["scale"].default, help="initial damping of updates")


def _train(arguments: argparse.Namespace) -> None:
    encoder = _plain_encoder(arguments)
    setting = Setting(
        tower=encoder.tower,
        tower_fingerprint=encoder.fingerprint,
        images=_images(arguments),
        size=encoder.space,
        device=encoder.device,
        save_every=arguments.save_every,
    )
    train_booster(
        setting,
        denoiser=None if arguments.only == "mapper" else _denoiser_recipe(arguments),
        mapper=None if arguments.only == "denoiser" else _mapper_recipe(arguments, encoder.token_shape[1]),
        folder=arguments.out,
        report=_report,
    )


def _denoiser_recipe(arguments: argparse.Namespace) -> DenoiserRecipe:
    return DenoiserRecipe(
        sigma=arguments.sigma,
        seed=arguments.seed,
        draws=arguments.draws,
        clean=arguments.clean,
        epochs=arguments.denoiser_epochs,
        batch=arguments.denoiser_batch,
        learning_rate=arguments.denoiser_rate,
        schedule=arguments.denoiser_schedule,
        reconstruction=arguments.reconstruction,
        shape=UNetShape(width=arguments.width, multipliers=tuple(arguments.multipliers), blocks=arguments.blocks),
    )


def _mapper_recipe(arguments: argparse.Namespace, width: int) -> MapperRecipe:
    return MapperRecipe(
        sigma=arguments.sigma,
        seed=arguments.seed,
        draws=arguments.draws,
        clean=arguments.clean,
        epochs=arguments.mapper_epochs,
        batch=arguments.mapper_batch,
        learning_rate=arguments.mapper_rate,
        statistics=arguments.statistics,
        identity=arguments.identity,
        shape=MapperShape(width=width, blocks=arguments.mapper_blocks, heads=arguments.heads, scale=arguments.scale),
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    plain = _plain_encoder(arguments)
    booster = load_booster(arguments.booster, plain.device)
    alone = None if arguments.mapper is None else load_booster(arguments.mapper, plain.device)
    rows = evaluate(
        _variants(plain, booster, alone),
        _images(arguments),
        sigma=arguments.sigma,
        draws=arguments.draws,
        alpha=arguments.alpha,
        say=say,
    )
    print(f"σ = {arguments.sigma:g}, {arguments.draws} draws, α = {arguments.alpha:g} for each number")
    print(table(rows))


def _variants(plain: Encoder, booster: Booster, alone: Booster | None) -> list[tuple[str, Encoder]]:
    """The encoder without a booster, with P, with M alone, and with both, as far as there are such."""
    found = [("none", plain)]
    if booster.denoiser is not None:
        found.append(("P", variant(plain, booster.denoiser, None)))
    if alone is not None:
        found.append(("M", variant(plain, None, alone.mapper)))
    if booster.mapper is not None:
        name = "M" if booster.denoiser is None else "P+M"
        found.append((name, variant(plain, booster.denoiser, booster.mapper)))
    return found


def _plain_encoder(arguments: argparse.Namespace) -> Encoder:
    """The encoder without what its own settings put before and behind it."""
    folder = model_folder(arguments.encoder)
    bare: dict[str, Any] = {"booster": None, "diffusion": None, "device": arguments.device}
    return load_encoder(folder, load_config(EncoderConfig, folder, bare))


def _images(arguments: argparse.Namespace) -> Images:
    if arguments.images == SCENES:
        return DrawnScenes(arguments.count)
    return FolderImages(Path(arguments.images))


def _report(stage: str, step: int, steps: int, losses: Mapping[str, float]) -> None:
    if step % 50 == 0 or step == steps:
        named = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        say(f"{stage}  step {step} of {steps}  {named}")
