"""What a phase reads: batches of pictures, or of features that were computed once."""

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from components.shared.progress import Progress
from components.train import memory
from components.train.worker import batches
from components.train.worker.events import EventLog
from components.train.worker.features import FeatureFiles
from components.train.worker.input_pipeline import Examples, Order, class_weights
from components.train.worker.interruption import Preempted
from components.train.worker.trainer import with_column

if TYPE_CHECKING:
    from components.train.worker.training import Training


class Feed:
    """The batches of `training`; with `cached`, of the features of its base, frozen and without augmentation."""

    def __init__(self, training: "Training", cached: bool, events: EventLog) -> None:
        self._training, self.cached, self._events = training, cached, events
        self._classes = len(training.info.labels)
        self._evaluation_batch = memory.evaluation_batch(training.settings)
        self.validation_order = Order(training.validation.labels, self._evaluation_batch)
        if cached:
            self._files = FeatureFiles(training)
            self._train_features = self._features("train", training.train)
            self._validation_features = self._features("validation", training.validation)

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

    def graph(self) -> tf.Graph:
        """The graph of the whole network, for a phase whose step sees only the head."""
        model, size = self._training.network.model, self._training.size
        with self._training.strategy.scope():
            forward = tf.function(lambda pixels: model(pixels, training=False))
            return forward.get_concrete_function(tf.TensorSpec([None, size, size, 3], tf.float32)).graph

    def close(self) -> None:
        """The phase is over: features are no longer needed."""
        if self.cached and self._training.chief:
            self._files.delete()

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

    def _features(self, split: str, examples: Examples) -> np.ndarray:
        """[n, width] float32: what the base makes of every example; from an earlier attempt if it got so far."""
        found = self._files.load(split, len(examples))
        if found is not None:
            return found
        values = self._computed(split, examples)
        if self._training.chief:
            self._files.save(split, values)
        return values

    def _computed(self, split: str, examples: Examples) -> np.ndarray:
        """Workers share the work and get all of it. Raises Preempted, on every worker, if one was asked to stop."""
        training, order = self._training, Order(examples.labels, self._evaluation_batch)
        strategy, base = training.strategy, training.network.base
        elements = iter(self._images(examples, order, batches.Geometry(training.size, self._classes)))

        @tf.function
        def compute(images: Any, stop: tf.Tensor) -> tf.Tensor:
            values = strategy.run(lambda x: with_column(base(tf.cast(x, tf.float32), training=False), stop), (images,))
            return strategy.gather(values, axis=0)

        progress, parts = Progress(len(examples), f"{split} features"), []
        for step in range(order.steps):
            images = next(elements)[0]
            if step == 0 and split == "train":
                pictures = strategy.experimental_local_results(images)[0]
                self._events.images(training.state.step, "augmented", pictures.numpy()[:16])
            values = compute(images, tf.constant(float(training.stop.requested))).numpy()
            if values[:, -1].any():
                raise Preempted("stopped while features were computed: they are computed again")
            parts.append(values[:, :-1])
            progress.update(min(order.batch_size, len(examples) - progress.done))
        return np.concatenate(parts)[: len(examples)]
