"""Labelled pictures from tables and archives: read as they are meant, and refused where that is not clear."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Png
from safetensors.torch import load_file

from holdfast_lab.encoder.head_files import CLIP, TrainedHead, save_head
from holdfast_lab.encoder.labelled import LabelledImages, read_archive, read_folder
from holdfast_worker.models.encoder.heads import load_head

PICTURES = np.zeros((3, 2, 2, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1])


def archive(folder: Path, **changed: Any) -> Path:
    """An archive of three pictures with something else in it; None takes a part away."""
    parts = {"images": PICTURES, "labels": LABELS} | changed
    path = folder / "some.npz"
    np.savez(path, **{name: part for name, part in parts.items() if part is not None})
    return path


@pytest.mark.parametrize(
    "images", [PICTURES.astype(np.float32), PICTURES[0], PICTURES[..., :1], np.zeros((3, 2, 2, 4), np.uint8)], ids=str
)
def test_pictures_that_are_not_rgb_of_8_bits_are_refused_with_their_type_and_shape(
    tmp_path: Path, images: NDArray[Any]
) -> None:
    with pytest.raises(ValueError, match=rf"images of {images.dtype} {re.escape(str(images.shape))} must be uint8"):
        read_archive(archive(tmp_path, images=images))


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_an_archive_without_pictures_or_labels_is_refused_by_what_it_lacks(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ValueError, match=rf"lacks \['{missing}'\], must hold images and labels; save it with both"):
        read_archive(archive(tmp_path, **{missing: None}))


@pytest.mark.parametrize(
    "labels", [np.array([0.0, 0.9, 1.0]), np.array(["0", "1", "2"]), np.array([True, False, True])]
)
def test_labels_that_are_no_whole_numbers_are_refused_rather_than_rounded(tmp_path: Path, labels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=rf"labels of {labels.dtype} must be whole numbers"):
        read_archive(archive(tmp_path, labels=labels))


def test_an_archive_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_archive(archive(tmp_path, classes=np.array([{"a": 1}, None, "c"], dtype=object)))


@pytest.mark.parametrize("labels", [np.array([0, 1]), np.array([0, 1, 2, 1]), np.array([], dtype=np.int64)])
def test_an_archive_labels_each_picture_once(tmp_path: Path, labels: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="must be equally many, and some; label each"):
        read_archive(archive(tmp_path, labels=labels, classes=np.array(["a", "b"])))


@pytest.mark.parametrize("low", [-1, -3])
def test_a_negative_label_is_refused(tmp_path: Path, low: int) -> None:
    with pytest.raises(ValueError, match=f"labels from {low} to 2 must index the 3 classes; correct them"):
        read_archive(archive(tmp_path, labels=np.array([0, low, 2])))


@given(st.integers(0, 6), st.integers(0, 6))
def test_a_part_has_the_same_classes_and_its_own_pictures(start: int, stop: int) -> None:
    pictures = tuple(np.full((1, 1, 3), level, dtype=np.uint8) for level in range(6))
    whole = LabelledImages(pictures, np.array([0, 1, 2, 0, 1, 2]), ("a", "b", "c"))
    if start >= stop:
        with pytest.raises(ValueError, match="and some; label each"):
            whole.part(start, stop)
        return
    part = whole.part(start, stop)
    assert [int(image[0, 0, 0]) for image in part.images] == list(range(start, stop))
    assert part.labels.tolist() == [k % 3 for k in range(start, stop)]
    assert part.classes == whole.classes


def test_a_part_without_bounds_is_the_whole() -> None:
    whole = LabelledImages(tuple(PICTURES), LABELS, ("a", "b", "c"))
    assert len(whole.part(None, None).images) == len(whole.part(0, None).images) == 3
    assert len(whole.part(None, 2).images) == 2


def table(folder: Path, *lines: str) -> LabelledImages:
    """A table of these lines, read with the folder's pictures."""
    (folder / "labels.csv").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return read_folder(folder, folder / "labels.csv")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Png.fromarray(PICTURES[0]).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("lines", [(), ("file,label",), ("label", "x"), ("file", "a.png"), ("a.png,x", "b.png,y")])
def test_a_table_without_its_two_columns_or_rows_is_refused(pictures: Path, lines: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"lacks the columns \[.+\] or has no rows; give it both and some"):
        table(pictures, *lines)


@pytest.mark.parametrize("row", ["b.png", "b.png,", ",y"])
def test_a_row_that_is_cut_short_is_refused_by_its_line(pictures: Path, row: str) -> None:
    with pytest.raises(ValueError, match=r"labels\.csv: row 2 must have a file and a label; complete or remove it"):
        table(pictures, "file,label", "a.png,x", row)


def test_a_label_of_one_class_alone_is_refused(pictures: Path) -> None:
    with pytest.raises(ValueError, match="1 classes must be at least two; label another one"):
        table(pictures, "file,label", "a.png,x", "b.png,x")


def test_a_picture_may_be_listed_twice_and_further_columns_are_left_alone(pictures: Path) -> None:
    found = table(pictures, "note,label,file", "first,x,a.png", "second,y,b.png", "again,x,a.png")
    assert (found.classes, found.labels.tolist(), len(found.images)) == (("x", "y"), [0, 1, 0], 3)


def test_a_picture_that_is_not_there_is_named(pictures: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"c\.png"):
        table(pictures, "file,label", "a.png,x", "c.png,y")


@given(clip=st.floats(1e-6, 1.0), linear=st.booleans())
def test_a_heads_clip_and_kind_come_back_from_its_file(heads: Path, clip: float, linear: bool) -> None:
    weight, bias = np.eye(2, 3, dtype=np.float32), np.array([0.5, -1.0], dtype=np.float32)
    save_head(trained(weight, bias if linear else None, clip=clip), heads / "h.safetensors")
    head = load_head(heads / "h.safetensors", 3, torch.device("cpu"))
    assert (head.clip, head.kind) == (clip, "linear" if linear else "prototypes")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heads")


def trained(weight: NDArray[np.float32], bias: NDArray[np.float32] | None, *, clip: float = CLIP) -> TrainedHead:
    return TrainedHead(("x", "y"), torch.tensor(weight), None if bias is None else torch.tensor(bias), clip=clip)


def test_a_saved_head_is_stored_in_single_precision_whatever_it_was_trained_in(tmp_path: Path) -> None:
    weight = torch.eye(2, 3, dtype=torch.float64)[:, [2, 0, 1]]
    save_head(TrainedHead(("x", "y"), weight), tmp_path / "deep" / "er" / "h.safetensors")
    stored = load_file(tmp_path / "deep" / "er" / "h.safetensors")
    assert {name: tensor.dtype for name, tensor in stored.items()} == {"weight": torch.float32}
    assert torch.equal(stored["weight"], weight.float())
