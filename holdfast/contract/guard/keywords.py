"""The keywords of a certification of one input."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypedDict

from holdfast.contract.base import Stop
from holdfast.contract.guard.requests import AskedMethod, AskedVerdict, Scope, TextThreatKind
from holdfast.contract.keywords import ImageFile, Keyword, documented
from holdfast.contract.models import TokenKernelName


@documented
class CertifyKeywords(TypedDict, total=False):
    """What `certify` may be asked: text and image, or a tabular input; the rest has defaults per model."""

    text: Annotated[str | None, Keyword("The text to certify.", "input.text")]
    image: Annotated[ImageFile | None, Keyword("The PNG, JPEG or WebP file: its path or its bytes.", "input.image")]
    fields: Annotated[
        Mapping[str, str | float] | None,
        Keyword("The input of a tabular guard, instead of text and image: a value per field.", "input.fields"),
    ]
    suffix: Annotated[str | None, Keyword("The untrusted tail of the text, if it is known.", "input.suffix")]
    model: Annotated[str | None, Keyword("The guard's name (see `holdfast models`).", "model")]
    threat: Annotated[
        TextThreatKind | None,
        Keyword(
            "suffix: the attacker rewrites reserved slots after the text; append: adds characters to its end; l0:"
            " rewrites any few tokens of the text (of a tabular input, categorical fields); none: no token, for an"
            " image-only certificate.",
            "threat.text.kind",
        ),
    ]
    image_threat: Annotated[
        Literal["l2", "none"] | None,
        Keyword(
            "l2: the attacker shifts the image (of a tabular input, the numeric fields); none: leaves it as it is, for"
            " a text-only certificate, without image noise.",
            "threat.image.norm",
        ),
    ]
    slots: Annotated[
        int | None,
        Keyword("suffix: token positions m after the text that the attacker may rewrite.", "threat.text.slots"),
    ]
    max_characters: Annotated[
        int | None,
        Keyword("append: code points that the attacker appends to the text.", "threat.text.max_characters"),
    ]
    max_tokens: Annotated[
        int | None, Keyword("l0: the largest token budget d of the frontier.", "threat.text.max_tokens")
    ]
    token_kernel: Annotated[TokenKernelName | None, Keyword("The noise of a token.", "noise.token_kernel")]
    beta: Annotated[float | None, Keyword("Corruption rate of a token, in (0, 1].", "noise.beta")]
    sigma: Annotated[
        float | None,
        Keyword("Standard deviation of the image noise, [0,1] pixels of the guard's noise space.", "noise.sigma"),
    ]
    scope: Annotated[
        Scope | None,
        Keyword("shared: one smoothed guard against every budget d; per_budget: one for each.", "noise.scope"),
    ]
    tau: Annotated[
        float | None,
        Keyword("Unsafe where the smoothed Unsafe probability stays above it, Safe below, in (0, 1).", "decision.tau"),
    ]
    verdict: Annotated[
        AskedVerdict | None, Keyword("The verdict to try for; both: each has half of alpha.", "decision.verdict")
    ]
    alpha: Annotated[
        float | None, Keyword("The risk that any number of the certificate is wrong, in (0, 0.5].", "confidence.alpha")
    ]
    method: Annotated[AskedMethod | None, Keyword("The bound; auto: the best one for each budget.", "method")]
    max_draws: Annotated[
        int | None,
        Keyword("The most image draws to spend; each is scored in every cell of tokens.", "sampling.max_draws"),
    ]
    tails: Annotated[
        int | None, Keyword("Texts under token noise that score each image draw in every cell.", "sampling.tails")
    ]
    stop: Annotated[Stop | None, Keyword("any_time: may stop early; fixed: spends every draw.", "sampling.stop")]
    tolerance: Annotated[
        float | None,
        Keyword(
            "Stop where twice the draws would raise the radii together by less than this share.", "sampling.tolerance"
        ),
    ]
    target: Annotated[
        tuple[int, float] | None,
        Keyword(
            "A yes/no question instead of a frontier, in far fewer draws: is a verdict certified against so many"
            " tokens and this image radius, (tokens, radius), L2 in the noise space?",
            "target.tokens target.epsilon",
        ),
    ]
    epsilons: Annotated[
        Sequence[float] | None,
        Keyword("Image radii to bound the worst-case Unsafe probability at, L2 in the noise space.", "epsilons"),
    ]
