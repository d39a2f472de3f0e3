"""What the model looked at: how far its answer falls when a part of the picture is covered.

Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (2014), section 4.2. It needs nothing
but the model's answers, so it works for every architecture and for the very file that is served.
"""

import matplotlib
import numpy as np
from PIL import Image

from components.shared import imaging
from components.shared.classifier import Classifier

# Patches of a quarter of the side, at 7 x 7 places.
_PATCH = 4
_STEPS = 7


def heat(model: Classifier, picture: bytes, index: int) -> np.ndarray:
    """[side, side] float in 0 to 1: how much the probability of class `index` falls when this place is covered."""
    pixels = model_view(model, picture)
    side = pixels.shape[0]
    patch = side // _PATCH
    starts = np.linspace(0, side - patch, _STEPS).round().astype(int)
    mean = pixels.mean(axis=(0, 1)).astype(np.uint8)
    covered = []
    for top in starts:
        for left in starts:
            copy = pixels.copy()
            copy[top : top + patch, left : left + patch] = mean
            covered.append(_framed(model, copy))
    whole = model.predict([_framed(model, pixels)])[0, index]
    falls = np.maximum(whole - model.predict(covered)[:, index], 0).reshape(_STEPS, _STEPS)
    total, times = np.zeros([side, side]), np.zeros([side, side])
    for row, top in enumerate(starts):
        for column, left in enumerate(starts):
            total[top : top + patch, left : left + patch] += falls[row, column]
            times[top : top + patch, left : left + patch] += 1
    return total / times


def overlay(pixels: np.ndarray, falls: np.ndarray) -> bytes:
    """`pixels` [side, side, 3] uint8 dimmed where `falls` is low and warm where it is high, as a JPEG."""
    strength = falls / max(falls.max(), 1e-6)
    blurred = np.asarray(Image.fromarray((strength * 255).astype(np.uint8)).resize((16, 16)).resize(falls.shape[::-1]))
    strength = blurred[:, :, None] / 255
    colours = matplotlib.colormaps["inferno"](0.35 + 0.6 * strength[:, :, 0])[:, :, :3] * 255
    grey = pixels.mean(axis=2, keepdims=True)
    mixed = (1 - 0.55 * strength) * (0.35 * pixels + 0.25 * grey + 0.65 * strength * pixels) + 0.55 * strength * colours
    return imaging.encode_jpeg(np.clip(mixed, 0, 255).astype(np.uint8), 90)


def model_view(model: Classifier, picture: bytes) -> np.ndarray:
    """The square that the model sees of `picture`, [side, side, 3] uint8."""
    return imaging.model_input(picture, model.card["stored_size"])


def _framed(model: Classifier, pixels: np.ndarray) -> bytes:
    """`pixels` as a picture whose central crop they are, so that it takes the same way as every other picture."""
    size = model.card["stored_size"]
    frame = np.zeros([size, size, 3], np.uint8)
    top = (size - pixels.shape[0]) // 2
    frame[top : top + pixels.shape[0], top : top + pixels.shape[1]] = pixels
    return imaging.encode_jpeg(frame, 95)
