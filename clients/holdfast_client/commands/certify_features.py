"""`holdfast certify-features`: one image in, what is certified of its smoothed feature and prediction out."""

import argparse
import sys
from typing import get_args

from rich.console import Console

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.models import FeatureReference, MeanBoundName
from holdfast_client.certification import FeatureCertification
from holdfast_client.client import Client
from holdfast_client.commands.arguments import (
    DONE,
    INTERRUPTED,
    add_url,
    check_writable,
    number_list,
    read_file,
    write_file,
)
from holdfast_client.commands.following import follow
from holdfast_client.render import feature_certificate_view, feature_progress_in_short, terminal

__all__ = ["EPILOG", "HELP", "add_arguments", "add_output", "show"]

HELP = "certify the feature of one image"
EPILOG = """\
The smoothed feature of an image is the mean of its unit features under Gaussian noise of standard deviation sigma. For
every image within epsilon (L2, in the encoder's noise space), the certificate bounds how similar the smoothed feature
stays to the reference: from the mean of the scores, and from their whole distribution (cdf), side by side. A larger
sigma reaches farther and blurs more. A cosine floor asks the other way round: how far does the cosine stay above it?
With --prototypes the prediction of a head is certified too, by every method that there is:

  prototype_condition, cap   from the feature's own bound, as published and exactly (unit prototypes alone)
  margin_mean, margin_cdf    from the margins over every other class
  clipped_cdf, vote          of the class with the largest clipped mean margins, or with the most votes

`no claim` and `not certified` promise nothing, and are no sign of an attack. Every number is rounded down.

examples:
  the similarity to the clean feature, with the model's defaults
    holdfast certify-features skunk.png
  the radii within which the cosine stays above 0.5 and above 0.8
    holdfast certify-features skunk.png --cosine-floors 0.5,0.8
  the prediction of a head (`holdfast models` lists them)
    holdfast certify-features skunk.png --prototypes animals
  one question, in fewer passes: does the cosine stay above 0.5 against an image shift of 0.25?
    holdfast certify-features skunk.png --target-epsilon 0.25 --target-cosine 0.5
  keep the certificate, and check it later
    holdfast certify-features skunk.png --out cert.json

Ctrl-C cancels the certification. Options that are not given take the model's defaults (`holdfast models`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast certify-features`."""
    parser.add_argument("image", metavar="IMAGE", help="the image: PNG, JPEG or WebP")
    parser.add_argument("--model", metavar="NAME", help="the encoder (see `holdfast models`)")
    _add_claim(parser.add_argument_group("claim", "what is certified, and how surely"))
    _add_smoothing(parser.add_argument_group("smoothing", "what defines the smoothed feature and its reference"))
    _add_effort(parser.add_argument_group("effort", "how many passes, and when to stop"))
    output = parser.add_argument_group("output")
    add_output(output)
    output.add_argument("--no-progress", action="store_true", help="no progress bar")
    add_url(parser)
    parser.set_defaults(run=_certify)


def add_output(group: "argparse._ArgumentGroup") -> None:
    """The options that `show` obeys."""
    instead = group.add_mutually_exclusive_group()
    instead.add_argument("--json", action="store_true", help="print the certificate as JSON, and nothing else")
    instead.add_argument("--out", metavar="FILE", help="write the certificate as JSON, beside showing it")


def _add_claim(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--prototypes", metavar="NAME", help="a head of the encoder, whose prediction is certified too")
    group.add_argument("--epsilons", type=number_list, metavar="E,E,...", help="image radii to bound the similarity at")
    group.add_argument(
        "--cosine-floors", type=number_list, metavar="C,C,...", help="cosines in [0, 1) whose image radius is wanted"
    )
    group.add_argument("--target-epsilon", type=float, metavar="E", help="ask only about this image radius; any-time")
    group.add_argument(
        "--target-cosine", type=float, metavar="C", help="the cosine floor asked about; without it, the prediction"
    )
    group.add_argument("--alpha", type=float, metavar="A", help="risk that any number is wrong, in (0, 0.5]")
    group.add_argument(
        "--mean-bound", choices=get_args(MeanBoundName), help="the confidence bound of a mean; any-time needs betting"
    )


def _add_smoothing(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--sigma", type=float, metavar="S", help="standard deviation of the image noise, [0,1] pixels")
    group.add_argument(
        "--reference",
        choices=get_args(FeatureReference),
        help="clean: the feature without noise; direction: the smoothed feature's own, from separate passes",
    )


def _add_effort(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--draws", type=int, metavar="N", help="noisy passes that are scored")
    group.add_argument(
        "--selection-draws", type=int, metavar="N", help="separate passes that fix the label and the direction"
    )
    group.add_argument(
        "--any-time", action="store_const", const="any_time", help="stop early; bounds of means and votes alone"
    )
    group.add_argument("--tolerance", type=float, metavar="R", help="any-time: stop when no radius can grow by more")


def _certify(arguments: argparse.Namespace, messages: Console) -> int:
    image = read_file("IMAGE", arguments.image, "an image file")
    if arguments.out is not None:
        check_writable("--out", arguments.out)
    with Client(arguments.url) as client:
        tell = None if arguments.no_progress else feature_progress_in_short
        certificate = follow(_submit(client, arguments, image), messages, tell)
    if certificate is None:
        return INTERRUPTED
    show(certificate, arguments)
    return DONE


def show(certificate: FeatureCertificate, arguments: argparse.Namespace) -> None:
    """Prints the certificate as `--json` asks, or as people read it, and writes it where `--out` says."""
    as_json = certificate.model_dump_json(indent=2) + "\n"
    if arguments.json:
        sys.stdout.write(as_json)
    else:
        terminal().print(feature_certificate_view(certificate))
    if arguments.out is not None:
        write_file("--out", arguments.out, as_json.encode())


def _submit(client: Client, arguments: argparse.Namespace, image: bytes) -> FeatureCertification:
    return client.certify_features(
        image=image,
        model=arguments.model,
        prototypes=arguments.prototypes,
        epsilons=arguments.epsilons,
        cosine_floors=arguments.cosine_floors,
        sigma=arguments.sigma,
        reference=arguments.reference,
        alpha=arguments.alpha,
        draws=arguments.draws,
        selection_draws=arguments.selection_draws,
        stop=arguments.any_time,
        tolerance=arguments.tolerance,
        mean_bound=arguments.mean_bound,
        target_epsilon=arguments.target_epsilon,
        target_cosine=arguments.target_cosine,
    )
