"""An image file, decoded in bounds and written anew: no later process parses a stranger's file."""

import base64
import hashlib
import logging
from dataclasses import dataclass, field
from io import BytesIO

from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from holdfast.contract.problems import MalformedImageError, TooLargeError, UnsupportedMediaTypeError

_log = logging.getLogger(__name__)

# A 20 MB JPEG can hold half a million scans, each of which passes over all pixels; encoders write about ten.
_MAX_JPEG_SCANS = 100
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class DecodedImage:
    """An RGB image as our own PNG; `pixels_sha256` is the hash of its rows of RGB bytes."""

    png: bytes = field(repr=False)
    height: int
    width: int
    pixels_sha256: str


def decode(data: str, *, max_pixels: int) -> DecodedImage:
    """Decodes what a client sent: base64 without line breaks or a `data:` prefix.

    Raises:
        MalformedImageError: not base64, or a file that is truncated or corrupt.
        TooLargeError: more than `max_pixels` pixels.
        UnsupportedMediaTypeError: another format, or an animation.
    """
    return decode_file(_from_base64(data), max_pixels=max_pixels)


def decode_file(raw: bytes, *, max_pixels: int) -> DecodedImage:
    """The file that workers get for this one; raises what `upright` does."""
    rgb = upright(raw, max_pixels=max_pixels)
    rgb.info.clear()  # Pillow would carry the client's colour profile into our file
    png = BytesIO()
    rgb.save(png, "PNG", compress_level=1)
    return DecodedImage(png.getvalue(), rgb.height, rgb.width, hashlib.sha256(rgb.tobytes()).hexdigest())


def upright(raw: bytes, *, max_pixels: int) -> Image.Image:
    """Reads a PNG, JPEG or WebP still as upright RGB; transparency lies on white, colour profiles are ignored.

    Args:
        raw: the file.
        max_pixels: height times width that is accepted, checked on the header, before pixels are allocated.

    Raises:
        MalformedImageError: the file is truncated or corrupt.
        TooLargeError: more than `max_pixels` pixels.
        UnsupportedMediaTypeError: another format, or an animation.
    """
    reader = _reader(raw)
    if raw.count(b"\xff\xda") > _MAX_JPEG_SCANS and reader is JpegImagePlugin.JpegImageFile:
        raise MalformedImageError(f"the JPEG has more than {_MAX_JPEG_SCANS} scans; save it as a baseline JPEG")
    try:
        # The readers themselves, not Image.open: that one warns of large images, which is global state.
        image = reader(BytesIO(raw))
        _check_header(image, max_pixels)
        turn = _TURNS.get(_orientation(image))
        return _rgb(image) if turn is None else _rgb(image).transpose(turn)
    except Image.DecompressionBombError:
        raise _too_many(max_pixels) from None
    except (TooLargeError, UnsupportedMediaTypeError):
        raise
    except Exception as error:  # decoders raise almost anything for a damaged file
        _log.info("image refused: %s in the decoder", type(error).__name__)
        raise MalformedImageError("the image is truncated or corrupt; send an intact PNG, JPEG or WebP file") from None


def _from_base64(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise MalformedImageError(
            "input.image.data must be base64 without line breaks or a data: prefix; encode the file's bytes so"
        ) from None


def _reader(raw: bytes) -> type[ImageFile]:
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if raw.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    raise UnsupportedMediaTypeError("the image must be a PNG, JPEG or WebP file; convert it to one")


def _check_header(image: ImageFile, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise _too_many(max_pixels)
    if getattr(image, "n_frames", 1) > 1:
        raise UnsupportedMediaTypeError("the image must be a still; send one frame of the animation")


def _too_many(max_pixels: int) -> TooLargeError:
    return TooLargeError(f"the image must have at most {max_pixels} pixels; scale it down")


def _orientation(image: ImageFile) -> int:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF says nothing of the pixels, which may be sound
        return 1
    return orientation if isinstance(orientation, int) else 1


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """The high byte of a 16-bit grey image, with its transparent level as alpha; Pillow would clip instead."""
    levels = image.convert("I")
    grey = levels.point([level >> 8 for level in range(2**16)], "L")
    clear = image.info.get("transparency")
    if clear is None:
        return Image.merge("L", [grey])
    opaque = levels.point([0 if level == clear else 255 for level in range(2**16)], "L")
    return Image.merge("LA", [grey, opaque])
