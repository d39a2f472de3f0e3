"""Random changes of training images.

Every decision is taken from numbers that were drawn for the example by the run's seed, so it does not depend on the
worker or the thread that happens to see the image. What there is to decide is decided for a whole batch at once.
"""

import numpy as np
import tensorflow as tf

# How many uniform numbers an example needs, and which of them decide what.
DRAWS = 28
_CROP, _FLIP, _COLOUR, _RAND, _MIX = slice(0, 4), slice(4, 5), slice(5, 8), slice(8, 24), slice(24, 28)

SMALLEST_AREA = 0.35
_STEP = np.uint64(0x9E3779B97F4A7C15)


def draw(seed: int, keys: np.ndarray) -> np.ndarray:
    """[n, DRAWS] float32 in 0..1 for the examples with the `keys` [n] int64.

    They are what SplitMix64 (Steele et al., 2014) yields after so many steps: any place of the sequence can be had at
    once, and all examples of a batch together, which a generator for each takes longer than decoding its image.
    """
    places = keys.astype(np.uint64)[:, None] * np.uint64(DRAWS) + np.arange(1, DRAWS + 1, dtype=np.uint64)
    start = _scrambled(np.array([seed + 1], np.uint64) * _STEP)
    return (_scrambled(start + places * _STEP) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def _scrambled(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def central_windows(sizes: np.ndarray, side: int) -> np.ndarray:
    """The central window [y, x, side, side] of each image of `sizes` [n, 2] (height, width): [n, 4] int32."""
    return np.concatenate([(sizes - side) // 2, np.full_like(sizes, side)], axis=1).astype(np.int32)


def windows(sizes: np.ndarray, side: int, draws: np.ndarray) -> np.ndarray:
    """A random window [y, x, side, side] inside each image of `sizes` [n, 2] (height, width): [n, 4] int32."""
    free = np.maximum(sizes - side, 0)
    start = np.minimum((draws[:, _CROP][:, :2] * (free + 1)).astype(np.int32), free)
    return np.concatenate([start, np.full_like(sizes, side)], axis=1).astype(np.int32)


def resized_windows(sizes: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """A random window [y, x, height, width] in each image of `sizes` [n, 2] (height, width): [n, 4] int32.

    It has 35 to 100 % of the largest square's area and an aspect of 3:4 to 4:3.
    Source: Szegedy et al., Going Deeper with Convolutions (arXiv:1409.4842), the usual "random resized crop".
    """
    draws = draws[:, _CROP]
    area = sizes.min(axis=1) ** 2 * (SMALLEST_AREA + (1 - SMALLEST_AREA) * draws[:, 0])
    ratio = np.exp((draws[:, 1] * 2 - 1) * np.log(4 / 3))
    shapes = np.minimum(np.round(np.sqrt(np.stack([area / ratio, area * ratio], axis=1))), sizes)
    start = np.minimum((draws[:, 2:] * (sizes - shapes + 1)).astype(np.int32), sizes - shapes)
    return np.concatenate([start, shapes], axis=1).astype(np.int32)


def mirrored(draws: np.ndarray) -> np.ndarray:
    """[n] bool: which half of the images is to be mirrored left to right."""
    return draws[:, _FLIP][:, 0] < 0.5


def strong(images: tf.Tensor, targets: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Colours, RandAugments and mixes `images` [batch, h, w, 3] uint8; `targets` [batch, classes] follow."""
    changed = rand_augment(colour(tf.cast(images, tf.float32), draws, 0.3), draws)
    changed, targets = mix(tf.clip_by_value(changed, 0, 255), targets, draws)
    return tf.cast(changed, tf.uint8), targets


def colour(images: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Scales brightness, contrast and saturation of `images` [batch, h, w, 3] float by up to 1 ± `strength`."""
    factors = 1 + (draws[:, _COLOUR] * 2 - 1) * strength
    brightness, contrast, saturation = (factors[:, i, None, None, None] for i in range(3))
    grey = tf.reduce_mean(images, axis=3, keepdims=True)
    mean = tf.reduce_mean(grey, axis=[1, 2], keepdims=True)
    # Both are scalings about a grey: one pass over the pixels does the work of three.
    offset = (grey * (1 - saturation) - mean) * contrast + mean
    return (images * (saturation * contrast) + offset) * brightness


def rand_augment(images: tf.Tensor, draws: tf.Tensor, magnitude: float = 0.5, chance: float = 0.3) -> tf.Tensor:
    """RandAugment for a whole batch [batch, h, w, 3] float: each of its operations hits an image with `chance`.

    Rotation, shear and shift are one projective transform; colour operations are masked, so that the batch stays one
    tensor. Source: Cubuk et al., RandAugment (arXiv:1909.13719).
    """
    draws = draws[:, _RAND]
    hit = draws[:, :8] < chance
    amount = tf.where(hit, draws[:, 8:] * 2 - 1, 0.0) * magnitude
    images = _project(images, amount)
    images = tf.where(_column(hit, 5) & (images > 255 * (1 - 0.5 * magnitude)), 255 - images, images)  # solarize
    images = tf.where(_column(hit, 6), tf.floor(images / 32) * 32, images)  # posterize
    return tf.where(_column(hit, 7), _autocontrast(images), images)


def mix(images: tf.Tensor, targets: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """MixUp (arXiv:1710.09412) or CutMix (arXiv:1905.04899) of `images` [b, h, w, 3] float with their neighbours.

    `targets` [b, classes] are mixed in the same proportion. Half of the images stay whole, and an image keeps at
    least half of itself.
    """
    draws = draws[:, _MIX]
    neighbours, others = tf.roll(images, 1, axis=0), tf.roll(targets, 1, axis=0)
    mixup, cutmix = draws[:, 0] < 0.25, (draws[:, 0] >= 0.25) & (draws[:, 0] < 0.5)
    share = tf.where(mixup, draws[:, 1] / 2, 0.0)
    images = images + (neighbours - images) * share[:, None, None, None]
    boxes = _boxes(tf.where(cutmix, tf.sqrt(draws[:, 1] / 2), 0.0), draws[:, 2:], tf.shape(images)[1])
    images = tf.where(boxes[..., None], neighbours, images)
    share += tf.reduce_mean(tf.cast(boxes, tf.float32), axis=[1, 2])
    return images, targets + (others - targets) * share[:, None]


def _boxes(sides: tf.Tensor, centres: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """[batch, size, size] bool: inside a square of `sides` (shares of the image's side) around `centres`."""
    places = (tf.range(size, dtype=tf.float32) + 0.5) / tf.cast(size, tf.float32)
    inside = tf.abs(places - centres[..., None]) < sides[:, None, None] / 2
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def _project(images: tf.Tensor, amount: tf.Tensor) -> tf.Tensor:
    """Rotates by up to 0.5 rad, shears and shifts about the centre; `amount` [batch, 5 or more] in -1..1."""
    rotation, shear_x, shear_y, shift_x, shift_y = tf.unstack(amount[:, :5], axis=1)
    side = tf.cast(tf.shape(images)[1], tf.float32)
    centre = (side - 1) / 2
    a0, a1 = tf.cos(rotation), -tf.sin(rotation) + shear_x * 0.6
    b0, b1 = tf.sin(rotation) + shear_y * 0.6, tf.cos(rotation)
    a2 = centre * (1 - a0 - a1) + shift_x * side * 0.4
    b2 = centre * (1 - b0 - b1) + shift_y * side * 0.4
    zero = tf.zeros_like(a0)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images, transforms=tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1), fill_value=0.0,
        output_shape=tf.shape(images)[1:3], interpolation="BILINEAR", fill_mode="REFLECT",
    )  # fmt: skip


def _autocontrast(images: tf.Tensor) -> tf.Tensor:
    low = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(images, axis=[1, 2], keepdims=True)
    return (images - low) * 255 / tf.maximum(high - low, 1)


def _column(hit: tf.Tensor, index: int) -> tf.Tensor:
    return hit[:, index, None, None, None]
