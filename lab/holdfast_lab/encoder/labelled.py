"""Labelled images from a folder with a table, or from one NumPy archive."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from holdfast_lab.scenes import Image


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, uint8 (H, W, 3) RGB of any sizes, the index of each one's class, (N,), and the K classes' names."""

    images: tuple[Image, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or not len(self.labels):
            raise ValueError(
                f"{len(self.images)} images and {len(self.labels)} labels must be equally many, and some; label each"
            )
        if len(self.classes) < 2:
            raise ValueError(f"{len(self.classes)} classes must be at least two; label another one")
        if not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels from {self.labels.min()} to {self.labels.max()} must index the {len(self.classes)} classes;"
                " correct them"
            )

    def part(self, start: int | None, stop: int | None) -> "LabelledImages":
        """The images `[start, stop)`, of the same classes."""
        return LabelledImages(self.images[start:stop], self.labels[start:stop], self.classes)


def read_archive(path: Path) -> LabelledImages:
    """Read `images` (N, H, W, 3) uint8, `labels` (N,) and, where there are any, `classes` (K,) of a .npz file.

    Without `classes` the labels' own numbers are the names.
    """
    with np.load(path, allow_pickle=False) as stored:
        if missing := sorted({"images", "labels"} - set(stored)):
            raise ValueError(f"{path} lacks {missing}, must hold images and labels; save it with both")
        images, labels = stored["images"], stored["labels"]
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels of {labels.dtype} must be whole numbers, an index into the classes; convert them")
        names = stored["classes"] if "classes" in stored else range(int(labels.max(initial=0)) + 1)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"images of {images.dtype} {images.shape} must be uint8 (N, H, W, 3); convert them to RGB")
    return LabelledImages(tuple(images), labels.astype(np.int64), tuple(map(str, names)))


def read_folder(folder: Path, table: Path) -> LabelledImages:
    """Read the pictures that a CSV `table` with the columns `file` and `label` names; classes in sorted order."""
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    if missing := {"file", "label"} - set(rows[0] if rows else ()):
        raise ValueError(f"{table} lacks the columns {sorted(missing)} or has no rows; give it both and some")
    if short := [number for number, row in enumerate(rows, 1) if not (row["file"] and row["label"])]:
        raise ValueError(f"{table}: row {short[0]} must have a file and a label; complete or remove it")
    classes = sorted({row["label"] for row in rows})
    images = tuple(np.asarray(Picture.open(folder / row["file"]).convert("RGB")) for row in rows)
    return LabelledImages(images, np.array([classes.index(row["label"]) for row in rows]), tuple(classes))
