"""`holdfast certify-features`: one image in, what is certified of its smoothed feature and prediction out."""

import argparse
import sys
from typing import cast

from rich.console import Console

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.keywords import CertifyFeaturesKeywords
from holdfast_client.client import Client
from holdfast_client.commands.arguments import (
    DONE,
    INTERRUPTED,
    add_options,
    add_url,
    asked,
    check_writable,
    read_file,
    write_file,
)
from holdfast_client.commands.following import follow
from holdfast_client.render import feature_certificate_view, feature_progress_in_short, terminal

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
  one question, in fewer draws: does the cosine stay above 0.5 against an image shift of 0.25?
    holdfast certify-features skunk.png --target 0.5,0.25
  another: does the prediction stand against it?
    holdfast certify-features skunk.png --prototypes animals --target none,0.25
  keep the certificate, and check it later
    holdfast certify-features skunk.png --out cert.json

Ctrl-C cancels the certification. Options that are not given take the model's defaults (`holdfast models`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast certify-features`."""
    parser.add_argument("image", metavar="IMAGE", help="the image: PNG, JPEG or WebP")
    keywords = CertifyFeaturesKeywords
    add_options(parser, keywords, model="NAME")
    claim = parser.add_argument_group("claim", "what is certified, and how surely")
    add_options(claim, keywords, prototypes="NAME", epsilons="E,E,...", cosine_floors="C,C,...", target="COSINE,RADIUS")
    add_options(claim, keywords, alpha="A", mean_bound=None)
    smoothing = parser.add_argument_group("smoothing", "what defines the smoothed feature and its reference")
    add_options(smoothing, keywords, sigma="S", reference=None)
    effort = parser.add_argument_group("effort", "how many draws, and when to stop")
    add_options(effort, keywords, draws="N", selection_draws="N", stop=None, tolerance="R")
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


def _certify(arguments: argparse.Namespace, messages: Console) -> int:
    image = read_file("IMAGE", arguments.image, "an image file")
    if arguments.out is not None:
        check_writable("--out", arguments.out)
    question = cast(CertifyFeaturesKeywords, {**asked(CertifyFeaturesKeywords, arguments), "image": image})
    with Client(arguments.url) as client:
        tell = None if arguments.no_progress else feature_progress_in_short
        certificate = follow(lambda: client.certify_features(**question), messages, tell)
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
