"""`holdfast verify`: check a certificate without trusting whoever hands it over."""

import argparse
import sys

from pydantic import ValidationError
from rich.console import Console

from holdfast.contract.jobs import KeySet
from holdfast.contract.problems import ProblemError
from holdfast_client.client import Client
from holdfast_client.commands.arguments import FileError, read_file
from holdfast_client.errors import UnexpectedAnswerError
from holdfast_client.render import problem_view, terminal, verification_view
from holdfast_client.verification import certificate_from_json, verify

_VALID, _NOT_VALID, _UNCHECKED = 0, 1, 2

_UNSIGNED = "The certificate is unsigned: nobody vouches for the evidence that its numbers follow from."
_SIGNATURE_UNCHECKED = (
    "The signature was not checked, so nobody vouches for the evidence;"
    " give the service's keys: --keys FILE or --url URL."
)

HELP = "check a certificate, without the service"
EPILOG = """\
Everything is computed here, from the certificate alone: its bounds, radii, verdict or similarities from the evidence
that it carries. Whether that evidence is the service's own, only its signature tells: give the service's public keys.

examples:
  holdfast verify cert.json                               the numbers alone
  holdfast keys --url http://127.0.0.1:8420 > keys.json   keep the service's keys, from a connection that you trust
  holdfast verify cert.json --keys keys.json              the numbers and the signature
  holdfast certify --text T --image I --json | holdfast verify - --url http://127.0.0.1:8420

Exit status: 0 valid, 1 not valid, 2 it could not be checked.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast verify`."""
    parser.add_argument("certificate", metavar="CERT.json", help="the certificate's file; - reads standard input")
    trusted = parser.add_mutually_exclusive_group()
    trusted.add_argument("--keys", metavar="KEYS.json", help="the public keys to trust (see `holdfast keys`)")
    trusted.add_argument("--url", help="trust the keys that this service publishes now")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON, and nothing else")
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace, messages: Console) -> int:
    try:
        keys, certificate = _trusted_keys(arguments), certificate_from_json(_read(arguments.certificate))
        verification = verify(certificate, keys)
    except ModuleNotFoundError as error:
        missing = f"(no module named {error.name!r})"
        messages.print(f"holdfast verify needs the verify extra: pip install 'holdfast[verify]'\n{missing}")
        return _UNCHECKED
    except (OSError, FileError, ValueError, ProblemError, UnexpectedAnswerError) as error:
        messages.print(problem_view(error), soft_wrap=True)
        return _UNCHECKED
    if arguments.json:
        sys.stdout.write(verification.model_dump_json(indent=2) + "\n")
    else:
        terminal().print(verification_view(verification))
    if keys is None:
        messages.print(_UNSIGNED if certificate.get("signature") is None else _SIGNATURE_UNCHECKED, soft_wrap=True)
    return _VALID if verification.valid else _NOT_VALID


def _trusted_keys(arguments: argparse.Namespace) -> KeySet | None:
    if arguments.url is not None:
        with Client(arguments.url) as client:
            return client.keys()
    if arguments.keys is None:
        return None
    try:
        return KeySet.model_validate_json(_read(arguments.keys))
    except ValidationError:
        raise ValueError("--keys must be a key set, as `holdfast keys` prints it") from None


def _read(file: str) -> bytes:
    return sys.stdin.buffer.read() if file == "-" else read_file(file, file, "a JSON file")
