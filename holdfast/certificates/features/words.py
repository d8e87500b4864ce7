"""What a feature certificate says of its numbers, in words: functions of its own fields.

Whoever writes a certificate and whoever verifies it take the sentences from here, so that none can say anything but
what the numbers say.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from holdfast.certificates.document.words import asked_so_far, in_short

_REFERENCES = {
    "clean": "the encoder's feature of the image without noise",
    "direction": "the direction of the mean of separate noisy features",
}


def feature_notice(certificate: Mapping[str, Any]) -> list[str]:
    """The notice of a feature certificate, from the plain JSON of its other fields."""
    return list(_lines(certificate))


def _lines(certificate: Mapping[str, Any]) -> Iterator[str]:
    evidence, embedding, prediction = certificate["evidence"], certificate["embedding"], certificate["prediction"]
    what = "token-level feature" if embedding is not None and embedding["tokens"] else "feature"
    yield (
        f"The guarantee is for the smoothed {what}: the mean of the encoder's unit features under Gaussian noise"
        f" (sigma={float(certificate['sigma'])}) on the image. It compares that with a fixed reference:"
        f" {_REFERENCES[certificate['reference']]}."
    )
    yield (
        f"It holds with probability 1 - alpha, alpha = {in_short(evidence['alpha'])}, over the draws, for all numbers"
        " of the bounds, radii and prediction together."
    )
    yield asked_so_far(certificate["questions_asked"])
    yield "The attacker shifts the image by at most epsilon, in the L2 norm of the noise space."
    yield (
        "A cosine is bounded only where the inner product's bound is positive: null says nothing of it there. A null"
        " radius is not certified."
    )
    if prediction is not None:
        yield (
            "The prediction is that of the head on the smoothed feature; clipped_cdf speaks of the label that wins by"
            f" its mean margins clipped at {float(prediction['head']['clip'])} on their unit scale, vote of the one"
            " that wins most draws."
        )
    if embedding is not None:
        yield (
            f"The embedding is the mean of {embedding['draws']} draws, an estimate of the smoothed feature and not"
            " that feature itself. Its similarity rows speak of one such mean at an attacked image, and fail with"
            f" probability at most {in_short(evidence['alpha'] + embedding['alpha'])} each."
        )
