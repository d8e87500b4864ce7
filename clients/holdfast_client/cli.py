"""The command line `holdfast`: certify, certify-features, embed, verify, and the commands of the heavier parts.

A command of another part is an entry point of the group `holdfast.commands`: a function `command(argv) -> exit status`
with its own parser. It is imported only when it is asked for, so the base install lists it and `certify` starts fast.
What follows the word `models` is found in the group `holdfast.models` in the same way.

Exit status: 0 done, 1 an error, 2 wrong usage, 130 interrupted; `verify` has its own.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Protocol

from holdfast.contract.problems import ProblemError
from holdfast_client.commands import certify, certify_features, embed, keys, models, verify
from holdfast_client.commands.arguments import INTERRUPTED, FileError
from holdfast_client.errors import (
    CertificationCancelledError,
    ConnectionFailedError,
    ServiceStoppedError,
    UnexpectedAnswerError,
)
from holdfast_client.render import problem_view, terminal


class Command(Protocol):
    """A module of `commands`; its parser's `run` takes the arguments and the console for messages."""

    HELP: str
    EPILOG: str

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """The options of the command."""


COMMANDS = "holdfast.commands"
MODELS = "holdfast.models"

_ERROR = 1
_ERRORS = (
    ProblemError,
    ConnectionFailedError,
    ServiceStoppedError,
    UnexpectedAnswerError,
    CertificationCancelledError,
    FileError,
)

_COMMANDS: dict[str, Command] = {
    "certify": certify,
    "certify-features": certify_features,
    "embed": embed,
    "verify": verify,
    "keys": keys,
    "models": models,
}

# What the help says of a command without importing it, and the extras that it needs.
_KNOWN = {
    "serve": ("run the service: gateway, certifier and worker", "service,worker"),
    "replay": ("run draws of a certificate again, and compare", "worker"),
    "bench": ("measure how fast a model is on this machine", "worker"),
    "models add": ("examine a checkpoint, and have workers serve it", "worker"),
    "models list": ("load what the settings name, and say what it is", "worker"),
    "models check": ("examine a model on fixed draws", "worker"),
}

_EPILOG = """\
examples:
  holdfast serve                                          start the service on http://127.0.0.1:8420
  holdfast certify --text "what you see" --image cat.png  certify one input
  holdfast certify --text T --image I --json > cert.json  keep the certificate
  holdfast certify-features cat.png --prototypes animals  certify an encoder's feature and prediction
  holdfast embed cat.png --out cat.json                   a smoothed embedding, with its bounds
  holdfast verify cert.json                               check it, without the service
  holdfast models                                         what is served, and its operating point
  holdfast models add NAME FOLDER                         examine a checkpoint, and have workers serve it
  holdfast bench                                          how fast a model is here

HOLDFAST_URL names the service where --url is not given; `verify` asks no service unless told.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    plugins = {entry.name: entry for entry in entry_points(group=COMMANDS)}
    if given and given[0] in plugins:
        return _run_plugin(plugins[given[0]], given[0], given[1:])
    if given[:1] == ["models"]:
        for entry in entry_points(group=MODELS, name=next(iter(given[1:]), "")):
            return _run_plugin(entry, f"models {entry.name}", given[2:])
    arguments = _parser(plugins).parse_args(given)
    messages = terminal(stderr=True)
    try:
        return int(arguments.run(arguments, messages))
    except KeyboardInterrupt:
        messages.print("interrupted")
        return INTERRUPTED
    except _ERRORS as error:
        messages.print(problem_view(error), soft_wrap=True)
        return _ERROR


def _run_plugin(entry: EntryPoint, command: str, argv: list[str]) -> int:
    try:
        return int(entry.load()(argv))
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0].startswith("holdfast"):
            raise
        sys.stderr.write(f"holdfast {command} needs {_remedy(command)}\n(no module named {missing!r})\n")
        return _ERROR


def _remedy(command: str) -> str:
    if command not in _KNOWN:
        return "a package that is not installed: install it"
    _, extras = _KNOWN[command]
    return f"the {extras.partition(',')[0]} extra: pip install 'holdfast[{extras}]'"


def _parser(plugins: Mapping[str, EntryPoint]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="holdfast",
        description="Certified robustness for multimodal safety filters and image encoders.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"holdfast {version('holdfast')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        layout = argparse.RawDescriptionHelpFormatter
        command = commands.add_parser(
            name, help=module.HELP, epilog=module.EPILOG, formatter_class=layout, allow_abbrev=False
        )
        module.add_arguments(command)
    for name in plugins:
        commands.add_parser(name, help=_KNOWN.get(name, ("", ""))[0], add_help=False)
    return parser
