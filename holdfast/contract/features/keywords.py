"""The keywords of a feature certification, and of an embedding."""

from collections.abc import Sequence
from typing import Annotated, Required, TypedDict

from holdfast.contract.base import Stop
from holdfast.contract.keywords import ImageFile, Keyword, documented
from holdfast.contract.models import FeatureReference, MeanBoundName


class _EncoderKeywords(TypedDict, total=False):
    image: Required[Annotated[ImageFile, Keyword("The PNG, JPEG or WebP file: its path or its bytes.", "input.image")]]
    model: Annotated[str | None, Keyword("The encoder's name (see `holdfast models`).", "model")]
    sigma: Annotated[
        float | None,
        Keyword("Standard deviation of the image noise, [0,1] pixels of the encoder's noise space.", "noise.sigma"),
    ]
    epsilons: Annotated[
        Sequence[float] | None, Keyword("Image radii to bound the similarity at, L2 in the noise space.", "epsilons")
    ]
    alpha: Annotated[float | None, Keyword("The risk that any bound does not hold, in (0, 0.5].", "confidence.alpha")]


@documented
class CertifyFeaturesKeywords(_EncoderKeywords, total=False):
    """What `certify_features` may be asked of an image; everything but the image has a default per model."""

    prototypes: Annotated[
        str | None, Keyword("A head of the encoder, whose prediction is certified too.", "prototypes")
    ]
    cosine_floors: Annotated[
        Sequence[float] | None, Keyword("Cosine similarities in [0, 1) whose image radius is wanted.", "cosine_floors")
    ]
    reference: Annotated[
        FeatureReference | None,
        Keyword(
            "What similarity is measured to; clean: the feature without noise; direction: the smoothed feature's own,"
            " from separate passes.",
            "reference",
        ),
    ]
    draws: Annotated[int | None, Keyword("The noisy passes that are scored.", "sampling.draws")]
    selection_draws: Annotated[
        int | None,
        Keyword("Separate noisy passes that fix the label, and the direction.", "sampling.selection_draws"),
    ]
    stop: Annotated[
        Stop | None,
        Keyword(
            "fixed: takes every pass, as the CDF bound needs; any_time: may stop early, with the bounds of means and"
            " votes alone.",
            "sampling.stop",
        ),
    ]
    tolerance: Annotated[
        float | None, Keyword("any_time: stop where no radius can grow by more than this share.", "sampling.tolerance")
    ]
    mean_bound: Annotated[
        MeanBoundName | None, Keyword("The confidence bound of a mean; any_time needs betting.", "mean_bound")
    ]
    target: Annotated[
        tuple[float | None, float] | None,
        Keyword(
            "A yes/no question instead of every radius, answered at any time: does the cosine stay above this floor, or"
            " without one the prediction as it is, against this image radius, (cosine or None, radius)?",
            "target.cosine target.epsilon",
        ),
    ]


@documented
class EmbedKeywords(_EncoderKeywords, total=False):
    """What `embed` may be asked of an image; everything but the image has a default per model."""

    tokens: Annotated[
        bool | None, Keyword("The token-level feature, for a language model, instead of the pooled one.", "tokens")
    ]
    draws: Annotated[int | None, Keyword("The noisy passes that are averaged.", "sampling.draws")]
    score_draws: Annotated[
        int | None,
        Keyword("Separate noisy passes that bound what an attack can do to such an average.", "sampling.score_draws"),
    ]
