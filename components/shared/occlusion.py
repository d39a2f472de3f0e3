"""What the model looked at: how far its answer falls when a part of the image is covered.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2. It needs nothing
but the model's answers, so it works for every architecture and for the very file that is served.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from components.shared import imaging

# The least probability whose logarithm is taken.
SMALLEST = 1e-7
# Of matplotlib's inferno, at equal steps from 0.35 to 0.95: from a dark purple to a pale yellow.
_WARM = np.array([[126, 37, 109], [174, 48, 91], [216, 68, 63], [243, 106, 31], [252, 160, 14], [243, 220, 71]])
# Patches of a quarter of the side, at 7 x 7 places.
_PATCH = 4
_STEPS = 7


@dataclass(frozen=True)
class Explanation:
    """[side, side] `heat`, by how much the log-odds of the class fall when this place is covered, at least 0; the
    class's probability for the `whole` image, and the `lowest` with a patch on it."""

    heat: np.ndarray
    whole: float
    lowest: float


def covered(pixels: np.ndarray) -> np.ndarray:
    """[1 + places, side, side, 3] uint8: `pixels` as they are, then with each place covered by their mean colour."""
    mean = pixels.mean(axis=(0, 1)).astype(np.uint8)
    images = np.repeat(pixels[None], 1 + _STEPS * _STEPS, axis=0)
    for image, place in zip(images[1:], _places(pixels.shape[0]), strict=True):
        image[place] = mean
    return images


def explain(answers: np.ndarray, index: int, side: int) -> Explanation:
    """From the model's `answers` [1 + places, classes] to what `covered` returns: what the class `index` hangs on.

    Log-odds, because a probability of 0.9999 hides what it hangs on.
    """
    answers = answers.astype(np.float64)
    others = np.delete(answers, index, axis=1).sum(axis=1)
    odds = np.log(np.maximum(answers[:, index], SMALLEST) / np.maximum(others, SMALLEST))
    total, times = np.zeros([side, side]), np.zeros([side, side])
    for place, fall in zip(_places(side), np.maximum(odds[0] - odds[1:], 0), strict=True):
        total[place] += fall
        times[place] += 1
    return Explanation(total / times, float(answers[0, index]), float(answers[1:, index].min()))


def _places(side: int) -> list[tuple[slice, slice]]:
    patch = side // _PATCH
    starts = np.linspace(0, side - patch, _STEPS).round().astype(int)
    return [(slice(top, top + patch), slice(left, left + patch)) for top in starts for left in starts]


def overlay(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """`pixels` [side, side, 3] uint8 dimmed where `heat` [side, side] is low and warm where it is high, as a JPEG."""
    strength = heat / max(heat.max(), 1e-6)
    blurred = np.asarray(Image.fromarray((strength * 255).astype(np.uint8)).resize((16, 16)).resize(heat.shape[::-1]))
    strength = blurred[:, :, None] / 255
    at = strength[:, :, 0] * (len(_WARM) - 1)
    colours = np.stack([np.interp(at, np.arange(len(_WARM)), _WARM[:, channel]) for channel in range(3)], axis=2)
    grey = pixels.mean(axis=2, keepdims=True)
    mixed = (1 - 0.55 * strength) * (0.35 * pixels + 0.25 * grey + 0.65 * strength * pixels) + 0.55 * strength * colours
    return imaging.encode_jpeg(np.clip(mixed, 0, 255).astype(np.uint8), 90)
