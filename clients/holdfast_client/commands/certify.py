"""`holdfast certify`: one input in, its certificate out."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, cast

from rich.console import Console

from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast_client.client import Client
from holdfast_client.commands.arguments import DONE, INTERRUPTED, FileError, add_options, add_url, asked, read_file
from holdfast_client.commands.following import follow
from holdfast_client.render import certificate_view, progress_in_short, terminal

HELP = "certify one input"
EPILOG = """\
The answer is a frontier: for every number d of attacker tokens, the largest image shift (L2, in the guard's noise
space) within which no attack changes the verdict of the smoothed guard. The verdict is Unsafe or Safe, or it abstains:
then nothing is certified, and that is no sign of safety. Lower bounds and radii are rounded down, upper bounds up.

A threat covers what it says, and nothing else; each with any shift of the image below the radius:
  suffix   the attacker rewrites the first d of M slots that are reserved after the text, with any tokens; an attacked
           input must be scored with its tail in the slots, not glued to the text
  append   appends up to C code points, whatever they are, to the text; nothing is rewritten, inserted or put in front.
           One radius for all of 0 to C, no slots and no token noise, Unsafe alone; a verdict scores C+1 shortened texts
  l0       rewrites any d tokens of the text, whose number stays as it is; on a tabular input, any d categorical fields
  none     leaves the text as it is
What the method neyman_pearson certifies holds against tokens of the guard's alphabet alone.

examples:
  certify one input, with the model's measured defaults
    holdfast certify --text "Love the way you smell today" --image skunk.png
  ask one question, in far fewer draws: does the verdict stand against 3 tokens and an image shift of 0.5?
    holdfast certify --text T --image I.png --target 3,0.5
  image only: the text stays as it is
    holdfast certify --text T --image I.png --threat none
  text only: the image stays as it is, and gets no noise
    holdfast certify --text T --image I.png --image-threat none
  up to 20 characters glued to the end of the text, instead of slots after it
    holdfast certify --text T --image I.png --threat append --max-characters 20
  any two tokens of the text (l0)
    holdfast certify --text T --image I.png --threat l0 --max-tokens 2
  a tabular guard: {"age": 41, "city": "Rome"} in a file; d counts categorical fields
    holdfast certify --model M --fields person.json
  keep the certificate, and check it later
    holdfast certify --text T --image I.png --json > cert.json

Ctrl-C cancels the certification. Options that are not given take the model's measured defaults (`holdfast models`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast certify`."""
    given = parser.add_argument_group("input", "text and image, or the fields of a tabular guard")
    add_options(given, CertifyKeywords, text="TEXT", image="FILE", fields="FILE", suffix="TEXT", model="NAME")
    attacker = parser.add_argument_group("attacker", "whom the certificate holds against")
    add_options(attacker, CertifyKeywords, threat=None, image_threat=None, slots="M", max_characters="C")
    add_options(attacker, CertifyKeywords, max_tokens="D", target="D,RADIUS")
    smoothing = parser.add_argument_group("smoothing", "the noise that defines the smoothed guard")
    add_options(smoothing, CertifyKeywords, token_kernel=None, beta="B", sigma="S", scope=None)
    claim = parser.add_argument_group("claim", "what is certified, and how surely")
    add_options(claim, CertifyKeywords, verdict=None, tau="T", alpha="A", method=None, epsilons="E,E,...")
    effort = parser.add_argument_group("effort", "how much to draw, and when to stop")
    add_options(effort, CertifyKeywords, max_draws="N", tails="R", stop=None, tolerance="SHARE")
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print the certificate as JSON, and nothing else")
    output.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_url(parser)
    parser.set_defaults(run=_certify, refuse=parser.error)


def _certify(arguments: argparse.Namespace, messages: Console) -> int:
    _check_usage(arguments, arguments.refuse)
    question = cast(CertifyKeywords, {**asked(CertifyKeywords, arguments), **_files(arguments)})
    with Client(arguments.url) as client:
        tell = None if arguments.no_progress else progress_in_short
        certificate = follow(lambda: client.certify(**question), messages, tell)
    if certificate is None:
        return INTERRUPTED
    if arguments.json:
        sys.stdout.write(certificate.model_dump_json(indent=2) + "\n")
    else:
        terminal().print(certificate_view(certificate))
    return DONE


def _check_usage(arguments: argparse.Namespace, refuse: Callable[[str], None]) -> None:
    text, image = arguments.text is not None, arguments.image is not None
    if arguments.fields is None and not (text and (image or arguments.image_threat == "none")):
        refuse("give --text and --image, or --fields for a tabular guard")
    if arguments.fields is not None and (text or image or arguments.suffix is not None):
        refuse("--fields is the whole input of a tabular guard; drop --text, --image and --suffix")


def _files(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the files hold; they are read here, so that their errors name the option."""
    if arguments.image is not None:
        return {"image": read_file("--image", arguments.image, "an image file")}
    if arguments.fields is None:
        return {}
    content = read_file("--fields", arguments.fields, "a JSON file")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise FileError('--fields must be a file with a JSON object, such as {"age": 41, "city": "Rome"}')
    return {"fields": fields}
