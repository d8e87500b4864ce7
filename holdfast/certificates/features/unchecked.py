"""What no evidence of a feature certificate decides."""

from collections.abc import Mapping

from holdfast.certificates.document.unchecked import UNCHECKED

_UNCHECKED = (
    *UNCHECKED,
    "reference",
    "dimension",
    "prediction.head.name",
    "prediction.head.version",
    "prediction.head.fingerprint",
    "prediction.head.classes",
    "prediction.head.clip",
    "embedding.shape",
    "embedding.values",
    # What everything else follows from: that it was planned so, the draws came out so, and why there were no more.
    "evidence.horizon",
    "evidence.selection_passes",
    "evidence.channels",
    "evidence.votes",
    "evidence.cosines",
    "evidence.distances",
    "evidence.stopped",
)


def feature_unchecked(certificate: Mapping[str, object]) -> tuple[str, ...]:
    """The names of what is not checked; a parameter that no number of this certificate reads is one of them."""
    means = certificate.get("embedding") is None
    return _UNCHECKED if means else (*_UNCHECKED, "evidence.mean_bound")
