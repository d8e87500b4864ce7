"""`holdfast embed`: one image in, its smoothed embedding out."""

import argparse
import sys
from array import array
from collections.abc import Sequence

from rich.console import Console

from holdfast.contract.features.certificates import SmoothedEmbedding
from holdfast_client.client import Client
from holdfast_client.commands.arguments import DONE, add_url, check_writable, number_list, read_file, write_file
from holdfast_client.commands.certify_features import add_output, show

__all__ = ["EPILOG", "HELP", "add_arguments"]

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

Options that are not given take the model's defaults (`holdfast models`). Ctrl-C stops waiting: the few passes that were
asked for go on.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `holdfast embed`."""
    parser.add_argument("image", metavar="IMAGE", help="the image: PNG, JPEG or WebP")
    parser.add_argument("--model", metavar="NAME", help="the encoder (see `holdfast models`)")
    parser.add_argument("--tokens", action="store_true", help="the token-level feature, not the pooled one")
    parser.add_argument("--sigma", type=float, metavar="S", help="standard deviation of the image noise, [0,1] pixels")
    parser.add_argument(
        "--epsilons", type=number_list, metavar="E,E,...", help="image radii to bound the similarity at"
    )
    parser.add_argument("--alpha", type=float, metavar="A", help="risk that a bound does not hold, in (0, 0.5]")
    parser.add_argument("--draws", type=int, metavar="N", help="noisy passes that are averaged")
    parser.add_argument(
        "--score-draws", type=int, metavar="N", help="separate noisy passes that the bounds follow from"
    )
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
    with Client(arguments.url) as client:
        certificate = client.embed(
            image=image,
            model=arguments.model,
            tokens=arguments.tokens,
            sigma=arguments.sigma,
            draws=arguments.draws,
            score_draws=arguments.score_draws,
            epsilons=arguments.epsilons,
            alpha=arguments.alpha,
        )
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
