import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Png

from holdfast_lab.encoder.head_files import HeadKind, TrainedHead, save_head
from holdfast_lab.encoder.heads import HeadRecipe, noisy_features, train_head
from holdfast_lab.encoder.labelled import LabelledImages, read_archive, read_folder
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.heads import load_head
from holdfast_worker.models.registry import load
from tests.workers.cifar import CIFAR, cifar_encoder, cifar_images, drawn_images

SIGMA = 0.12


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    found = load(cifar_encoder(tmp_path_factory.mktemp("cnn"), "cnn"), {})
    assert isinstance(found, Encoder)
    return found


@pytest.fixture(scope="module", params=["drawn", pytest.param("cifar", marks=pytest.mark.data)])
def images(request: pytest.FixtureRequest) -> LabelledImages:
    drawn = request.param == "drawn"
    pictures, labels = drawn_images(200) if drawn else cifar_images(request.getfixturevalue("data"))
    return LabelledImages(tuple(pictures), labels, CIFAR)


@pytest.mark.parametrize("kind", ["prototypes", "linear"])
def test_a_head_trained_on_100_images_beats_chance_on_100_others(
    encoder: Encoder, images: LabelledImages, kind: HeadKind
) -> None:
    head = train_head(encoder, images.part(100, 200), HeadRecipe(kind, SIGMA, copies=8, steps=100))
    features = noisy_features(encoder, images.part(0, 100), sigma=SIGMA, copies=1, seed=1)[:, 0]
    logits = features @ head.weight.T + (0.0 if head.bias is None else head.bias)
    right = (logits.argmax(-1).numpy() == images.labels[:100]).sum()
    assert head.kind == kind
    # Guessing gets 10 right on average, and 30 with probability 3e-8.
    assert right >= 30


def test_trained_prototypes_are_unit_rows_and_another_seed_trains_others(
    encoder: Encoder, images: LabelledImages
) -> None:
    first, again, other = (
        train_head(encoder, images.part(0, 20), HeadRecipe("prototypes", SIGMA, copies=2, steps=5, seed=seed)).weight
        for seed in (0, 0, 1)
    )
    assert torch.allclose(first.double().norm(dim=-1), torch.ones(10, dtype=torch.float64), atol=1e-6)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_each_image_has_its_own_noise(encoder: Encoder, images: LabelledImages) -> None:
    twice = LabelledImages((images.images[0],) * 2, np.zeros(2, dtype=np.int64), CIFAR)
    first, second = noisy_features(encoder, twice, sigma=SIGMA, copies=3, seed=0)
    assert (first - second).norm(dim=-1).min() > 1e-3


@pytest.mark.parametrize("bias", [None, torch.tensor([0.5, -0.5])])
def test_a_saved_head_is_the_one_that_the_worker_loads(tmp_path: Path, bias: torch.Tensor | None) -> None:
    weight = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    save_head(TrainedHead(("ä", "b"), weight, bias, clip=0.03), tmp_path / "heads" / "mine.safetensors", version="7")
    head = load_head(tmp_path / "heads" / "mine.safetensors", 3, torch.device("cpu"))
    assert (head.name, head.version, head.classes, head.clip) == ("mine", "7", ("ä", "b"), 0.03)
    assert head.kind == ("prototypes" if bias is None else "linear")
    assert torch.equal(head.weight, weight)
    assert (head.bias is None) == (bias is None)


def test_labelled_pictures_are_read_in_the_tables_order_with_sorted_classes(tmp_path: Path) -> None:
    for name, level in (("a.png", 10), ("b.png", 200)):
        Png.fromarray(np.full((4, 6), level, dtype=np.uint8)).save(tmp_path / name)
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["file", "label"], ["b.png", "zebra"], ["a.png", "ant"]])
    found = read_folder(tmp_path, tmp_path / "labels.csv")
    assert found.classes == ("ant", "zebra")
    assert found.labels.tolist() == [1, 0]
    assert [(image.shape, image[0, 0].tolist()) for image in found.images] == [
        ((4, 6, 3), [200] * 3),
        ((4, 6, 3), [10] * 3),
    ]


def test_an_archive_names_its_classes_or_numbers_them(tmp_path: Path) -> None:
    pictures, labels = np.zeros((3, 2, 2, 3), dtype=np.uint8), np.array([0, 2, 1])
    np.savez(tmp_path / "plain.npz", images=pictures, labels=labels)
    np.savez(tmp_path / "named.npz", images=pictures, labels=labels, classes=np.array(["x", "y", "z"]))
    assert read_archive(tmp_path / "plain.npz").classes == ("0", "1", "2")
    assert read_archive(tmp_path / "named.npz").part(1, 3).classes == ("x", "y", "z")


@pytest.mark.parametrize(
    ("labels", "classes", "rule"),
    [([0, 1], ("x",), "at least two"), ([0], ("x", "y"), "equally many"), ([0, 2], ("x", "y"), "must index the 2")],
)
def test_labels_that_do_not_fit_are_refused(labels: list[int], classes: tuple[str, ...], rule: str) -> None:
    pictures = (np.zeros((2, 2, 3), dtype=np.uint8),) * 2
    with pytest.raises(ValueError, match=rule):
        LabelledImages(pictures, np.array(labels), classes)


def test_a_table_without_labels_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,class\na.png,x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacks the columns \['label'\]"):
        read_folder(tmp_path, tmp_path / "labels.csv")
