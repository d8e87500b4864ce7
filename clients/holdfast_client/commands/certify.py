"""`holdfast certify`: one input in, its certificate out."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, get_args

from rich.console import Console

from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.requests import AskedMethod, AskedVerdict, Scope, TextThreatKind
from holdfast_client.certification import Certification
from holdfast_client.client import Client
from holdfast_client.commands.arguments import DONE, INTERRUPTED, FileError, add_url, number_list, read_file
from holdfast_client.commands.following import follow
from holdfast_client.render import certificate_view, progress_in_short, terminal

__all__ = ["EPILOG", "HELP", "add_arguments"]

HELP = "certify one input"
EPILOG = """\
The answer is a frontier: for every number d of attacker tokens, the largest image shift (L2, in the guard's noise
space) within which no attack changes the verdict of the smoothed guard. The verdict is Unsafe or Safe, or it abstains:
then nothing is certified, and that is no sign of safety. Lower bounds and radii are rounded down, upper bounds up.

examples:
  certify one input, with the model's measured defaults
    holdfast certify --text "Love the way you smell today" --image skunk.png
  ask one question, in far fewer passes: does the verdict stand against 3 tokens and an image shift of 0.5?
    holdfast certify --text T --image I.png --target 3,0.5
  image only: the text stays as it is
    holdfast certify --text T --image I.png --threat none
  text only: the image stays as it is, and gets no noise
    holdfast certify --text T --image I.png --image-threat none
  any two tokens of the text (l0), instead of slots after it
    holdfast certify --text T --image I.png --threat l0 --max-tokens 2
  a tabular guard: {"age": 41, "city": "Rome"} in a file; d counts categorical fields
    holdfast certify --model M --fields person.json
  keep the certificate, and check it later
    holdfast certify --text T --image I.png --json > cert.json

Ctrl-C cancels the certification. Options that are not given take the model's measured defaults (`holdfast models`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast certify`."""
    _add_input(parser.add_argument_group("input", "text and image, or the fields of a tabular guard"))
    _add_attacker(parser.add_argument_group("attacker", "whom the certificate holds against"))
    _add_smoothing(parser.add_argument_group("smoothing", "the noise that defines the smoothed guard"))
    _add_claim(parser.add_argument_group("claim", "what is certified, and how surely"))
    _add_effort(parser.add_argument_group("effort", "when to stop"))
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print the certificate as JSON, and nothing else")
    output.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_url(parser)
    parser.set_defaults(run=_certify, refuse=parser.error)


def _add_input(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--text", help="the text to certify")
    group.add_argument("--image", metavar="FILE", help="the image: PNG, JPEG or WebP")
    group.add_argument("--suffix", default="", help="the untrusted tail of the text, if it is known")
    group.add_argument("--fields", metavar="FILE", help="a JSON object with a value for each field of a tabular guard")
    group.add_argument("--model", metavar="NAME", help="the guard (see `holdfast models`)")


def _add_attacker(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--threat",
        choices=get_args(TextThreatKind),
        help="suffix: rewrites slots after the text; l0: rewrites any d tokens (fields); none: touches no token",
    )
    group.add_argument(
        "--image-threat", choices=("l2", "none"), help="l2: shifts the image by the radius; none: leaves it as it is"
    )
    group.add_argument("--slots", type=int, metavar="M", help="suffix: token positions after the text")
    group.add_argument("--max-tokens", type=int, metavar="D", help="l0: largest number of tokens (fields)")
    group.add_argument(
        "--target", type=_target, metavar="TOKENS,EPSILON", help="ask only whether this attack is withstood"
    )


def _add_smoothing(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--beta", type=float, metavar="B", help="corruption rate of a token, in (0, 1]")
    group.add_argument("--sigma", type=float, metavar="S", help="standard deviation of the image noise")
    group.add_argument(
        "--scope", choices=get_args(Scope), help="one smoothed guard for every d, or per_budget one for each"
    )


def _add_claim(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--verdict", choices=get_args(AskedVerdict), help="the verdict to try for; both share alpha")
    group.add_argument("--tau", type=float, metavar="T", help="Unsafe above this Unsafe probability, in (0, 1)")
    group.add_argument("--alpha", type=float, metavar="A", help="risk that any number is wrong, in (0, 0.5]")
    group.add_argument("--method", choices=get_args(AskedMethod), help="the bound; auto: the better one for each d")
    group.add_argument("--epsilons", type=number_list, metavar="E,E,...", help="image radii for the worst-case table")


def _add_effort(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--max-passes", type=int, metavar="N", help="most noisy passes to spend")
    group.add_argument("--tolerance", type=float, metavar="R", help="stop when no radius can grow by more than this")


def _target(text: str) -> tuple[int, float]:
    tokens, _, epsilon = text.partition(",")
    try:
        return int(tokens), float(epsilon)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be tokens and image radius, such as 3,0.5") from None


def _certify(arguments: argparse.Namespace, messages: Console) -> int:
    _check_usage(arguments, arguments.refuse)
    given = _input(arguments)
    with Client(arguments.url) as client:
        tell = None if arguments.no_progress else progress_in_short
        certificate = follow(_submit(client, arguments, given), messages, tell)
    if certificate is None:
        return INTERRUPTED
    if arguments.json:
        sys.stdout.write(certificate.model_dump_json(indent=2) + "\n")
    else:
        terminal().print(certificate_view(certificate))
    return DONE


def _check_usage(arguments: argparse.Namespace, refuse: Callable[[str], None]) -> None:
    multimodal = [arguments.text is not None, arguments.image is not None]
    if arguments.fields is None and not all(multimodal):
        refuse("give --text and --image, or --fields for a tabular guard")
    if arguments.fields is not None and any((*multimodal, arguments.suffix)):
        refuse("--fields is the whole input of a tabular guard; drop --text, --image and --suffix")


def _input(arguments: argparse.Namespace) -> dict[str, Any]:
    """The input as `Client.certify` takes it; the files are read here, so that their errors name the option."""
    if arguments.fields is None:
        image = read_file("--image", arguments.image, "an image file")
        return {"text": arguments.text, "image": image, "suffix": arguments.suffix}
    content = read_file("--fields", arguments.fields, "a JSON file")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise FileError('--fields must be a file with a JSON object, such as {"age": 41, "city": "Rome"}')
    return {"fields": fields}


def _submit(client: Client, arguments: argparse.Namespace, given: dict[str, Any]) -> Certification[Certificate]:
    return client.certify(
        **given,
        model=arguments.model,
        threat=arguments.threat,
        image_threat=arguments.image_threat,
        slots=arguments.slots,
        max_tokens=arguments.max_tokens,
        target=arguments.target,
        beta=arguments.beta,
        sigma=arguments.sigma,
        scope=arguments.scope,
        verdict=arguments.verdict,
        tau=arguments.tau,
        alpha=arguments.alpha,
        method=arguments.method,
        epsilons=arguments.epsilons,
        max_passes=arguments.max_passes,
        tolerance=arguments.tolerance,
    )
