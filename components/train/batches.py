"""tf.data over an Order: encoded pictures (or cached features) to batches on the device."""

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import tensorflow as tf

from components.train import augment, devices
from components.train.input_pipeline import Examples, Order


@dataclass(frozen=True)
class Share:
    """The part of every batch that this worker's replicas take: `replicas` of all `of`, from number `first` on."""

    first: int
    replicas: int
    of: int

    def rows(self, turn: int, batch_size: int) -> tuple[int, slice]:
        """Which step, and which rows of its batch, the worker's `turn`-th element is."""
        each = batch_size // self.of
        step, replica = divmod(turn, self.replicas)
        start = (self.first + replica) * each
        return step, slice(start, start + each)


@dataclass(frozen=True)
class Geometry:
    """`side` in pixels of the pictures that come out, number of `classes`, `augmentation`, seed of the draws.

    `augmentation` is the parameter's value, or "crop" (random-resized-crop and mirroring alone, for comparisons).
    """

    side: int
    classes: int
    augmentation: str = "none"
    seed: int = 0


def images(
    examples: Examples, order: Order, share: Share, geometry: Geometry, first_step: int = 0,
    class_weights: np.ndarray | None = None, threads: int | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """Endless batches for this worker's replicas, from `first_step` on, decoded by `threads` (None: one a core).

    Elements: images [b, side, side, 3] uint8, targets [b, classes] float32 (one-hot, or mixed), weights [b] float32,
    which sum to about 1 over all replicas of a step (examples that fill the last batch of an epoch weigh 0).
    """

    def read(turn: np.ndarray):
        step, rows = share.rows(int(turn), order.batch_size)
        chosen, weights, keys = _select(order, step, rows, examples.labels, class_weights)
        encoded = np.array([examples.encoded(i) for i in chosen], object)
        return encoded, examples.sizes[chosen], examples.labels[chosen], weights, keys

    types = (tf.string, tf.int32, tf.int32, tf.float32, tf.int64)
    each = order.batch_size // share.of
    batches = tf.data.Dataset.counter(first_step * share.replicas)
    batches = batches.map(lambda turn: _shaped(tf.numpy_function(read, [turn], types), each))
    threads = threads or devices.cpus()
    pictures = batches.unbatch().map(_decoder(geometry), num_parallel_calls=threads, deterministic=True)
    whole = pictures.batch(each, drop_remainder=True)
    if geometry.augmentation == "strong":
        whole = whole.map(_strong, num_parallel_calls=2, deterministic=True)  # an operation on a batch has threads, too
    else:
        whole = whole.map(lambda images, targets, weights, _: (images, targets, weights))
    return whole.prefetch(2)


def features(
    values: np.ndarray, order: Order, share: Share, labels: np.ndarray, classes: int, first_step: int = 0,
    class_weights: np.ndarray | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """As `images`, with rows of `values` [n, width] float32 in place of pictures."""

    def read(turn: np.ndarray):
        step, rows = share.rows(int(turn), order.batch_size)
        chosen, weights, _ = _select(order, step, rows, labels, class_weights)
        return values[chosen], np.eye(classes, dtype=np.float32)[labels[chosen]], weights

    each = order.batch_size // share.of

    def element(turn: tf.Tensor):
        inputs, targets, weights = tf.numpy_function(read, [turn], (tf.float32, tf.float32, tf.float32))
        inputs.set_shape([each, values.shape[1]])
        targets.set_shape([each, classes])
        weights.set_shape([each])
        return inputs, targets, weights

    return tf.data.Dataset.counter(first_step * share.replicas).map(element).prefetch(8)


def distributed(strategy: tf.distribute.Strategy, make: Callable[[], tf.data.Dataset]) -> Any:
    """The data set that `make` returns, handed out to this worker's replicas, an element each."""
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return strategy.distribute_datasets_from_function(lambda _: make().with_options(options))


def _select(order: Order, step: int, rows: slice, labels: np.ndarray, class_weights: np.ndarray | None):
    chosen, counts = order.batch(step)
    weights = counts.astype(np.float32) / counts.sum()
    chosen, weights = chosen[rows], weights[rows]
    if class_weights is not None:
        weights = weights * class_weights[labels[chosen]]
    # The key of an example's random numbers: another one in every epoch.
    keys = (step // order.steps) * len(labels) + chosen
    return chosen, weights.astype(np.float32), keys.astype(np.int64)


def _shaped(parts: list[tf.Tensor], each: int) -> tuple[tf.Tensor, ...]:
    for part, shape in zip(parts, ([each], [each, 2], [each], [each], [each])):
        part.set_shape(shape)
    return tuple(parts)


def _decoder(geometry: Geometry):
    side, augmentation = geometry.side, geometry.augmentation

    def decode(encoded, size, label, weight, key):
        if augmentation == "none":
            draws = tf.zeros([augment.DRAWS])
            image = _central(encoded, size, side)
        else:
            draws = augment.draw(geometry.seed, key)
            image = augment.flip(_random(encoded, size, side, draws, resized=augmentation != "light"), draws)
        image.set_shape([side, side, 3])
        return image, tf.one_hot(label, geometry.classes), weight, draws

    return decode


def _central(encoded: tf.Tensor, size: tf.Tensor, side: int) -> tf.Tensor:
    """The very pixels that evaluation and serving see (components.shared.imaging.center_crop).

    The picture is decoded whole: a decoder that crops has no neighbours to interpolate the colours of the edge from.
    """
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return image[top : top + side, left : left + side]


def _random(encoded: tf.Tensor, size: tf.Tensor, side: int, draws: tf.Tensor, resized: bool) -> tf.Tensor:
    """A random window, decoded alone and by the faster transform: it is changed at random anyway."""
    window = augment.resized_window(size, draws) if resized else augment.window(size, side, draws)
    image = tf.image.decode_and_crop_jpeg(
        encoded, window, channels=3, dct_method="INTEGER_FAST", fancy_upscaling=False
    )  # fmt: skip
    return tf.cast(tf.image.resize(image, [side, side]) + 0.5, tf.uint8) if resized else image


def _strong(images: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, draws: tf.Tensor):
    return (*augment.strong(images, targets, draws), weights)
