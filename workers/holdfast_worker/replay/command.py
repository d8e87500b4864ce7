"""`holdfast replay`: run a share of a certificate's draws again, and compare the votes with what it states."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError

from holdfast.certificates.noise.kernels import BLOCK
from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.problems import ProblemError
from holdfast.images import decode_file
from holdfast.queue.jobs import CERTIFICATE, JobInput
from holdfast.roles import read
from holdfast.settings import StartError
from holdfast_worker.inspection.naming import parser_of
from holdfast_worker.models import registry
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import ModelError
from holdfast_worker.models.vision.noise_space import MAX_SIDE
from holdfast_worker.replay.features import NEAR_TIE, FeatureComparison, replay_features
from holdfast_worker.replay.guard import Comparison, ReplayError, blocks, replay, spread
from holdfast_worker.settings import WorkerSettings

_WANTED = {"feature": "--image alone", "tabular": "--fields", "hybrid": "--text, and --image if there was one"}

_SHARE = 0.1

_HEAD = f"{'draws':>16}{'passes':>8}{'differing':>11}{'near ties':>11}{'of them differing':>19}"
_CHANNELS_HEAD = f"{'channel':>10}{'rival':>7}{'differing':>11}{'adjacent':>10}{'near edges':>12}"

_EPILOG = """\
A certificate records its seed and every vote: for each image draw which of its tails were Unsafe in which cells, and
which votes were near a tie. With the same guard and the same input, each draw can be made again. Replay loads the
guard, refuses if its fingerprint is not the certificate's, runs blocks of 16 draws spread evenly over the evidence, and
counts the votes that differ from the certificate's. A feature certificate counts its draws all together: all of them
are scored again, and every histogram is held against its own.

examples:
  holdfast replay cert.json --text "what you see" --image cat.png
  holdfast replay cert.json --text T --suffix S --image I --share 1   every draw
  holdfast replay cert.json --fields fields.json --json               a tabular input, for machines
  holdfast replay cert.json --image cat.png                           a feature certificate

Votes near a tie, within the certificate's band by either count, may fall either way in another batch or on another
device; they count against whichever side claims, and are counted apart here. Any other difference means another input,
another way of computing, or a certificate that was altered.
Equal votes do not show that the input is the one that was certified: another may get the same.
The guard or encoder is the one that the settings name (holdfast.toml, HOLDFAST_SERVED); --model serves it under
another name.

Exit status: 0 every replayed vote is the certificate's, and of an encoder's scores all but what rounding explains;
1 some are not or it cannot be replayed, 2 wrong usage, 130 interrupted.
"""


def command(argv: list[str]) -> int:
    """The command line of `holdfast replay`."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.share is not None and not 0 < options.share <= 1:
        parser.error(f"--share {options.share:g} must be above 0 and at most 1")
    if _kind(options) is None:
        parser.error("give --text and --image, or --text alone, --fields for a tabular input, or an encoder's --image")
    try:
        return _run(options)
    except (ReplayError, ModelError, StartError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _kind(options: argparse.Namespace) -> str | None:
    """The kind of certificate that the input given is of."""
    text, image, fields = (getattr(options, name) is not None for name in ("text", "image", "fields"))
    if text:
        return None if fields else "hybrid"
    if options.suffix or image == fields:
        return None
    return "feature" if image else "tabular"


def _parser() -> argparse.ArgumentParser:
    told = "Run a share of a certificate's draws again and compare the votes with what it states."
    parser = parser_of("replay", told, _EPILOG)
    parser.add_argument("certificate", help="the certificate, a JSON file")
    parser.add_argument("--text", help="the text that was certified")
    parser.add_argument("--image", metavar="FILE", help="the image that was certified: PNG, JPEG or WebP")
    parser.add_argument("--suffix", default="", help="the untrusted tail, if one was given")
    parser.add_argument("--fields", metavar="FILE", help="the tabular input that was certified, a JSON object")
    parser.add_argument("--share", type=float, help=f"share of the draws to run again (default: {_SHARE})")
    parser.add_argument("--model", metavar="NAME", help="the model in the settings (default: the certificate's)")
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings (default: holdfast.toml, if there)")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON, and nothing else")
    return parser


def _run(options: argparse.Namespace) -> int:
    certificate = _certificate(options.certificate)
    given = _given(options, certificate)
    model = registry.load_served(
        options.model or certificate.model.name, read(WorkerSettings, config=options.config).served
    )
    if isinstance(certificate, FeatureCertificate):
        return _run_features(model, certificate, given, as_json=options.json)
    guard, share = registry.require_guard(model), options.share or _SHARE
    compared = []
    if not options.json:
        every = blocks(certificate.evidence.draws)
        chosen = len(spread(every, share))
        told = f"{chosen} of {every} blocks of {BLOCK} draws on {certificate.model.name}"
        sys.stdout.write(f"{certificate.id}: {told}\n{_HEAD}\n")
    for comparison in replay(guard, certificate, given, share=share):
        compared.append(comparison)
        if not options.json:
            sys.stdout.write(_row(comparison) + "\n")
    sys.stdout.write((_as_json(certificate, compared) if options.json else _summary(certificate, compared)) + "\n")
    return 1 if any(comparison.differing for comparison in compared) else 0


def _certificate(path: str) -> Certificate | FeatureCertificate:
    try:
        return CERTIFICATE.validate_json(_read(path))
    except ValidationError as error:
        raise ReplayError(
            f"{path} has {error.error_count()} faults, must be a certificate; keep the answer of"
            " `holdfast certify --json`"
        ) from None


def _given(options: argparse.Namespace, certificate: Certificate | FeatureCertificate) -> JobInput:
    if _kind(options) != certificate.kind:
        raise ReplayError(f"the certificate is of a {certificate.kind} input; give {_WANTED[certificate.kind]}")
    if certificate.kind == "feature" and options.share not in (None, 1):
        raise ReplayError(
            f"--share {options.share:g} must be 1 for a feature certificate, whose draws are counted together; drop it"
        )
    if options.fields is None and options.image is None:
        if certificate.space.input_height is not None:
            raise ReplayError("the certificate is of a text and an image, which must be given too; give --image")
        return JobInput(options.text or "", options.suffix)
    if options.fields is None:
        try:
            image = decode_file(_read(options.image), max_pixels=MAX_SIDE**2)
        except ProblemError as error:
            raise ReplayError(f"{options.image}: {error}") from None
        size, own = (image.height, image.width), (certificate.space.input_height, certificate.space.input_width)
        if own == (None, None):
            raise ReplayError("the certificate is of a text alone; drop --image")
        if size != own:
            raise ReplayError(
                f"the image has {size} rows and columns, must have the certificate's {own}; give that one"
            )
        return JobInput(options.text or "", options.suffix, image.png)
    try:
        fields = json.loads(_read(options.fields))
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise ReplayError(f"{options.fields} must be a JSON object of a value per field; correct it")
    return JobInput(fields=fields)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ReplayError(f"{path} cannot be read ({error.strerror}); give the path of a file") from None


def _row(found: Comparison) -> str:
    draws = f"{found.start}..{found.stop}"
    return f"{draws:>16}{found.passes:8}{found.differing:11}{found.near_ties:11}{found.near_differing:19}"


def _totals(compared: Sequence[Comparison]) -> dict[str, int]:
    names = ("passes", "differing", "near_ties", "near_differing")
    return {name: sum(getattr(found, name) for found in compared) for name in names}


def _summary(certificate: Certificate, compared: Sequence[Comparison]) -> str:
    total = _totals(compared)
    verdict = f"{total['differing']} votes differ" if total["differing"] else "every vote is the certificate's"
    return (
        f"{total['passes']} passes replayed: {verdict}.\n"
        f"Votes within {certificate.evidence.tie_band:g} of a tie may differ with batch composition or device;"
        f" {total['near_ties']} were that close, {total['near_differing']} of them differ."
    )


def _as_json(certificate: Certificate, compared: Sequence[Comparison]) -> str:
    total = _totals(compared)
    return json.dumps(
        {
            "id": certificate.id,
            "model": certificate.model.model_dump(),
            "draws": certificate.evidence.draws,
            "compared": [asdict(found) for found in compared],
            **total,
            "tie_band": certificate.evidence.tie_band,
            "equal": not total["differing"],
        }
    )


def _run_features(model: registry.Model, certificate: FeatureCertificate, given: JobInput, *, as_json: bool) -> int:
    if not isinstance(model, Encoder):
        raise ReplayError(f"model {model.config.name!r} is a guard, must be the certificate's encoder; name that")
    if not as_json:
        sys.stdout.write(f"{certificate.id}: {certificate.evidence.passes} passes on {certificate.model.name}\n")
    found = replay_features(model, certificate, given)
    sys.stdout.write((_features_json(certificate, found) if as_json else _features_text(found)) + "\n")
    return 0 if found.equal else 1


def _features_text(found: FeatureComparison) -> str:
    rows = [
        f"{channel.name:>10}{'' if channel.rival is None else channel.rival:>7}"
        f"{channel.differing:11}{channel.adjacent:10}{channel.near_edges:12}"
        for channel in found.channels
    ]
    verdict = "every channel is the certificate's" if found.equal else "not what the certificate states"
    label = "" if found.label is None else f"label {found.label}{'' if found.label_equal else ', another'}; "
    return "\n".join(
        [
            _CHANNELS_HEAD,
            *rows,
            f"{found.passes} passes replayed: {verdict}.",
            f"Found: {label}votes differing {found.votes_differing}, near ties {found.near_ties}; settled values off by"
            f" at most {found.settled_gap:.2g}.",
            f"Inner products off by {NEAR_TIE:g}, with batch composition or device, may bring as many draws to the next"
            " level as lie near an edge.",
        ]
    )


def _features_json(certificate: FeatureCertificate, found: FeatureComparison) -> str:
    return json.dumps(
        {
            "id": certificate.id,
            "model": certificate.model.model_dump(),
            **asdict(found),
            "near_tie": NEAR_TIE,
            "equal": found.equal,
        }
    )
