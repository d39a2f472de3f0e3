"""A picture whose every turn, mirroring and wrong colour shows, in any format."""

import io

import numpy as np
from PIL import Image


def scene(width=320, height=240):
    """Four colours, a quarter each: whoever turns, mirrors or recolours it is found out."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 180, 30)
    pixels[height // 2 :, : width // 2] = (40, 40, 190)
    pixels[height // 2 :, width // 2 :] = (230, 220, 90)
    return Image.fromarray(pixels)


def saved(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def corners(pixels):
    height, width = pixels.shape[:2]
    y, x = height // 4, width // 4
    return np.array([pixels[y, x], pixels[y, -x], pixels[-y, x], pixels[-y, -x]], int)


EXPECTED = corners(np.asarray(scene()))


def assert_scene(pixels, tolerance=8):
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert np.abs(corners(pixels) - EXPECTED).max() <= tolerance, corners(pixels)
