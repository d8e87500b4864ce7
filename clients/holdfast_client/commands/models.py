"""`holdfast models`: what the service serves."""

import argparse

from rich.console import Console

from holdfast_client.client import Client
from holdfast_client.commands.arguments import DONE, add_url
from holdfast_client.render import models_table, terminal

HELP = "list the guards and encoders that are served"
EPILOG = """\
Without a further word it asks the service at --url what it serves. These examine models on this machine; each has a
--help of its own:
  holdfast models add NAME FOLDER [field=value ...]       examine a checkpoint, and have workers serve it
  holdfast models list                                    load what the settings name, and say what it is
  holdfast models check NAME_OR_FOLDER [field=value ...]  examine a model on fixed draws
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast models`."""
    add_url(parser)
    parser.set_defaults(run=_models)


def _models(arguments: argparse.Namespace, _: Console) -> int:
    with Client(arguments.url) as client:
        terminal().print(models_table(client.models()))
    return DONE
