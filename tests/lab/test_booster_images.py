import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from holdfast_lab.booster.images import DrawnScenes, FolderImages, training_batch
from tests.lab.booster_world import write_picture


def test_a_folder_gives_its_png_jpeg_and_webp_files_and_those_below(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.webp", "below/d.jpeg"):
        write_picture(tmp_path / name, height=8, width=9)
    (tmp_path / "note.txt").write_text("no picture")
    images = FolderImages(tmp_path)
    assert images.count == 4
    assert all(images.whole(index).shape == (8, 9, 3) for index in range(4))


def test_a_whole_picture_is_the_file(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.png", height=8, width=9)
    assert np.array_equal(FolderImages(tmp_path).whole(0), picture)


def test_a_turned_photograph_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert FolderImages(tmp_path).whole(0).shape == (20, 10, 3)


def test_a_varied_picture_is_a_crop_of_the_whole_sometimes_flipped(tmp_path: Path) -> None:
    picture = write_picture(tmp_path / "a.png", height=20, width=30)
    images, rng = FolderImages(tmp_path), np.random.default_rng(0)
    found = [images.varied(0, rng) for _ in range(40)]
    assert all(16 <= crop.shape[0] <= 20 and 24 <= crop.shape[1] <= 30 for crop in found)
    inside = {pixel.tobytes() for row in picture for pixel in row}
    assert all(pixel.tobytes() in inside for crop in found for row in crop for pixel in row)
    assert len({crop.tobytes() for crop in found}) > 10
    assert sum(crop.shape == picture.shape for crop in found) >= 10


def test_a_batch_lies_in_the_noise_space(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", height=20, width=30)
    batch = training_batch(FolderImages(tmp_path), [0, 0, 0], (12, 10), np.random.default_rng(0))
    assert batch.shape == (3, 3, 12, 10)
    assert 0 <= float(batch.min()) < float(batch.max()) <= 1


def enormous(width: int, height: int) -> bytes:
    """The beginning of a PNG whose header promises this size, and nothing more."""
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    body = struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("side", [8_000, 10_000, 100_000])
def test_a_picture_with_too_many_pixels_is_refused_on_its_header(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(enormous(side, side))
    with pytest.raises(ValueError, match=r"a\.png has more than 50,000,000 pixels"):
        FolderImages(tmp_path).whole(0)


def test_a_torn_picture_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", height=50, width=50)
    torn = (tmp_path / "a.png").read_bytes()[:-4000]
    (tmp_path / "a.png").write_bytes(torn)
    with pytest.raises(ValueError, match=r"a\.png is no readable PNG"):
        FolderImages(tmp_path).whole(0)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must hold one"):
        FolderImages(tmp_path)


def test_another_folder_has_another_identity(tmp_path: Path) -> None:
    write_picture(tmp_path / "one/a.png", height=8, width=9)
    write_picture(tmp_path / "two/a.png", height=8, width=10)
    assert FolderImages(tmp_path / "one").identity != FolderImages(tmp_path / "two").identity


def test_drawn_scenes_are_new_in_training_and_always_the_same_when_measured() -> None:
    scenes, rng = DrawnScenes(3), np.random.default_rng(0)
    assert np.array_equal(scenes.whole(1), scenes.whole(1))
    drawn = {scenes.varied(0, rng).tobytes() for _ in range(5)} | {scenes.whole(i).tobytes() for i in range(3)}
    assert len(drawn) == 8


def test_no_step_of_a_training_draws_a_scene_that_is_measured() -> None:
    scenes = DrawnScenes(8)
    measured = {scenes.whole(index).tobytes() for index in range(8)}
    steps = (np.random.default_rng([0, stage, step]) for stage in (0, 1) for step in range(8))
    assert not measured & {scenes.varied(0, rng).tobytes() for rng in steps}


def test_a_transparent_picture_is_trained_on_as_it_is_served(tmp_path: Path) -> None:
    Image.new("RGBA", (50, 50), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert (FolderImages(tmp_path).whole(0) == 255).all()
