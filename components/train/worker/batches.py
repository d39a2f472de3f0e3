"""tf.data over an Order: encoded images (or cached features) to batches on the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from components.train.worker import augment, devices
from components.train.worker.input_pipeline import Examples, Order

# Examples that are read at a time: each call from TensorFlow to Python costs half a millisecond.
READ_TOGETHER = 128


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
    """`side` in pixels of the images that come out, number of `classes`, `augmentation`, seed of the draws.

    `augmentation` is the parameter's value, or "crop" (random-resized-crop and mirroring alone, for comparisons).
    Without augmentation `view` says what is seen: the "center", or the "whole" image (see components.shared.imaging).
    """

    side: int
    classes: int
    augmentation: str = "none"
    seed: int = 0
    view: str = "center"


def images(
    examples: Examples, order: Order, share: Share, geometry: Geometry, first_step: int = 0,
    class_weights: np.ndarray | None = None, threads: int | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """Endless batches for this worker's replicas, from `first_step` on, decoded by `threads` (None: one per core).

    Elements: images [b, side, side, 3] uint8, targets [b, classes] float32 (one-hot, or mixed), weights [b] float32,
    which sum to about 1 over all replicas of a step (examples that fill the last batch of an epoch weigh 0).
    """

    each, threads = order.batch_size // share.of, threads or devices.cpus()
    together = max(1, READ_TOGETHER // each)

    def read_one(turn: int):
        step, rows = share.rows(turn, order.batch_size)
        chosen, weights, keys = _select(order, step, rows, examples.labels, class_weights)
        encoded = np.array([examples.encoded(i) for i in chosen], object)
        return encoded, *_decided(geometry, examples.sizes[chosen], keys), examples.labels[chosen], weights

    def read(first: np.ndarray):
        parts = [read_one(int(first) + turn) for turn in range(together)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    types = (tf.string, tf.int32, tf.bool, tf.float32, tf.int32, tf.float32)
    several = tf.data.Dataset.counter(first_step * share.replicas, together)
    several = several.map(lambda turn: _shaped(tf.numpy_function(read, [turn], types), together * each)).prefetch(2)
    # Twice the cores: decoding waits its turn for the batch to be put together.
    pictures = several.unbatch().map(_decoder(geometry), num_parallel_calls=2 * threads, deterministic=True)
    # A batch operation has threads of its own.
    return pictures.batch(each, drop_remainder=True).map(_finisher(geometry), 2, deterministic=True).prefetch(2)


def one_pass(examples: Examples, size: int, batch_size: int, view: str = "center") -> Iterator[tf.Tensor]:
    """`examples` in their order as uint8 batches, not augmented; the last batch is filled up."""
    order = Order(examples.labels, batch_size)
    geometry = Geometry(size, int(examples.labels.max()) + 1, view=view)
    for batch, *_ in images(examples, order, Share(0, 1, 1), geometry).take(order.steps):
        yield batch


def features(
    values: np.ndarray, order: Order, share: Share, labels: np.ndarray, classes: int, first_step: int = 0,
    class_weights: np.ndarray | None = None,
) -> tf.data.Dataset:  # fmt: skip
    """As `images`, with rows of `values` [n, width] float32 in place of images."""

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
    # Images are decoded right into their batch: 3 to 5 % more of them a second.
    options.experimental_optimization.map_and_batch_fusion = True
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


def _decided(geometry: Geometry, sizes: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows [n, 4], which images are mirrored [n], and the numbers for what is decided later [n, DRAWS]."""
    if geometry.augmentation == "none":
        nothing = np.zeros([len(keys), augment.DRAWS], np.float32)
        whole = np.concatenate([np.zeros_like(sizes), sizes], axis=1).astype(np.int32)
        windows = whole if geometry.view == "whole" else augment.central_windows(sizes, geometry.side)
        return windows, np.zeros(len(keys), bool), nothing
    draws = augment.draw(geometry.seed, keys)
    if geometry.augmentation == "light":
        return augment.windows(sizes, geometry.side, draws), augment.mirrored(draws), draws
    return augment.resized_windows(sizes, draws), augment.mirrored(draws), draws


def _shaped(parts: list[tf.Tensor], count: int) -> tuple[tf.Tensor, ...]:
    shapes = ([count], [count, 4], [count], [count, augment.DRAWS], [count], [count])
    for part, shape in zip(parts, shapes, strict=True):
        part.set_shape(shape)
    return tuple(parts)


def _decoder(geometry: Geometry):
    side, augmentation = geometry.side, geometry.augmentation

    def decode(encoded, window, mirror, *others):
        if augmentation == "none":
            image = _exact(encoded, window)
            if geometry.view == "whole":
                image = squeezed(image, side)
        else:
            # A random window is decoded alone and by the faster transform: it is changed at random anyway.
            image = tf.image.decode_and_crop_jpeg(
                encoded, window, channels=3, dct_method="INTEGER_FAST", fancy_upscaling=False
            )
            # One image, not a batch: for it TensorFlow has a fast path.
            image = tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)
            if augmentation != "light":
                # As floats: TensorFlow's resizing of bytes takes a third longer.
                image = tf.cast(tf.image.resize(tf.cast(image, tf.float32), [side, side]) + 0.5, tf.uint8)
        image.set_shape([side, side, 3])
        return image, *others

    return decode


def _exact(encoded: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """The very pixels that evaluation and serving see (components.shared.imaging.center_crop).

    The image is decoded whole: a decoder that crops has no neighbours to interpolate the colours of the edge from.
    """
    image = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    top, left, height, width = tf.unstack(window)
    return image[top : top + height, left : left + width]


def squeezed(image: tf.Tensor, side: int) -> tf.Tensor:
    """`image` [h, w, 3] uint8 as [side, side, 3]; within one level of what imaging.resize gives."""
    scaled = tf.image.resize(image, [side, side], method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)


def _finisher(geometry: Geometry):
    def finish(images, draws, labels, weights):
        targets = tf.one_hot(labels, geometry.classes)
        if geometry.augmentation == "strong":
            images, targets = augment.strong(images, targets, draws)
        return images, targets, weights

    return finish
