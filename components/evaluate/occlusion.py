"""What the model looked at: how far its answer falls when a part of the image is covered.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2. It needs nothing
but the model's answers, so it works for every architecture and for the very file that is served.
"""

import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from components.artifacts.classifier import Classifier
from components.evaluate.scores import SMALLEST
from components.shared import imaging

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


def explain(model: Classifier, pixels: np.ndarray, index: int) -> Explanation:
    """Covers [side, side, 3] uint8 patch by patch with its mean colour and asks for the class `index` of the model.

    Log-odds, because a probability of 0.9999 hides what it hangs on.
    """
    side = pixels.shape[0]
    patch = side // _PATCH
    starts = np.linspace(0, side - patch, _STEPS).round().astype(int)
    places = [(slice(top, top + patch), slice(left, left + patch)) for top in starts for left in starts]
    mean = pixels.mean(axis=(0, 1)).astype(np.uint8)
    pictures = [_framed(model, pixels)]
    for place in places:
        covered = pixels.copy()
        covered[place] = mean
        pictures.append(_framed(model, covered))
    answers = model.predict(pictures).astype(np.float64)
    others = np.delete(answers, index, axis=1).sum(axis=1)
    odds = np.log(np.maximum(answers[:, index], SMALLEST) / np.maximum(others, SMALLEST))
    total, times = np.zeros([side, side]), np.zeros([side, side])
    for place, fall in zip(places, np.maximum(odds[0] - odds[1:], 0)):
        total[place] += fall
        times[place] += 1
    return Explanation(total / times, float(answers[0, index]), float(answers[1:, index].min()))


def overlay(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """`pixels` [side, side, 3] uint8 dimmed where `heat` [side, side] is low and warm where it is high, as a JPEG."""
    strength = heat / max(heat.max(), 1e-6)
    blurred = np.asarray(Image.fromarray((strength * 255).astype(np.uint8)).resize((16, 16)).resize(heat.shape[::-1]))
    strength = blurred[:, :, None] / 255
    colours = matplotlib.colormaps["inferno"](0.35 + 0.6 * strength[:, :, 0])[:, :, :3] * 255
    grey = pixels.mean(axis=2, keepdims=True)
    mixed = (1 - 0.55 * strength) * (0.35 * pixels + 0.25 * grey + 0.65 * strength * pixels) + 0.55 * strength * colours
    return imaging.encode_jpeg(np.clip(mixed, 0, 255).astype(np.uint8), 90)


def model_view(model: Classifier, picture: bytes) -> np.ndarray:
    """The square that the model sees of `picture`, [side, side, 3] uint8."""
    return imaging.model_input(picture, model.card["stored_size"], model.card.get("view", "center"))


def _framed(model: Classifier, pixels: np.ndarray) -> bytes:
    """`pixels` as an image whose central crop they are: it takes the way of every other image, without a loss."""
    size = model.card["stored_size"]
    frame = np.zeros([size, size, 3], np.uint8)
    top = (size - pixels.shape[0]) // 2
    frame[top : top + pixels.shape[0], top : top + pixels.shape[1]] = pixels
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "bmp")
    return buffer.getvalue()
