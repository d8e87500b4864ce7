"""What is settled, drawn and scored for an encoder's job, against the formulas by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.contract.features.spec import FeatureSpec
from holdfast.queue.jobs import JobInput
from holdfast.queue.orders import Order
from holdfast.queue.settled import Settled
from holdfast_worker import gaussian
from holdfast_worker.models.draws import PreparedInput
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.errors import InputRefusedError, ModelConfigError
from holdfast_worker.models.vision.towers import Tower
from holdfast_worker.sampling.features import EncoderKind, ReadyFeatures, prepare_features, score, scores
from tests.workers.builders import SEED, png
from tests.workers.feature_builders import (
    embedding_spec_of,
    feature_spec_of,
    feature_tally,
    levels_of,
    ready_features,
    small_encoder,
)

ANY_TIME: dict[str, Any] = {"sampling": {"stop": "any_time"}}
HEADS = [{"prototypes": "prototypes"}, {"prototypes": "linear"}]


class PatchTower(Tower):
    """Four tokens, the quadrants of an 8 x 8 image; the feature is their mean."""

    def __init__(self) -> None:
        super().__init__(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3, dtype=torch.float32)
        self.weight = torch.randn(48, 5, generator=torch.Generator().manual_seed(3))

    def tokens(self, images: Tensor) -> Tensor:
        patches = self._pixels(images).unfold(2, 4, 4).unfold(3, 4, 4)
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2) @ self.weight

    def pooled(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return small_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def patches(encoder: Encoder) -> Encoder:
    config = encoder.config.model_copy(update={"noise_height": 8, "noise_width": 8})
    return Encoder(PatchTower(), config=config, fingerprint="patches", device=torch.device("cpu"), space=(8, 8))


def noisy(spec: FeatureSpec, prepared: PreparedInput, start: int, stop: int, channel: str = "image") -> Tensor:
    clean = prepared.clean[None]
    return gaussian.noisy(clean, sigma=spec.sigma, seed=SEED, start=start, stop=stop, channel=channel)


def by_hand(encoder: Encoder, ready: ReadyFeatures, stop: int, channel: str = "image") -> NDArray[np.float64]:
    """Unit features of the draws [0, stop), float64."""
    images = noisy(ready.spec, ready.prepared, 0, stop, channel)
    features: NDArray[np.float64] = encoder.features(images, ready.spec.sigma).double().numpy()
    units: NDArray[np.float64] = features / np.linalg.norm(features, axis=1, keepdims=True)
    return units


def reference_of(ready: ReadyFeatures) -> NDArray[np.float64]:
    return np.frombuffer(ready.settled.reference, "<f4").astype(np.float64)


def head_of(encoder: Encoder, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    head = encoder.heads[name]
    bias = torch.zeros(len(head.weight)) if head.bias is None else head.bias
    return head.weight.double().numpy(), bias.double().numpy()


def assert_counted(levels: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
    """Each level is its score rounded down, or the one below where the score is within 5e-6 of the edge."""
    below = np.sort(scores, axis=-1) * 4096 - levels
    assert below.min() >= 0
    assert below.max() < 1 + 5e-6 * 4096


def test_the_clean_reference_is_the_feature_of_the_image_without_noise(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder))
    clean = encoder.features(ready.prepared.clean[None], ready.spec.sigma)[0].numpy()
    np.testing.assert_allclose(reference_of(ready), clean, atol=1e-6)
    assert (ready.settled.label, ready.settled.embedding) == (None, b"")


def test_the_direction_is_that_of_the_mean_of_draws_that_are_not_scored(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, reference="direction"))
    mean = by_hand(encoder, ready, 40, "image/selection").mean(axis=0)
    np.testing.assert_allclose(reference_of(ready), mean / np.linalg.norm(mean), atol=1e-6)
    scored = by_hand(encoder, ready, 40).mean(axis=0)
    assert np.abs(reference_of(ready) - scored / np.linalg.norm(scored)).max() > 1e-3


@pytest.mark.parametrize("asked", HEADS)
def test_the_label_wins_on_the_mean_of_the_selection_draws(encoder: Encoder, asked: dict[str, Any]) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, **asked))
    weight, bias = head_of(encoder, asked["prototypes"])
    logits = by_hand(encoder, ready, 40, "image/selection") @ weight.T + bias
    assert ready.settled.label == logits.mean(axis=0).argmax()


def test_the_geometry_of_prototypes_is_settled_and_a_linear_head_has_none(encoder: Encoder) -> None:
    settled = ready_features(encoder, feature_spec_of(encoder, prototypes="prototypes")).settled
    weight, _ = head_of(encoder, "prototypes")
    np.testing.assert_allclose(settled.cosines or (), weight @ np.frombuffer(settled.reference, "<f4"), atol=1e-6)
    np.testing.assert_allclose(
        settled.distances or (), np.linalg.norm(weight - weight[settled.label], axis=1), atol=1e-12
    )
    linear = ready_features(encoder, feature_spec_of(encoder, prototypes="linear")).settled
    assert (linear.cosines, linear.distances) == (None, None)


def test_every_channel_has_the_levels_of_its_own_formula(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, prototypes="linear", reference="direction"))
    label, (weight, bias) = ready.settled.label, head_of(encoder, "linear")
    features = by_hand(encoder, ready, 24)
    expected = [(1 + features @ reference_of(ready)) / 2]
    margins = []
    for rival in (k for k in range(4) if k != label):
        row, offset = weight[label] - weight[rival], bias[label] - bias[rival]
        margins.append((features @ row + offset) / (np.linalg.norm(row) + abs(offset)))
    expected += [(1 + margin) / 2 for margin in margins]
    expected += [(np.clip(margin, -0.1, 0.1) / 0.1 + 1) / 2 for margin in margins]
    found = feature_tally(encoder, ready, 0, 24)
    assert_counted(levels_of(found), np.array(expected))
    assert found.scores.votes == (np.array(margins) > 0).all(axis=0).sum()
    assert found.scores.votes in range(1, 24)


def test_a_feature_that_is_the_reference_itself_does_not_score_a_whole_one(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, noise={"sigma": 1e-6}))
    assert (levels_of(feature_tally(encoder, ready, 0, 16)) == 4095).all()


@pytest.mark.parametrize(
    ("asked", "channels", "votes"),
    [
        ({}, 1, False),
        (ANY_TIME, 1, False),
        (HEADS[0], 7, True),
        (HEADS[1] | ANY_TIME, 4, True),
    ],
)
def test_only_what_the_statements_need_is_counted(
    encoder: Encoder, asked: dict[str, Any], channels: int, votes: bool
) -> None:
    tally = feature_tally(encoder, ready_features(encoder, feature_spec_of(encoder, **asked)), 8, 24)
    assert (tally.start, tally.stop) == (8, 24)
    assert (levels_of(tally).shape, tally.scores.votes is not None) == ((channels, 16), votes)


def test_an_order_that_is_run_again_gives_the_same_tally_whatever_it_shares_a_batch_with(encoder: Encoder) -> None:
    first = ready_features(encoder, feature_spec_of(encoder, **HEADS[0]))
    second = ready_features(encoder, feature_spec_of(encoder, **ANY_TIME), size=(40, 8))
    orders = [(Order("a", 0, 5, 37), first), (Order("b", 0, 0, 20), second)]
    together = score(encoder, orders)
    assert together == [score(encoder, [one])[0] for one in orders]


def test_the_levels_are_the_same_however_the_draws_are_cut(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, **HEADS[0]))
    whole = levels_of(feature_tally(encoder, ready, 0, 100))
    parts = [levels_of(feature_tally(encoder, ready, a, b)) for a, b in ((0, 7), (7, 48), (48, 100))]
    joined = np.sort(np.concatenate(parts, axis=1), axis=1)
    # Another batch may round a feature otherwise, and a score that lies on a level's edge to the other side.
    assert np.abs(joined - whole).max() <= 1
    assert (joined != whole).mean() < 0.01


def test_memory_that_holds_few_features_at_once_changes_nothing(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, **HEADS[0]))
    whole = levels_of(feature_tally(encoder, ready, 3, 90))
    monkeypatch.setattr("holdfast_worker.sampling.features._NUMBERS", 1)
    again = ready_features(encoder, ready.spec)
    np.testing.assert_allclose(reference_of(again), reference_of(ready), atol=1e-6)
    assert np.abs(levels_of(feature_tally(encoder, again, 3, 90)) - whole).max() <= 1


def test_an_embedding_is_the_mean_of_the_features_of_its_own_draws(encoder: Encoder) -> None:
    ready = ready_features(encoder, embedding_spec_of(encoder, sampling={"draws": 20}))
    mean = by_hand(encoder, ready, 20, "image/embedding").mean(axis=0)
    assert ready.settled.shape == (12,)
    np.testing.assert_allclose(np.frombuffer(ready.settled.embedding, "<f4"), mean, atol=1e-6)


def test_a_token_embedding_is_the_mean_direction_at_the_mean_length(patches: Encoder) -> None:
    ready = ready_features(patches, embedding_spec_of(patches, tokens=True, sampling={"draws": 20}))
    drawn = patches.tokens(noisy(ready.spec, ready.prepared, 0, 20, "image/embedding"), ready.spec.sigma)
    flat = drawn.flatten(1).double().numpy()
    lengths = np.linalg.norm(flat, axis=1)
    expected = (flat / lengths[:, None]).mean(axis=0) * lengths.mean()
    assert ready.settled.shape == (4, 5)
    np.testing.assert_allclose(np.frombuffer(ready.settled.embedding, "<f4"), expected, rtol=1e-5, atol=1e-5)


def test_the_feature_of_a_token_job_is_the_whole_token_matrix(patches: Encoder) -> None:
    ready = ready_features(patches, embedding_spec_of(patches, tokens=True))
    clean = patches.tokens(ready.prepared.clean[None], ready.spec.sigma).flatten().double().numpy()
    np.testing.assert_allclose(reference_of(ready), clean / np.linalg.norm(clean), atol=1e-6)
    drawn = patches.tokens(noisy(ready.spec, ready.prepared, 0, 40), ready.spec.sigma).flatten(1).double().numpy()
    cosines = drawn @ reference_of(ready) / np.linalg.norm(drawn, axis=1)
    assert_counted(levels_of(feature_tally(patches, ready, 0, 40))[0], (1 + cosines) / 2)


def test_denoiser_and_mapper_are_told_the_noise_even_for_the_clean_image(patches: Encoder) -> None:
    told = []

    class Noted(torch.nn.Module):
        def forward(self, images: Tensor, sigma: float) -> Tensor:
            told.append(sigma)
            return images

    encoder = Encoder(
        patches.tower, config=patches.config, fingerprint="noted", device=patches.device, space=(8, 8), denoiser=Noted()
    )
    told.clear()
    spec = feature_spec_of(encoder, noise={"sigma": 0.3}, reference="clean")
    feature_tally(encoder, ready_features(encoder, spec), 0, 4)
    assert told == [0.3, 0.3]


def test_an_image_that_is_too_large_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InputRefusedError, match="8193 pixels, must have at most 8192"):
        prepare_features(encoder, feature_spec_of(encoder), JobInput(image_png=png(8193, 1)))


def test_a_head_that_is_not_the_jobs_own_is_refused(encoder: Encoder) -> None:
    spec = feature_spec_of(encoder, prototypes="linear")
    assert spec.head is not None
    other = spec.model_copy(update={"head": spec.head.model_copy(update={"fingerprint": "sha256:other"})})
    with pytest.raises(ModelConfigError, match="must have the job's sha256:other; serve the same heads"):
        ready_features(encoder, other)


def test_what_was_settled_for_another_encoder_is_refused(encoder: Encoder) -> None:
    ready = ready_features(encoder, feature_spec_of(encoder, prototypes="linear"))
    for change in ({"reference": b"\0" * 44}, {"label": 4}, {"label": None}):
        with pytest.raises(ValueError, match="must have 12 and one of 4 classes; run the same version"):
            replace(ready, settled=Settled(**(vars(ready.settled) | change)))


def test_warming_up_runs_an_order_with_a_head(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = scores, list[Any]()

    def noted(encoder: Encoder, ready: ReadyFeatures, start: int, stop: int) -> Any:
        seen.append((ready.spec.head is not None, start, stop))
        return run(encoder, ready, start, stop)

    monkeypatch.setattr("holdfast_worker.sampling.features.scores", noted)
    EncoderKind(encoder).warm_up()
    assert seen == [(True, 0, 4)]


def test_an_encoder_without_heads_warms_up_too(tmp_path: Path) -> None:
    EncoderKind(small_encoder(tmp_path, heads=[])).warm_up()
