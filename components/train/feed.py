"""What a phase reads: batches of pictures, or of features that were computed once."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from components.train import batches
from components.train.input_pipeline import Examples, Order, class_weights

if TYPE_CHECKING:
    from components.train.training import Training

EVALUATION_BATCH = 64


class Feed:
    """The batches of `training`; with `cached`, of the features of its base, frozen and without augmentation."""

    def __init__(self, training: "Training", cached: bool) -> None:
        self._training, self.cached = training, cached
        self._classes, replicas = len(training.info.labels), training.settings.replicas
        self._evaluation_batch = -(-max(EVALUATION_BATCH, replicas) // replicas) * replicas
        self.validation_order = Order(training.validation.labels, self._evaluation_batch)
        if cached:
            self._train_features = self._features(training.train)
            self._validation_features = self._features(training.validation)

    def train(self) -> Any:
        """Endless batches of the training split from the training's step on."""
        training, settings = self._training, self._training.settings
        weights = class_weights(training.train.labels, self._classes) if settings.balance == "weights" else None
        first = training.state.step
        if self.cached:
            return self._values(self._train_features, training.train, training.order, first, weights)
        geometry = batches.Geometry(training.size, self._classes, settings.augmentation, settings.seed)
        return self._images(training.train, training.order, geometry, first, weights)

    def validation(self) -> Any:
        """Endless batches of the validation split in the order of its files; `validation_order.steps` are one pass."""
        validation = self._training.validation
        if self.cached:
            return self._values(self._validation_features, validation, self.validation_order)
        return self._images(validation, self.validation_order, batches.Geometry(self._training.size, self._classes))

    def _images(self, examples: Examples, order: Order, geometry: batches.Geometry, *options: Any) -> Any:
        share = self._training.share()
        return batches.distributed(
            self._training.strategy, lambda: batches.images(examples, order, share, geometry, *options)
        )

    def _values(self, values: np.ndarray, examples: Examples, order: Order, *options: Any) -> Any:
        share = self._training.share()
        return batches.distributed(
            self._training.strategy,
            lambda: batches.features(values, order, share, examples.labels, self._classes, *options),
        )

    def _features(self, examples: Examples) -> np.ndarray:
        """[n, width] float32: what the base makes of every example; workers share the work and get all of it."""
        strategy, order = self._training.strategy, Order(examples.labels, self._evaluation_batch)
        elements = iter(self._images(examples, order, batches.Geometry(self._training.size, self._classes)))
        base: keras.Model = self._training.network.base

        @tf.function
        def compute(images: Any) -> tf.Tensor:
            values = strategy.run(
                lambda x: tf.cast(base(tf.cast(x, tf.float32), training=False), tf.float32), (images,)
            )
            return strategy.gather(values, axis=0)

        parts = [compute(next(elements)[0]).numpy() for _ in range(order.steps)]
        return np.concatenate(parts)[: len(examples)]
