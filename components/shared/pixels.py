"""What the numbers of an image mean: bit depth, photometric interpretation, colour profile, transparency. To sRGB.

Compared with ImageMagick over all that Pillow opens (tests/shared/test_pixels.py).
"""

import functools
import io
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageCms, TiffImagePlugin

_GREY = ("1", "L", "LA", "La")
_SRGB = ImageCms.createProfile("sRGB")
# Levels of 255 by which a profile may move a colour and still be called sRGB: black points differ by so much.
_SAME = 2
# PNG's gAMA from here on says "linear". Nearer to sRGB's 0.45 it is mostly wrong, and ImageMagick ignores it too.
_LINEAR_GAMMA = 0.75
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_MIN_IS_WHITE, _SIGNED = 0, 2
_PNG_GREY_WITH_ALPHA = 4


def to_srgb(picture: Image.Image, header: bytes, factor: int = 1) -> Image.Image:
    """A loaded image of any mode as RGB in sRGB; transparency is laid on white.

    Args:
        image: As Pillow loaded it.
        header: The first bytes of its file, at least 26: PNG's bit depth and colour type, which Pillow does not tell.
        factor: Blocks of so many pixels squared are averaged, as early as may be: each conversion copies an image.

    Raises:
        ValueError, OSError, ImageCms.PyCMSError: Pillow cannot convert its mode.
    """
    deep = picture.mode in ("I", "F") or picture.mode.startswith("I;")
    colours, alpha = _levels(picture, factor) if deep else _split(picture, header, factor)
    rgb = _in_srgb(colours, picture.info)
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def rgb_to_srgb(pixels: np.ndarray, picture: Image.Image) -> np.ndarray:
    """`[h, w, 3] uint8`, decoded from `picture`, which is a JPEG of mode L or RGB."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return pixels
    grey = picture.mode == "L" and not _is_for_rgb(profile)
    transform = _transform(profile, "L" if grey else "RGB")
    if transform is None:
        return pixels
    source = np.ascontiguousarray(pixels[..., 0]) if grey else pixels
    return np.asarray(ImageCms.applyTransform(Image.fromarray(source), transform))


def _levels(picture: Image.Image, factor: int) -> tuple[Image.Image, Image.Image | None]:
    """Grey of more than 8 bits as I;16 over the whole range, by its nominal range and never stretched to contrast."""
    # Pillow cannot reduce I;16, which takes two bytes per pixel.
    values = np.asarray(picture if picture.mode.startswith("I;") else _reduced(picture, factor))
    alpha = None
    if isinstance(clear := picture.info.get("transparency"), int):
        alpha = Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    tags: Any = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if picture.mode.startswith("I;"):
        # Integers first: nearly all are of 16 bits, and need nothing.
        levels = values if bits == 16 else (values.astype(np.uint32) * 65535 // (2**bits - 1)).astype(np.uint16)
        if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
            levels = 65535 - levels
    else:
        levels = np.clip(_fractions(values, bits, tags) * 65535 + 0.5, 0, 65535).astype(np.uint16)
    return Image.fromarray(np.ascontiguousarray(levels.astype(np.uint16))), alpha


def _fractions(values: np.ndarray, bits: int, tags: Any) -> np.ndarray:
    """Integers of 32 bits, signed ones of 16, or floats, as float32 from 0 to 1."""
    if values.dtype == np.int32 and bits == 32 and tags.get(_SAMPLE_FORMAT, (1,))[0] != _SIGNED and tags:
        return values.view(np.uint32).astype(np.float32) / 2**32
    if values.dtype == np.int32 and bits == 16 and tags:
        return (values.astype(np.float32) + 2**15) / (2**16 - 1)
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    # Floats, and signed integers of 32 bits, are written on any scale: the smallest usual one that holds them all.
    top = float(values.max(initial=0))
    return values / next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)


def _split(picture: Image.Image, header: bytes, factor: int) -> tuple[Image.Image, Image.Image | None]:
    """An image of 8 bits as L, RGB, CMYK or LAB, and its alpha as L."""
    jpeg, png, adobe = picture.format in ("JPEG", "MPO"), picture.format == "PNG", "adobe" in picture.info
    # Of grey with alpha in 16 bits Pillow makes RGBA.
    grey = picture.mode in _GREY or (png and header[25] == _PNG_GREY_WITH_ALPHA)
    if "transparency" in picture.info and png:
        picture.info["transparency"] = _clear_colour(picture.info["transparency"], picture.mode, header[24])
    # Means of colours make sense, of numbers that stand for colours they do not.
    if picture.mode not in ("1", "P", "PA") and "transparency" not in picture.info:
        picture, factor = _reduced(picture, factor), 1
    if picture.mode == "CMYK":
        # Pillow takes every CMYK JPEG for inverted, as Adobe writes them and marks them. Without the mark the black
        # ink decides: nothing is printed with more than half of it all over.
        plain = jpeg and not adobe and np.asarray(picture.getchannel(3)).mean() > 127
        return ImageChops.invert(picture) if plain else picture, None
    if picture.mode == "LAB":
        return picture, None
    if not picture.has_transparency_data:
        return _reduced(picture.convert("L" if grey else "RGB"), factor), None
    # Pillow converts what is multiplied with its alpha only to its own counterpart.
    straight = picture.convert({"La": "LA", "RGBa": "RGBA"}.get(picture.mode, picture.mode)).convert("RGBA")
    *colours, alpha = _reduced(straight, factor).split()
    return colours[0] if grey else Image.merge("RGB", colours), alpha


def _reduced(picture: Image.Image, factor: int) -> Image.Image:
    # Not image.reduce: a JPEG 2000 has a number by that name.
    return picture if factor == 1 else Image.Image.reduce(picture, factor)


def _clear_colour(value: object, mode: str, bits: int) -> object:
    """PNG's transparent colour in 8 bits, to which Pillow brings the pixels but not this."""
    if mode == "L" and isinstance(value, int) and bits < 8:
        return value * 255 // (2**bits - 1)
    if mode == "RGB" and isinstance(value, tuple) and bits == 16:
        return tuple(channel >> 8 for channel in value)
    return value


def _applied(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    changed = ImageCms.applyTransform(picture, transform)
    return picture if changed is None else changed  # None: it was changed in place


def _in_srgb(colours: Image.Image, info: dict) -> Image.Image:
    """Applies the colour profile of `info` to L, I;16, RGB, CMYK or LAB; without one, what such numbers mean."""
    if colours.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _applied(ImageCms.buildTransform(lab, _SRGB, "LAB", "RGB"), colours)
    profile = info.get("icc_profile")
    if profile and colours.mode in ("L", "I;16") and _is_for_rgb(profile):
        colours = _eight_bits(colours).convert("RGB")
    if profile and (transform := _transform(profile, colours.mode)):
        return _applied(transform, colours)
    linear = not profile and "srgb" not in info and info.get("gamma", 0) > _LINEAR_GAMMA
    if linear and colours.mode == "I;16":
        return Image.fromarray(_from_linear()[np.asarray(colours) >> 4]).convert("RGB")
    if linear and colours.mode in ("L", "RGB"):
        colours = colours.point(_from_linear()[np.arange(256) * 4095 // 255].tolist() * len(colours.getbands()))
    return _eight_bits(colours).convert("RGB")


def _is_for_rgb(profile: bytes) -> bool:
    return profile[16:20] == b"RGB "


def _eight_bits(colours: Image.Image) -> Image.Image:
    if colours.mode != "I;16":
        return colours
    return Image.fromarray((np.asarray(colours) // 257).astype(np.uint8))


@functools.cache
def _from_linear() -> np.ndarray:
    """sRGB's transfer function (IEC 61966-2-1) as a table: 12 bits linear to 8 bits, `[4096] uint8`."""
    light = np.arange(4096) / 4095
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from `profile` to sRGB; None if it is sRGB already, damaged, or made for another mode."""
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), _SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if mode == "RGB" and _changes_nothing(transform) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """By what it does to 729 colours. Its name says nothing: a linear profile may be called "sRGB linear"."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(cube), transform))
    return int(np.abs(moved.astype(int) - cube).max()) <= _SAME
