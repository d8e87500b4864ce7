"""`holdfast keys`: the public keys that certificates are signed with."""

import argparse
import sys

from rich.console import Console

from holdfast_client.client import Client
from holdfast_client.commands.arguments import DONE, add_url

HELP = "print the public keys that certificates are signed with"
EPILOG = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast keys`."""
    add_url(parser)
    parser.set_defaults(run=_keys)


def _keys(arguments: argparse.Namespace, _: Console) -> int:
    with Client(arguments.url) as client:
        sys.stdout.write(client.keys().model_dump_json(indent=2) + "\n")
    return DONE
