"""The command line `holdfast`: certify one input, list the models, and the commands of the heavier parts.

A command of another part is an entry point of the group `holdfast.commands`: a function `command(argv) -> exit status`
with its own parser. It is imported only when it is asked for, so the base install lists it and `certify` starts fast.

Exit status: 0 done, 1 an error, 2 wrong usage, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points, version

from rich.console import Console

from holdfast.contract.problems import ProblemError
from holdfast_client.client import Certification, Client
from holdfast_client.errors import CertificationCancelledError, ConnectionFailedError, UnexpectedAnswerError
from holdfast_client.render import certificate_view, models_table, problem_view, terminal, watch

__all__ = ["main"]

COMMANDS = "holdfast.commands"

_DONE, _ERROR, _INTERRUPTED = 0, 1, 130

# What the help says of a command without importing it, and the extra that it needs.
_KNOWN = {"serve": ("run the service: gateway, certifier and worker", "service,worker")}

_EPILOG = """\
examples:
  holdfast serve                                          start the service on http://127.0.0.1:8420
  holdfast certify --text "what you see" --image cat.png  certify one input
  holdfast certify --text T --image I --json > cert.json  keep the certificate
  holdfast models                                         what is served, and its operating point

HOLDFAST_URL names the service where --url is not given.
"""

_CERTIFY_EPILOG = """\
The answer is a frontier: for every number d of attacker tokens in the reserved slots after the text, the largest
image shift (L2, in the guard's noise space) up to which the smoothed guard still says Unsafe. "not certified" means
that the evidence does not show it; it is no certificate of safety. Numbers are rounded down.

examples:
  holdfast certify --text "Love the way you smell today" --image skunk.png
  holdfast certify --text T --image I --slots 4 --sigma 0.25 --max-passes 20000
  holdfast certify --text T --image I --json --no-progress | jq .max_tokens

Ctrl-C cancels the certification. Options that are not given take the model's measured defaults.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    plugins = {entry.name: entry for entry in entry_points(group=COMMANDS)}
    if given and given[0] in plugins:
        return _run_plugin(plugins[given[0]], given[1:])
    arguments = _parser(plugins).parse_args(given)
    messages = terminal(stderr=True)
    try:
        return int(arguments.run(arguments, messages))
    except KeyboardInterrupt:
        messages.print("interrupted")
        return _INTERRUPTED
    except (ProblemError, ConnectionFailedError, UnexpectedAnswerError, CertificationCancelledError) as error:
        messages.print(problem_view(error), soft_wrap=True)
        return _ERROR


def _run_plugin(entry: EntryPoint, argv: list[str]) -> int:
    try:
        return int(entry.load()(argv))
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0].startswith("holdfast"):
            raise
        sys.stderr.write(f"holdfast {entry.name} needs {_remedy(entry.name)}\n(no module named {missing!r})\n")
        return _ERROR


def _remedy(command: str) -> str:
    if command not in _KNOWN:
        return "a package that is not installed: install it"
    _, extras = _KNOWN[command]
    return f"the {extras.partition(',')[0]} extra: pip install 'holdfast[{extras}]'"


def _parser(plugins: Mapping[str, EntryPoint]) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="holdfast",
        description="Certified robustness for multimodal safety filters.",
        epilog=_EPILOG,
        formatter_class=layout,
    )
    parser.add_argument("--version", action="version", version=f"holdfast {version('holdfast')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    certify = commands.add_parser(
        "certify", help="certify one input", epilog=_CERTIFY_EPILOG, formatter_class=layout, allow_abbrev=False
    )
    _add_certify_arguments(certify)
    models = commands.add_parser("models", help="list the guards that are served", allow_abbrev=False)
    _add_url(models)
    models.set_defaults(run=_models)
    for name in plugins:
        commands.add_parser(name, help=_KNOWN.get(name, ("", ""))[0], add_help=False)
    return parser


def _add_certify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", required=True, help="the text to certify")
    parser.add_argument("--image", required=True, metavar="FILE", help="the image: PNG, JPEG or WebP")
    parser.add_argument("--suffix", default="", help="the untrusted tail of the text, if it is known")
    parser.add_argument("--model", metavar="NAME", help="the guard (see `holdfast models`)")
    parser.add_argument("--slots", type=int, metavar="M", help="token positions after the text the attacker may use")
    parser.add_argument("--beta", type=float, metavar="B", help="corruption rate of a slot, in (0, 1]")
    parser.add_argument("--sigma", type=float, metavar="S", help="standard deviation of the image noise")
    parser.add_argument("--tau", type=float, metavar="T", help="flag above this Unsafe probability, in (0, 1)")
    parser.add_argument("--alpha", type=float, metavar="A", help="risk that any number is wrong, in (0, 0.5]")
    parser.add_argument("--max-passes", type=int, metavar="N", help="most noisy passes to spend")
    parser.add_argument("--tolerance", type=float, metavar="R", help="stop when no radius can grow by more than this")
    parser.add_argument("--epsilons", type=_numbers, metavar="E,E,...", help="image radii for the worst-case table")
    _add_url(parser)
    parser.add_argument("--json", action="store_true", help="print the certificate as JSON, and nothing else")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=_certify)


def _add_url(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="the service (default: HOLDFAST_URL, then http://127.0.0.1:8420)")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with commas between, such as 0,0.25,0.5") from None


def _models(arguments: argparse.Namespace, _: Console) -> int:
    with Client(arguments.url) as client:
        terminal().print(models_table(client.models()))
    return _DONE


def _certify(arguments: argparse.Namespace, messages: Console) -> int:
    try:
        with open(arguments.image, "rb") as file:
            image = file.read()
    except OSError as error:
        messages.print(f"error: --image cannot be read ({error.strerror}); give the path of an image file")
        return _ERROR
    with Client(arguments.url) as client:
        certification = _submit(client, arguments, image)
        try:
            messages.print(f"{certification.id} is submitted; Ctrl-C cancels it")
            if not arguments.no_progress:
                watch(certification, messages)
            certificate = certification.wait()
        except KeyboardInterrupt:
            messages.print(_cancelled(certification))
            return _INTERRUPTED
    if arguments.json:
        sys.stdout.write(certificate.model_dump_json(indent=2) + "\n")
    else:
        terminal().print(certificate_view(certificate))
    return _DONE


def _submit(client: Client, arguments: argparse.Namespace, image: bytes) -> Certification:
    return client.certify(
        text=arguments.text,
        image=image,
        suffix=arguments.suffix,
        model=arguments.model,
        slots=arguments.slots,
        beta=arguments.beta,
        sigma=arguments.sigma,
        tau=arguments.tau,
        alpha=arguments.alpha,
        max_passes=arguments.max_passes,
        tolerance=arguments.tolerance,
        epsilons=arguments.epsilons,
    )


def _cancelled(certification: Certification) -> str:
    try:
        certification.cancel()
    except (ProblemError, ConnectionFailedError, UnexpectedAnswerError) as error:
        return f"interrupted; {certification.id} could not be cancelled: {error}"
    return f"interrupted; {certification.id} is cancelled"
