"""Images: decode, check, resize, encode. The one geometry that fetch, evaluation and serving agree on.

A *stored image* has its short side resized to `image_size`, aspect kept. The *model input* is the central square of
`input_size(image_size)` pixels of the stored image (view "center"), or all of it, squeezed into that square (view
"whole"), as the model's card says. Everything is sRGB, `[height, width, 3] uint8`.
"""

import contextlib
import functools
import io
import math
import re
import threading
import warnings
from typing import NamedTuple

import numpy as np
import simplejpeg

# Importing a plugin registers its format; Image.init() would load forty more.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from components.shared import jpegs, picture_kinds, pixels
from components.shared.geometry import input_size

try:
    import cykooz_resizer
except ImportError:  # it has no wheel for Linux on ARM
    cykooz_resizer = None

# Baseline JPEGs are shrunk while they are decoded, so what counts for them is the size after shrinking; everything
# else, progressive JPEGs included, is held in memory whole.
MAX_PIXELS = 40_000_000
# From here on memory is worth a thought: 8 megapixels take 32 MB in Pillow, and every copy as much.
LARGE_PIXELS = 8_000_000
MAX_SHRUNK_PIXELS = 400_000_000
# Pillow refuses twice this by itself, of any kind, before the limits above are looked at.
Image.MAX_IMAGE_PIXELS = MAX_SHRUNK_PIXELS // 2
# A progressive JPEG has about ten scans. Each costs a pass over the whole image but only a dozen bytes, so that a
# small file with thousands of them would keep a decoder busy for hours.
MAX_JPEG_SCANS = 100
_START_OF_SCAN = b"\xff\xda"
# Beyond this an image is a line, and its stored form would be larger than its original.
MAX_ASPECT = 100
# Decoding at 1.25 times the wanted size leaves the last step to a good filter, at a fraction of a full decode's cost.
SHRINK_MARGIN = 1.25

# Explicit, because Pillow also opens formats that run interpreters (EPS) or that no web server means as an image.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")
_ORIENTATION_TAG = 0x0112
# Colour profiles of printing presses have some megabytes, XMP of retouched scans more; Pillow allows one.
PngImagePlugin.MAX_TEXT_CHUNK = 16 << 20
_TOO_LONG = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY")
# Pillow's and libtiff's words for what they know of and cannot do.
_UNSUPPORTED = re.compile(r"unknown|unsupported|not supported|cannot handle|not implemented|no codec", re.I)


class ImageError(ValueError):
    """Bytes that are no usable image; `reason` is one of REASONS."""

    REASONS = ("not_an_image", "unsupported", "truncated", "corrupt", "too_many_pixels", "too_thin")

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecodedImage(NamedTuple):
    """`pixels` are `[h, w, 3] uint8`; `width` and `height` those of the whole image as shown, before shrinking."""

    pixels: np.ndarray
    width: int
    height: int


class EncodedImage:
    """An image of which no more than the header was read.

    JPEG, PNG, WebP, GIF (first frame), TIFF, BMP, AVIF or JPEG 2000; any mode, 16 bits and CMYK included.
    """

    def __init__(self, data: bytes) -> None:
        """Raises ImageError: `data` is no image, its header is damaged, or it is larger than this module's limits."""
        self._data, self._picture = data, _open(data)

    def is_large(self, short_side: int | None = None) -> bool:
        """Whether `decode(short_side)` holds more than LARGE_PIXELS at a time."""
        return _decoded_pixels(self._picture, short_side) > LARGE_PIXELS

    def decode(self, short_side: int | None = None) -> DecodedImage:
        """Decodes it to sRGB with EXIF orientation applied and transparency on white. To be called once.

        Args:
            short_side: The size it will be resized to; a larger JPEG is then decoded at a reduced scale, never below
                SHRINK_MARGIN times this. `resize_short_side` does the rest.

        Raises:
            ImageError: cut off, damaged, or larger than the limits of this module.
        """
        picture = self._picture
        width, height = picture.size
        try:
            decoded = self._decode(short_side)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # Pillow raises nearly anything on modes that it can load and not convert
            raise ImageError("unsupported", f"{picture.format} of mode {picture.mode}: {error}") from error
        # After loading: Pillow turns a TIFF and then forgets its tag, and finds a PNG's tag at the end of the file.
        orientation = _orientation(picture)
        # Pillow gives the size of a TIFF as it is shown, of everything else as it is stored.
        if orientation >= 5 and picture.format != "TIFF":
            width, height = height, width
        return DecodedImage(_orient(decoded, orientation), width, height)

    def is_transparent(self) -> bool:
        """Whether nothing of it shows. To be called after `decode`."""
        picture = self._picture
        if not picture.has_transparency_data:
            return False
        alpha = picture.convert("RGBA") if picture.mode in ("1", "L", "P", "RGB") else picture
        return alpha.getchannel(len(alpha.getbands()) - 1).getextrema()[1] == 0

    def _decode(self, short_side: int | None) -> np.ndarray:
        picture = self._picture
        if picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB"):
            return pixels.rgb_to_srgb(_decode_jpeg(self._data, picture, short_side), picture)
        picture = _load(picture, short_side, self._data)
        return np.asarray(pixels.to_srgb(picture, self._data[:32], _factor(picture, short_side)))


def decode(data: bytes, short_side: int | None = None) -> np.ndarray:
    """The pixels of `EncodedImage(data).decode(short_side)`: `[h, w, 3] uint8`. Raises ImageError."""
    return EncodedImage(data).decode(short_side).pixels


def resize_short_side(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes `[h, w, 3] uint8` so that its short side is `size` pixels, aspect kept.

    The filter is bilinear with antialiasing (a triangle as wide as the scale), the same as
    `tf.image.resize(..., method="bilinear", antialias=True)`.
    """
    height, width = image.shape[:2]
    if min(height, width) == size:
        return image
    scale = size / min(height, width)
    return resize(image, max(size, round(height * scale)), max(size, round(width * scale)))


def resize(image: np.ndarray, height: int, width: int, kernel: str = "bilinear") -> np.ndarray:
    """Resizes `[h, w, 3] uint8` to `[height, width, 3]`; `kernel` is bilinear or box, as wide as the scale.

    The SIMD resizer takes a quarter of Pillow's time; where it is not installed Pillow does it, and a value may differ
    by one of 255.
    """
    if cykooz_resizer is None:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling[kernel.upper()]))
    source = cykooz_resizer.ImageData(*image.shape[1::-1], cykooz_resizer.PixelType.U8x3, image.tobytes())
    target = cykooz_resizer.ImageData(width, height, cykooz_resizer.PixelType.U8x3)
    _resizer().resize(source, target, _options(kernel))
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(height, width, 3)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Encodes `[h, w, 3] uint8` as a baseline JPEG; `quality` is 1 to 100."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The central `[size, size, 3]` of `image`, which is at least that large."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def model_input(data: bytes, stored_size: int, view: str = "center") -> np.ndarray:
    """What the model sees of the image `data`: `[M, M, 3] uint8`, M = input_size(stored_size). Raises ImageError."""
    stored, side = resize_short_side(decode(data, stored_size), stored_size), input_size(stored_size)
    return resize(stored, side, side) if view == "whole" else center_crop(stored, side)


_local = threading.local()


def _resizer() -> "cykooz_resizer.Resizer":
    """One a thread: a resizer keeps buffers, and lets other threads run while it works."""
    if not hasattr(_local, "resizer"):
        _local.resizer = cykooz_resizer.Resizer()
    return _local.resizer


@functools.cache
def _options(kernel: str) -> "cykooz_resizer.ResizeOptions":
    algorithm = cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType[kernel])
    return cykooz_resizer.ResizeOptions(algorithm, use_alpha=False)


def _open(data: bytes) -> Image.Image:
    """Reads the header and refuses what is too large to decode."""
    try:
        with warnings.catch_warnings():
            # The limits are checked below; Pillow's own warning would only fill the log.
            warnings.simplefilter("ignore")
            picture = _opened(data)
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged headers
        raise _unopened(data, error) from error
    if kind := picture_kinds.misread(picture, data):
        raise _unsupported(kind)
    width, height = picture.size
    if min(width, height) < 1:
        raise ImageError("corrupt", f"{width} x {height} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError("too_thin", f"{width} x {height} pixels")
    if picture.format in ("JPEG", "MPO") and _has_several_scans(picture, data):
        if (scans := data.count(_START_OF_SCAN)) > MAX_JPEG_SCANS:
            raise ImageError("corrupt", f"a JPEG of {scans} scans, more than {MAX_JPEG_SCANS}")
    limit = MAX_SHRUNK_PIXELS if _shrinks(picture) else MAX_PIXELS
    if width * height > limit:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels, more than {limit // 10**6} million")
    return picture


def _opened(data: bytes) -> ImageFile.ImageFile:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except ValueError as error:
        if not any(name in str(error) for name in _TOO_LONG):
            raise
    return Image.open(io.BytesIO(_without_long_texts(data)), formats=_FORMATS)


def _without_long_texts(png: bytes) -> bytes:
    """A PNG without its compressed texts (XMP, comments), which Pillow reads before the pixels and may refuse."""
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _unopened(data: bytes, error: Exception) -> ImageError:
    """Why Pillow could not open `data`."""
    if kind := picture_kinds.unsupported(data):
        return _unsupported(kind)
    if isinstance(error, UnidentifiedImageError):
        if picture_kinds.is_known(data):
            return ImageError("corrupt", f"a damaged picture, or cut off: {len(data)} bytes")
        return ImageError("not_an_image", picture_kinds.described(data))
    if _UNSUPPORTED.search(str(error)):
        return _unsupported(f"a picture ({error})")
    return ImageError("corrupt", f"unreadable header: {error}")


def _unsupported(kind: str) -> ImageError:
    return ImageError("unsupported", f"{kind}, which cannot be read here: convert it to JPEG or PNG")


def _shrinks(picture: Image.Image) -> bool:
    return picture.format in ("JPEG", "MPO") and not picture.info.get("progressive")


def _decoded_pixels(picture: Image.Image, short_side: int | None) -> float:
    """How many pixels the decoder holds at a time."""
    eighths = 8
    if short_side and _shrinks(picture):
        eighths = _eighths(min(picture.size), math.ceil(short_side * SHRINK_MARGIN))
    return picture.width * picture.height * (eighths / 8) ** 2


def _has_several_scans(picture: ImageFile.ImageFile, data: bytes) -> bool:
    """Whether the decoder would take more than one scan: not if a sequential JPEG's first one has all components."""
    read = picture.fp.tell() if picture.fp else len(data)  # Pillow has read as far as the first scan's header
    first = data.rfind(_START_OF_SCAN, 0, read)
    return bool(picture.info.get("progressive")) or data[first + 4] < len(picture.getbands())


def _decode_jpeg(data: bytes, picture: Image.Image, short_side: int | None) -> np.ndarray:
    """The fast way: libjpeg-turbo, at a reduced scale. Returns `[h, w, 3]`."""
    width, height = picture.size
    smallest = math.ceil(short_side * SHRINK_MARGIN) if short_side else min(width, height)
    eighths = _eighths(min(width, height), smallest)
    if width * height * eighths * eighths > MAX_PIXELS * 64:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels cannot be decoded within the limit")
    least = math.ceil(height * eighths / 8)
    try:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=least)
    except ValueError as error:
        if "premature end" in str(error).lower():
            return _decode_ended(data, "RGB", least, error)
    # Harmless oddities (bytes between segments) stop the strict decoder; Pillow tells them from real damage.
    return np.asarray(_load(picture, short_side, data).convert("RGB"))


def _decode_ended(data: bytes, colours: str, min_height: int, error: Exception) -> np.ndarray:
    """A JPEG that lacks nothing but its end marker: whole to the eye. Raises ImageError(truncated) if more is gone."""
    if jpegs.has_all_scans(data):
        with contextlib.suppress(ValueError):
            return simplejpeg.decode_jpeg(data + jpegs.END, colours, min_height=min_height)
    raise ImageError("truncated", str(error)) from error


def _eighths(short_side: int, smallest: int) -> int:
    """The scale to decode at, in eighths, so that `short_side` does not come out below `smallest`.

    Only these scales are vectorised in libjpeg-turbo: 8/8 takes less time than 5/8, and 4/8 less than 3/8.
    """
    return next(eighths for eighths in (1, 2, 4, 8) if eighths == 8 or eighths * short_side >= 8 * smallest)


def _load(picture: Image.Image, short_side: int | None, data: bytes) -> Image.Image:
    if short_side:
        smallest = math.ceil(short_side * SHRINK_MARGIN)
        scale = max(1.0, min(picture.size) / smallest)
        picture.draft(None, (math.ceil(picture.width / scale), math.ceil(picture.height / scale)))
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError("too_many_pixels", f"{picture.width} x {picture.height} pixels")
    try:
        picture.load()
    except Exception as error:  # the decoders raise nearly anything on damaged data
        text = str(error).lower()
        if any(name.lower() in text for name in _TOO_LONG):  # texts after the pixels
            return _load(_open(_without_long_texts(data)), short_side, b"")
        if kind := picture_kinds.unsupported(data) if picture.format in ("JPEG", "MPO") else "":
            raise _unsupported(kind) from error
        if _UNSUPPORTED.search(text):
            raise _unsupported(picture_kinds.unsupported(data) or f"a {picture.format} ({error})") from error
        if "truncated" not in text and "incomplete" not in text and "end of file" not in text:
            raise ImageError("corrupt", str(error)) from error
        if picture.mode != "CMYK" or data.endswith(jpegs.END):
            raise ImageError("truncated", str(error)) from error
        _decode_ended(data, "CMYK", 1, error)
        return _load(_open(data + jpegs.END), short_side, data + jpegs.END)
    return picture


def _factor(picture: Image.Image, short_side: int | None) -> int:
    """How many pixels of a large image may be averaged: each conversion that follows would copy it whole."""
    if not short_side or picture.width * picture.height <= LARGE_PIXELS:
        return 1
    return max(1, int(min(picture.size) / (short_side * SHRINK_MARGIN)))


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    if "exif" not in picture.info and picture.format not in ("TIFF", "PNG", "WEBP", "AVIF"):
        return 1
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # an unreadable EXIF block does not make an image unusable
        return 1
    return value if value in range(1, 9) else 1


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes EXIF orientation: 2 to 4 mirror or turn by 180 degrees, 5 to 8 exchange the axes as well."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
