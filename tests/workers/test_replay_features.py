"""Replay of feature certificates: every channel again, and every way in which it is not the certificate's."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from holdfast.contract.features.certificates import ChannelEvidence, FeatureCertificate
from holdfast.queue.jobs import JobInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.replay.command import command
from holdfast_worker.replay.features import FeatureComparison, replay_features
from holdfast_worker.replay.guard import ReplayError
from tests.workers.builders import png
from tests.workers.feature_builders import (
    embedding_spec_of,
    encoder_folder,
    feature_certificate_of,
    feature_spec_of,
    ready_features,
    small_encoder,
)

CUTS = (0, 64, 128, 192, 200)
SIZE = (24, 20)
ANY_TIME: dict[str, Any] = {"sampling": {"stop": "any_time", "selection_draws": 30}}
JOBS: list[dict[str, Any]] = [
    {},
    ANY_TIME,
    {"reference": "direction", "sampling": {"selection_draws": 30}},
    {"prototypes": "prototypes"},
    {"prototypes": "linear", "reference": "direction"},
    {"prototypes": "linear"} | ANY_TIME,
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return small_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def certificate(encoder: Encoder) -> FeatureCertificate:
    ready = ready_features(encoder, feature_spec_of(encoder, prototypes="prototypes"), SIZE)
    return feature_certificate_of(encoder, ready, CUTS, SIZE)


def replayed(encoder: Encoder, certificate: FeatureCertificate, image: bytes | None = None) -> FeatureComparison:
    return replay_features(encoder, certificate, JobInput(image_png=png(*SIZE) if image is None else image))


def with_evidence(certificate: FeatureCertificate, **change: Any) -> FeatureCertificate:
    return certificate.model_copy(update={"evidence": certificate.evidence.model_copy(update=change)})


def with_channel(certificate: FeatureCertificate, index: int, **change: Any) -> FeatureCertificate:
    channels = list[ChannelEvidence](certificate.evidence.channels)
    channels[index] = channels[index].model_copy(update=change)
    return with_evidence(certificate, channels=tuple(channels))


@pytest.mark.parametrize("asked", JOBS)
def test_every_job_replays_to_its_own_levels(encoder: Encoder, asked: dict[str, Any]) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, **asked), SIZE)
    found = replayed(encoder, feature_certificate_of(encoder, ready, CUTS, SIZE))
    assert found.equal
    assert (found.passes, found.settled_gap, found.votes_differing) == (200, 0.0, 0)
    assert sum(channel.differing + channel.adjacent for channel in found.channels) == 0


@pytest.mark.parametrize("tokens", [False, True])
def test_an_embedding_replays_with_its_values(encoder: Encoder, tokens: bool) -> None:
    ready = ready_features(encoder, embedding_spec_of(encoder, tokens=tokens), SIZE)
    certificate = feature_certificate_of(encoder, ready, CUTS, SIZE)
    assert certificate.embedding is not None
    assert replayed(encoder, certificate).equal
    values = (certificate.embedding.values[0] + 0.01, *certificate.embedding.values[1:])
    other = certificate.model_copy(update={"embedding": certificate.embedding.model_copy(update={"values": values})})
    found = replayed(encoder, other)
    assert not found.equal
    assert found.settled_gap > 1e-3


def test_draws_that_were_moved_up_are_counted(encoder: Encoder, certificate: FeatureCertificate) -> None:
    stated = certificate.evidence.channels[2]
    moved = (*stated.levels[:-1], stated.levels[-1] + 2)
    found = replayed(encoder, with_channel(certificate, 2, levels=moved))
    assert [channel.differing for channel in found.channels] == [0, 0, stated.counts[-1], 0, 0, 0, 0]
    assert not found.equal


def test_more_draws_one_level_off_than_lie_near_an_edge_are_no_rounding(
    encoder: Encoder, certificate: FeatureCertificate
) -> None:
    stated = certificate.evidence.channels[0]
    found = replayed(encoder, with_channel(certificate, 0, levels=tuple(level + 1 for level in stated.levels)))
    assert (found.channels[0].differing, found.channels[0].adjacent) == (0, 200)
    assert found.channels[0].near_edges < 50
    assert not found.equal


def test_other_votes_and_cosines_differ(encoder: Encoder, certificate: FeatureCertificate) -> None:
    evidence = certificate.evidence
    assert (evidence.votes, evidence.cosines) != (None, None)
    found = replayed(encoder, with_evidence(certificate, votes=(evidence.votes or 0) + 3))
    assert (found.votes_differing, found.equal) == (3, False)
    shifted = tuple(cosine + 0.001 for cosine in evidence.cosines or ())
    assert replayed(encoder, with_evidence(certificate, cosines=shifted)).settled_gap == pytest.approx(0.001)


def test_another_label_is_found(encoder: Encoder, certificate: FeatureCertificate) -> None:
    assert certificate.prediction is not None
    ready = ready_features(encoder, feature_spec_of(encoder, prototypes="prototypes"), SIZE)
    other = replace(ready.settled, label=(certificate.prediction.label + 1) % 4)
    found = replayed(encoder, feature_certificate_of(encoder, replace(ready, settled=other), CUTS, SIZE))
    assert (found.label_equal, found.label) == (False, certificate.prediction.label)
    assert all(channel.equal for channel in found.channels)
    assert not found.equal


def test_another_image_differs(encoder: Encoder, certificate: FeatureCertificate) -> None:
    assert not replayed(encoder, certificate, png(20, 24)).equal


def test_another_encoder_is_refused_by_its_fingerprint(encoder: Encoder, certificate: FeatureCertificate) -> None:
    model = certificate.model.model_copy(update={"fingerprint": "sha256:0000"})
    with pytest.raises(ReplayError, match="must be the certificate's sha256:0000"):
        replayed(encoder, certificate.model_copy(update={"model": model}))


def test_evidence_that_contradicts_its_request_is_refused(encoder: Encoder, certificate: FeatureCertificate) -> None:
    channels = certificate.evidence.channels
    assert certificate.prediction is not None
    outside = certificate.prediction.model_copy(update={"label": 9})
    for wrong in (
        with_evidence(certificate, channels=channels[:-1]),
        with_evidence(certificate, channels=(channels[0], *channels[:0:-1])),
        with_evidence(certificate, passes=149),
        with_channel(certificate, 0, counts=channels[0].counts[:-1]),
        certificate.model_copy(update={"prediction": outside}),
    ):
        with pytest.raises(ReplayError, match="channels, counts or a label that its request does not have"):
            replayed(encoder, wrong)


def files(folder: Path, certificate: FeatureCertificate, image: bytes) -> list[str]:
    """A certificate, its image and the settings of a small encoder as files, as arguments."""
    (folder / "small").mkdir()
    encoder_folder(folder / "small")
    (folder / "cert.json").write_text(certificate.model_dump_json())
    (folder / "image.png").write_bytes(image)
    (folder / "h.toml").write_text(f'[served.small]\nfolder = "{folder / "small"}"\n')
    return [str(folder / "cert.json"), "--image", str(folder / "image.png"), "--config", str(folder / "h.toml")]


def test_the_command_says_channel_by_channel_what_it_found(
    certificate: FeatureCertificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    arguments = files(tmp_path, certificate, png(*SIZE))
    assert command(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "200 passes replayed: every channel is the certificate's." in lines
    assert [line.split()[0] for line in lines[2:9]] == ["reference", *["margin"] * 3, *["clipped"] * 3]
    assert command([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["equal"], answer["passes"], len(answer["channels"])) == (True, 200, 7)


def test_the_command_exits_with_1_where_the_image_is_another(
    certificate: FeatureCertificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    black = np.zeros((*SIZE, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(black).save(file, "PNG")
    assert command(files(tmp_path, certificate, file.getvalue())) == 1
    assert "200 passes replayed: not what the certificate states." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--text", "t"], "the certificate is of a feature input; give --image alone"),
        (["--share", "0.5"], "--share 0.5 must be 1 for a feature certificate"),
        (["--model", "reference-guard"], "model 'reference-guard' is a guard, must be the certificate's encoder"),
    ],
)
def test_what_a_feature_certificate_does_not_take_is_refused(
    more: list[str],
    message: str,
    certificate: FeatureCertificate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOLDFAST_CONFIG", "")
    assert command([*files(tmp_path, certificate, png(*SIZE)), *more]) == 1
    assert message in capsys.readouterr().err
