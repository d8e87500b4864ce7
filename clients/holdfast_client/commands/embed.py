"""`holdfast embed`: one image in, its smoothed embedding out."""

import argparse
import sys
from array import array
from collections.abc import Sequence
from typing import cast

from rich.console import Console

from holdfast.contract.features.certificates import SmoothedEmbedding
from holdfast.contract.features.keywords import EmbedKeywords
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
from holdfast_client.commands.certify_features import add_output, show

HELP = "embed one image, with bounds"
EPILOG = """\
The embedding is the mean of a few unit features of the image under Gaussian noise of standard deviation sigma: an
estimate of the smoothed feature, for whatever comes after the encoder. It comes with a bound: for every image within
epsilon (L2, in the encoder's noise space), another such mean is at least so similar to the clean feature, with
probability at least 1 - alpha. `no claim` promises nothing. Every number is rounded down; the values are not.

examples:
  what is certified of the embedding, with the model's defaults
    holdfast embed skunk.png
  the values and their certificate, as JSON
    holdfast embed skunk.png --out skunk.json
  the token-level feature, for a language model, as float32 in little-endian order
    holdfast embed skunk.png --tokens --raw skunk.f32

Options that are not given take the model's defaults (`holdfast models`). Ctrl-C stops waiting: the few draws that were
asked for go on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast embed`."""
    parser.add_argument("image", metavar="IMAGE", help="the image: PNG, JPEG or WebP")
    keywords = EmbedKeywords
    add_options(parser, keywords, model="NAME", tokens=None, sigma="S", epsilons="E,E,...", alpha="A")
    add_options(parser, keywords, draws="N", score_draws="N")
    output = parser.add_argument_group("output")
    add_output(output)
    output.add_argument("--raw", metavar="FILE", help="write the values row by row: float32, little-endian, no header")
    add_url(parser)
    parser.set_defaults(run=_embed)


def _embed(arguments: argparse.Namespace, messages: Console) -> int:
    image = read_file("IMAGE", arguments.image, "an image file")
    for option, file in (("--out", arguments.out), ("--raw", arguments.raw)):
        if file is not None:
            check_writable(option, file)
    question = cast(EmbedKeywords, {**asked(EmbedKeywords, arguments), "image": image})
    try:
        with Client(arguments.url) as client:
            certificate = client.embed(**question)
    except KeyboardInterrupt:
        messages.print("interrupted; the few draws that were asked for go on, for nobody")
        return INTERRUPTED
    show(certificate, arguments)
    if arguments.raw is not None and certificate.embedding is not None:
        write_file("--raw", arguments.raw, _little_endian(certificate.embedding.values))
        messages.print(_told(arguments.raw, certificate.embedding), soft_wrap=True)
    return DONE


def _little_endian(values: Sequence[float]) -> bytes:
    numbers = array("f", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _told(file: str, embedding: SmoothedEmbedding) -> str:
    shape = " x ".join(map(str, embedding.shape))
    return f"{file}: {shape} values, float32, little-endian, row by row"
