"""Pictures: decode, check, resize, encode. The one geometry that fetch, evaluation and serving agree on.

A *stored picture* has its short side resized to `image_size`, aspect kept. The *model input* is the central square of
`input_size(image_size)` pixels of the stored picture. Everything is sRGB, `[height, width, 3] uint8`.
"""

import functools
import io
import math
import threading
import warnings
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageCms, UnidentifiedImageError

# Importing a plugin registers its format; Image.init() would load forty more.
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Jpeg2KImagePlugin  # noqa: F401
from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

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
# A progressive JPEG has about ten scans. Each costs a pass over the whole picture but only a dozen bytes, so that a
# small file with thousands of them would keep a decoder busy for hours.
MAX_JPEG_SCANS = 100
_START_OF_SCAN = b"\xff\xda"
# Beyond this a picture is a line, and its stored form would be larger than its original.
MAX_ASPECT = 100
# Decoding at 1.25 times the wanted size leaves the last step to a good filter, at a fraction of a full decode's cost.
SHRINK_MARGIN = 1.25

# Explicit, because Pillow also opens formats that run interpreters (EPS) or that no web server means as a picture.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000")
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
_ORIENTATION_TAG = 0x0112


class ImageError(ValueError):
    """Bytes that are no usable picture; `reason` is one of REASONS."""

    REASONS = ("not_an_image", "truncated", "corrupt", "too_many_pixels", "too_thin")

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DecodedImage(NamedTuple):
    """`pixels` are `[h, w, 3] uint8`; `width` and `height` those of the whole picture as shown, before shrinking."""

    pixels: np.ndarray
    width: int
    height: int


class EncodedImage:
    """A picture of which no more than the header was read.

    JPEG, PNG, WebP, GIF (first frame), TIFF, BMP, AVIF or JPEG 2000; any mode, 16 bits and CMYK included.
    """

    def __init__(self, data: bytes) -> None:
        """Raises ImageError: `data` is no picture, its header is damaged, or it is larger than this module's limits."""
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
        if picture.format in ("JPEG", "MPO") and picture.mode in ("L", "RGB"):
            pixels = _decode_jpeg(self._data, picture, short_side)
        else:
            pixels = np.asarray(_to_rgb(_reduced(_load(picture, short_side), short_side)))
        # After loading: Pillow turns a TIFF and then forgets its tag, and finds a PNG's tag at the end of the file.
        orientation = _orientation(picture)
        profile = picture.info.get("icc_profile")
        if profile and picture.mode != "CMYK":
            pixels = _to_srgb(pixels, profile, "L" if picture.mode in _GREY else "RGB")
        # Pillow gives the size of a TIFF as it is shown, of everything else as it is stored.
        if orientation >= 5 and picture.format != "TIFF":
            width, height = height, width
        return DecodedImage(_orient(pixels, orientation), width, height)


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


def input_size(stored_size: int) -> int:
    """Side of the model's input for pictures stored at `stored_size`: 128 -> 112, 256 -> 224."""
    return max(16, stored_size * 7 // 8 // 16 * 16)


def model_input(data: bytes, stored_size: int) -> np.ndarray:
    """What the model sees of the picture `data`: `[M, M, 3] uint8`, M = input_size(stored_size). Raises ImageError."""
    stored = resize_short_side(decode(data, stored_size), stored_size)
    return center_crop(stored, input_size(stored_size))


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
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", f"not a picture: begins with {data[:16]!r}") from error
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged headers
        raise ImageError("corrupt", f"unreadable header: {error}") from error
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


def _shrinks(picture: Image.Image) -> bool:
    return picture.format in ("JPEG", "MPO") and not picture.info.get("progressive")


def _decoded_pixels(picture: Image.Image, short_side: int | None) -> float:
    """How many pixels the decoder holds at a time."""
    eighths = 8
    if short_side and _shrinks(picture):
        eighths = _eighths(min(picture.size), math.ceil(short_side * SHRINK_MARGIN))
    return picture.width * picture.height * (eighths / 8) ** 2


def _has_several_scans(picture: Image.Image, data: bytes) -> bool:
    """Whether the decoder would take more than one scan: not if a sequential JPEG's first one has all components."""
    first = data.rfind(_START_OF_SCAN, 0, picture.fp.tell())  # Pillow has read as far as this scan's header
    return bool(picture.info.get("progressive")) or data[first + 4] < len(picture.getbands())


def _decode_jpeg(data: bytes, picture: Image.Image, short_side: int | None) -> np.ndarray:
    """The fast way: libjpeg-turbo, at a reduced scale. Returns `[h, w, 3]`."""
    width, height = picture.size
    smallest = math.ceil(short_side * SHRINK_MARGIN) if short_side else min(width, height)
    eighths = _eighths(min(width, height), smallest)
    if width * height * eighths * eighths > MAX_PIXELS * 64:
        raise ImageError("too_many_pixels", f"{width} x {height} pixels cannot be decoded within the limit")
    try:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=math.ceil(height * eighths / 8))
    except ValueError as error:
        if "premature end" in str(error).lower():
            raise ImageError("truncated", str(error)) from error
    # Harmless oddities (bytes between segments) stop the strict decoder; Pillow tells them from real damage.
    return np.asarray(_load(picture, short_side).convert("RGB"))


def _eighths(short_side: int, smallest: int) -> int:
    """The scale to decode at, in eighths, so that `short_side` does not come out below `smallest`.

    Only these scales are vectorised in libjpeg-turbo: 8/8 takes less time than 5/8, and 4/8 less than 3/8.
    """
    return next(eighths for eighths in (1, 2, 4, 8) if eighths == 8 or eighths * short_side >= 8 * smallest)


def _load(picture: Image.Image, short_side: int | None) -> Image.Image:
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
        reason = "truncated" if "truncated" in text or "incomplete" in text or "end of file" in text else "corrupt"
        raise ImageError(reason, str(error)) from error
    return picture


def _reduced(picture: Image.Image, short_side: int | None) -> Image.Image:
    """A picture of many megapixels in averaged blocks, because each conversion that follows would copy it whole."""
    if not short_side or picture.width * picture.height <= LARGE_PIXELS or picture.mode in ("1", "I;16", "I;16B"):
        return picture
    factor = int(min(picture.size) / (short_side * SHRINK_MARGIN))
    if factor < 2:
        return picture
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    return picture.reduce(factor)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to RGB: high bit depths scaled, transparency laid on white."""
    if picture.mode in ("F", "I") or picture.mode.startswith("I;"):
        return Image.fromarray(_eight_bits(np.asarray(picture))).convert("RGB")
    if picture.mode == "CMYK":
        return _cmyk_to_rgb(picture)
    if picture.mode == "LAB":
        return ImageCms.profileToProfile(picture, ImageCms.createProfile("LAB"), _SRGB, outputMode="RGB")
    if picture.has_transparency_data:
        with_alpha = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Grey values of 16 or 32 bits, or floats, as `uint8`: by their nominal range, never stretched to the contrast."""
    if values.dtype == np.uint16:
        return (values // 257).astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    top = float(values.max(initial=0))
    nominal = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    return np.clip(values * (255.0 / nominal) + 0.5, 0, 255).astype(np.uint8)


def _cmyk_to_rgb(picture: Image.Image) -> Image.Image:
    profile = picture.info.get("icc_profile")
    transform = _transform(profile, "CMYK") if profile else None
    return ImageCms.applyTransform(picture, transform) if transform else picture.convert("RGB")


def _to_srgb(pixels: np.ndarray, profile: bytes, mode: str) -> np.ndarray:
    transform = _transform(profile, mode)
    if transform is None:
        return pixels
    source = Image.fromarray(pixels if mode == "RGB" else np.ascontiguousarray(pixels[..., 0]))
    return np.asarray(ImageCms.applyTransform(source, transform))


_SRGB = ImageCms.createProfile("sRGB")


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from `profile` to sRGB; None if it is sRGB already, damaged, or made for another mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    if "exif" not in picture.info and picture.format not in ("TIFF", "PNG", "WEBP", "AVIF"):
        return 1
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # an unreadable EXIF block does not make a picture unusable
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
