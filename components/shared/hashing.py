"""What the pipeline remembers of an image's looks: a thumbnail of 384 bytes, and the perceptual hash of it.

The hash is the classic DCT one (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"),
with signs in place of the comparison with the median: then a mirrored image's hash is the hash with the bits of the
odd horizontal frequencies flipped (`mirrored`), and needs no second look at the image.
"""

import numpy as np
from PIL import Image

from components.shared import imaging

SIDE = 16
CHROMA_SIDE = 8
THUMBNAIL_BYTES = SIDE * SIDE + 2 * CHROMA_SIDE * CHROMA_SIDE
_FREQUENCIES = 8
# Begins the message of an image of one colour, in fetch's log and in the index.
BLANK = "shows nothing"
# What is cut off an image: shares of its width and height, at the left, right, top and bottom.
Cuts = tuple[float, float, float, float]
WHOLE: Cuts = (0.0, 0.0, 0.0, 0.0)


def thumbnail(pixels: np.ndarray) -> bytes:
    """Squashes [height, width, 3] uint8 to luma [16, 16] and the chromas Cb and Cr [8, 8] each, one after the other."""
    small = Image.fromarray(imaging.resize(pixels, 2 * SIDE, 2 * SIDE, "box"))
    luma, *chromas = small.convert("YCbCr").split()
    parts = [luma.resize((SIDE, SIDE), Image.Resampling.BOX)]
    parts += [chroma.resize((CHROMA_SIDE, CHROMA_SIDE), Image.Resampling.BOX) for chroma in chromas]
    return b"".join(part.tobytes() for part in parts)


def is_flat(thumbnail: bytes) -> bool:
    """Whether the image may be of one colour."""
    luma = thumbnail[: SIDE * SIDE]
    return abs(luma[0] - luma[SIDE * SIDE // 2]) <= 1 and max(luma) - min(luma) <= 1  # most have their answer at once


def perceptual_hashes(lumas: np.ndarray, cuts: Cuts = WHOLE) -> np.ndarray:
    """Hashes (uint64 [n]) of the lumas [n, 16, 16] after `cuts`."""
    left, right, top, bottom = cuts
    spectra = (
        (_cosines() @ _stretch(top, bottom)) @ np.asarray(lumas, np.float32) @ (_cosines() @ _stretch(left, right)).T
    )
    bits = spectra.reshape(len(lumas), _FREQUENCIES * _FREQUENCIES) > 0
    # The mean says nothing about the content; its bit tells dark images from bright ones.
    bits[:, 0] = np.mean(lumas, axis=(1, 2)) > 127.5
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)[:, 0]


def cut(lumas: np.ndarray, cuts: Cuts) -> np.ndarray:
    """The lumas [n, 16, 16] after `cuts`, float32, stretched to the same size."""
    left, right, top, bottom = cuts
    return _stretch(top, bottom) @ np.asarray(lumas, np.float32) @ _stretch(left, right).T


def lumas(thumbnails: list[bytes] | np.ndarray) -> np.ndarray:
    """The luma planes (uint8 [n, 16, 16]) of thumbnails (bytes, or uint8 [n, 384])."""
    if not isinstance(thumbnails, np.ndarray):
        thumbnails = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_BYTES)
    return thumbnails[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE)


def mirrored(hashes: np.ndarray) -> np.ndarray:
    """The hashes of the same images, mirrored left to right."""
    return hashes ^ _ODD_COLUMNS


def _cosines() -> np.ndarray:
    """The lowest 8 rows of the DCT-II of 16 samples: [8, 16]."""
    positions = (np.arange(SIDE) + 0.5) / SIDE
    return np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * positions).astype(np.float32)


def _stretch(low: float, high: float) -> np.ndarray:
    """Linear interpolation [16, 16] of 16 samples from the part between the shares `low` and 1 - `high`."""
    positions = ((low + (np.arange(SIDE) + 0.5) / SIDE * (1 - low - high)) * SIDE - 0.5).clip(0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(SIDE))).astype(np.float32)


_ODD_COLUMNS = np.uint64(int("01" * (_FREQUENCIES * _FREQUENCIES // 2), 2))
