"""`holdfast replay` of a feature certificate: what was found, for people and for machines."""

import json
import sys
from dataclasses import asdict

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.queue.jobs import JobInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.registry import Model
from holdfast_worker.replay.features import FeatureComparison, replay_features
from holdfast_worker.replay.guard import NEAR_TIE, ReplayError

__all__ = ["run_features"]

_HEAD = f"{'channel':>10}{'rival':>7}{'differing':>11}{'adjacent':>10}{'near edges':>12}"


def run_features(model: Model, certificate: FeatureCertificate, given: JobInput, *, as_json: bool) -> int:
    """Replays the certificate and prints the comparison.

    Returns:
        The exit status: 0 where rounding explains every difference, 1 otherwise.

    Raises:
        ReplayError: The model or the image is not the certificate's.
    """
    if not isinstance(model, Encoder):
        raise ReplayError(f"model {model.config.name!r} is a guard, must be the certificate's encoder; name that")
    if not as_json:
        sys.stdout.write(f"{certificate.id}: {certificate.evidence.passes} passes on {certificate.model.name}\n")
    found = replay_features(model, certificate, given)
    sys.stdout.write((_as_json(certificate, found) if as_json else _text(found)) + "\n")
    return 0 if found.equal else 1


def _text(found: FeatureComparison) -> str:
    rows = [
        f"{channel.name:>10}{'' if channel.rival is None else channel.rival:>7}"
        f"{channel.differing:11}{channel.adjacent:10}{channel.near_edges:12}"
        for channel in found.channels
    ]
    verdict = "every channel is the certificate's" if found.equal else "not what the certificate states"
    label = "" if found.label is None else f"label {found.label}{'' if found.label_equal else ', another'}; "
    return "\n".join(
        [
            _HEAD,
            *rows,
            f"{found.passes} passes replayed: {verdict}.",
            f"Found: {label}votes differing {found.votes_differing}, near ties {found.near_ties}; settled values off by"
            f" at most {found.settled_gap:.2g}.",
            f"Inner products off by {NEAR_TIE:g}, with batch composition or device, may bring as many draws to the next"
            " level as lie near an edge.",
        ]
    )


def _as_json(certificate: FeatureCertificate, found: FeatureComparison) -> str:
    return json.dumps(
        {
            "id": certificate.id,
            "model": certificate.model.model_dump(),
            **asdict(found),
            "near_tie": NEAR_TIE,
            "equal": found.equal,
        }
    )
