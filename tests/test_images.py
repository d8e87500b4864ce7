"""What decoding makes of images that are fine."""

import base64
import contextlib
import hashlib
import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageOps

from holdfast.contract.problems import MalformedImageError, TooLargeError, UnsupportedMediaTypeError
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


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 3), (64, 64)])
def test_an_opaque_lossless_file_is_what_pillow_makes_of_it(form: str, mode: str, size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB").convert(mode)
    raw = encoded(image if form == "PNG" else image.convert("RGB"), form, lossless=True)
    assert b"".join(map(bytes, pixels(raw))) == image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 10}, {"subsampling": 0}, {"optimize": True}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_what_pillow_makes_of_it(mode: str, options: dict[str, object]) -> None:
    raw = encoded(Image.effect_noise((24, 16), 60).convert("RGB").convert(mode), "JPEG", **options)
    assert b"".join(map(bytes, pixels(raw))) == Image.open(BytesIO(raw)).convert("RGB").tobytes()


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4), st.integers(0, 255))
def test_a_transparent_pixel_lies_on_white_whatever_its_colour(colour: list[int], alpha: int) -> None:
    red, green, blue, other = colour
    ((*seen,), _) = pixels(encoded(two("RGBA", (red, green, blue, alpha), (other, other, other, 255))))
    for had, got in zip((red, green, blue), seen, strict=True):
        assert abs(got - (had * alpha + 255 * (255 - alpha)) / 255) <= 1


@given(st.binary(min_size=12, max_size=12))
def test_what_we_wrote_decodes_to_itself(colours: bytes) -> None:
    first = decode_file(encoded(Image.frombytes("RGB", (2, 2), colours)), max_pixels=4)
    assert decode_file(first.png, max_pixels=4) == first
    assert first.pixels_sha256 == hashlib.sha256(colours).hexdigest()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@settings(max_examples=40)
@given(data=st.data())
def test_a_damaged_file_is_an_image_or_a_refusal_and_nothing_else(form: str, data: st.DataObject) -> None:
    raw = bytearray(encoded(Image.linear_gradient("L").resize((9, 7)).convert("RGB"), form))
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=4)):
        raw[place] ^= data.draw(st.integers(1, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(MalformedImageError, TooLargeError, UnsupportedMediaTypeError):
        image = decode_file(cut, max_pixels=10_000)
        assert image.height * image.width <= 10_000


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_file_that_is_cut_within_its_pixels_is_never_filled_up(form: str) -> None:
    raw = encoded(Image.effect_noise((64, 48), 90).convert("RGB"), form)
    for part in (0.3, 0.5, 0.8):
        with pytest.raises(MalformedImageError, match="truncated or corrupt; send an intact PNG, JPEG or WebP file"):
            decode_file(raw[: int(part * len(raw))], max_pixels=10_000)


@given(st.binary(max_size=40))
def test_what_starts_as_no_image_is_refused_by_its_kind(raw: bytes) -> None:
    with pytest.raises((UnsupportedMediaTypeError, MalformedImageError)):
        decode_file(raw, max_pixels=10_000)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA"])
def test_every_other_format_is_refused_though_pillow_reads_it(form: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="must be a PNG, JPEG or WebP file; convert it to one"):
        decode_file(encoded(Image.new("RGB", (16, 16), "red"), form), max_pixels=10_000)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused_and_one_frame_of_it_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "green", "blue")]
    with pytest.raises(UnsupportedMediaTypeError, match="must be a still; send one frame"):
        decode_file(encoded(frames[0], form, save_all=True, append_images=frames[1:]), max_pixels=100)
    assert decode_file(encoded(frames[0], form, save_all=True), max_pixels=100).width == 4


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@given(limit=st.integers(0, 200))
def test_the_pixels_are_counted_before_they_are_read(form: str, limit: int) -> None:
    raw = encoded(Image.new("RGB", (13, 11), "grey"), form)
    if limit >= 143:
        assert decode_file(raw, max_pixels=limit).height == 11
        return
    with pytest.raises(TooLargeError, match=f"at most {limit} pixels; scale it down"):
        decode_file(raw, max_pixels=limit)


@pytest.mark.parametrize(
    "data", ["data:image/png;base64,iVBORw0KGgo=", "https://a.example/a.png", "iVBORw0K\nGgo=", "iVBORw0KGgo", " ", "%"]
)
def test_an_image_is_base64_alone_and_a_refusal_repeats_none_of_it(data: str) -> None:
    with pytest.raises(MalformedImageError, match=r"must be base64 without line breaks or a data: prefix;") as refusal:
        decode(data, max_pixels=100)
    assert refusal.value.__cause__ is None
    assert len(data) < 5 or data not in refusal.value.detail


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_there_is_none_of_turns_nothing(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    raw = encoded(Image.frombytes("RGB", (3, 2), bytes(range(18))), exif=exif)
    assert b"".join(map(bytes, pixels(raw))) == bytes(range(18))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_camera_turns_jpeg_and_webp_too(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    raw = encoded(Image.effect_noise((16, 8), 80).convert("RGB"), form, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(BytesIO(raw))).convert("RGB")
    assert b"".join(map(bytes, pixels(raw))) == wanted.tobytes()


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_sixteen_bits_of_grey_keep_their_high_byte(first: int, second: int) -> None:
    ((one, *_), (other, *_)) = pixels(encoded(two("I;16", first, second)))
    assert (one, other) == (first >> 8, second >> 8)
