"""What decoding makes of images that are fine."""

import base64
import tracemalloc
from io import BytesIO

import pytest
from PIL import ExifTags, Image, ImageOps

from holdfast.contract.problems import TooLargeError
from holdfast.images import DecodedImage, decode, decode_file
from tests.gateway.inputs import base64_of, chunk, encoded, raw_png

Pixel = tuple[int, int, int]


def decoded(raw: bytes, max_pixels: int = 10_000) -> DecodedImage:
    return decode(base64_of(raw), max_pixels=max_pixels)


def pixels(raw: bytes) -> list[Pixel]:
    image = Image.open(BytesIO(decoded(raw).png))
    assert image.mode == "RGB"
    return [image.getpixel((x, y)) for y in range(image.height) for x in range(image.width)]  # type: ignore[misc]


def two(mode: str, first: object, second: object) -> Image.Image:
    """An image of two pixels side by side."""
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), first)  # type: ignore[arg-type]
    image.putpixel((1, 0), second)  # type: ignore[arg-type]
    return image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_ones_own_file_is_read_as_a_strangers_is(form: str) -> None:
    raw = encoded(two("RGB", (1, 2, 3), (250, 128, 0)), form)
    assert decode_file(raw, max_pixels=2) == decoded(raw)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_lossless_files_keep_every_pixel(form: str) -> None:
    image = two("RGB", (1, 2, 3), (250, 128, 0))
    assert pixels(encoded(image, form, lossless=True)) == [(1, 2, 3), (250, 128, 0)]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_every_format_keeps_its_size_and_nearly_its_colours(form: str) -> None:
    raw = encoded(Image.new("RGB", (7, 5), (200, 100, 50)), form)
    image = decoded(raw)
    assert (image.height, image.width) == (5, 7)
    assert max(abs(had - want) for had, want in zip(pixels(raw)[17], (200, 100, 50), strict=True)) <= 4


@pytest.mark.parametrize(
    ("image", "want"),
    [
        (two("L", 0, 200), [(0, 0, 0), (200, 200, 200)]),
        (two("1", 0, 255), [(0, 0, 0), (255, 255, 255)]),
        (two("I;16", 0x8012, 0x1234), [(0x80,) * 3, (0x12,) * 3]),
        (two("RGBA", (10, 20, 30, 255), (10, 20, 30, 0)), [(10, 20, 30), (255, 255, 255)]),
        (two("LA", (40, 255), (40, 0)), [(40, 40, 40), (255, 255, 255)]),
        (two("RGB", (9, 8, 7), (255, 0, 0)).quantize(2), [(9, 8, 7), (255, 0, 0)]),
    ],
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, want: list[Pixel]) -> None:
    assert pixels(encoded(image)) == want


def test_a_palettes_transparent_colour_is_white() -> None:
    image = two("RGB", (9, 8, 7), (255, 0, 0)).quantize(2)
    clear = image.getpixel((0, 0))
    assert pixels(encoded(image, transparency=clear)) == [(255, 255, 255), (255, 0, 0)]


@pytest.mark.parametrize(("depth", "row"), [(8, b"\x00\x80\x12"), (16, b"\x00\x80\x00\x12\x34")])
def test_a_grey_images_transparent_level_is_white(depth: int, row: bytes) -> None:
    clear = chunk(b"tRNS", (0x80 << (depth - 8)).to_bytes(2, "big"))
    raw = raw_png(2, 1, depth=depth, colour=0, rows=row, extra=clear)
    assert pixels(raw) == [(255, 255, 255), (0x12, 0x12, 0x12)]


def test_half_transparency_is_composited_on_white() -> None:
    ((red, green, blue), _) = pixels(encoded(two("RGBA", (0, 100, 255, 128), (0, 0, 0, 255))))
    assert (red, green, blue) == pytest.approx((127, 177, 255), abs=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_image_is_turned_upright_as_its_camera_says(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    raw = encoded(Image.frombytes("RGB", (3, 2), bytes(range(18))), exif=exif)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(raw)))
    assert b"".join(map(bytes, pixels(raw))) == upright.tobytes()
    assert (decoded(raw).width, decoded(raw).height) == upright.size


def test_damaged_exif_does_not_cost_the_image() -> None:
    raw = encoded(Image.new("RGB", (2, 1), "red"), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert pixels(raw) == [(255, 0, 0)] * 2


def test_nothing_of_the_file_but_its_pixels_is_kept() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "a private remark"
    raw = encoded(Image.new("RGB", (2, 1), "red"), exif=exif, icc_profile=b"a private profile")
    assert base64.b64encode(decoded(raw).png) == base64.b64encode(decoded(encoded(Image.new("RGB", (2, 1), "red"))).png)


def test_equal_pixels_hash_equal_whatever_the_file() -> None:
    image = two("RGB", (1, 2, 3), (250, 128, 0))
    png, webp = decoded(encoded(image)), decoded(encoded(image, "WEBP", lossless=True))
    assert png.pixels_sha256 == webp.pixels_sha256
    assert decoded(encoded(two("RGB", (1, 2, 3), (250, 128, 1)))).pixels_sha256 != png.pixels_sha256


def test_the_limit_itself_is_accepted() -> None:
    assert decoded(encoded(Image.new("RGB", (10, 10))), max_pixels=100).width == 10
    with pytest.raises(TooLargeError, match="at most 99 pixels; scale it down"):
        decoded(encoded(Image.new("RGB", (10, 10))), max_pixels=99)


def test_a_huge_header_is_refused_without_allocating_its_pixels() -> None:
    bomb = raw_png(30_000, 30_000)
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        decoded(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
