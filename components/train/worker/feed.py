"""What a phase reads: batches of images, or of features that were computed once."""

from typing import Any

import numpy as np
import tensorflow as tf

from components.train.worker import batches
from components.train.worker.batches import Geometry
from components.train.worker.events import EventLog
from components.train.worker.features import Features
from components.train.worker.input_pipeline import Examples, Order, class_weights
from components.train.worker.session import Session


class Feed:
    """The session's batches for a phase that begins or goes on at `first_step`; with `cached`, of frozen features."""

    def __init__(self, session: Session, cached: bool, events: EventLog, first_step: int) -> None:
        self._session, self.cached, self._first_step = session, cached, first_step
        self.validation_order = Order(session.validation.labels, session.settings.evaluation_batch)
        if cached:
            self._features = Features(session, events, first_step)
            self._train_features = self._features.of("train", session.train)
            self._validation_features = self._features.of("validation", session.validation)

    def train(self) -> Any:
        """Endless batches of the training split."""
        session, settings = self._session, self._session.settings
        weights = class_weights(session.train.labels, session.classes) if settings.balance == "weights" else None
        if self.cached:
            return self._values(self._train_features, session.train, session.order, self._first_step, weights)
        geometry = Geometry(session.size, session.classes, settings.augmentation, settings.seed)
        return self._images(session.train, session.order, geometry, self._first_step, weights)

    def validation(self) -> Any:
        """Endless batches of the validation split in the order of its files; `validation_order.steps` are one pass."""
        session = self._session
        if self.cached:
            return self._values(self._validation_features, session.validation, self.validation_order)
        geometry = Geometry(session.size, session.classes, view=session.view)
        return self._images(session.validation, self.validation_order, geometry)

    def graph(self) -> tf.Graph:
        """The graph of the whole network, for a phase whose step sees only the head."""
        model, size = self._session.network.model, self._session.size
        with self._session.strategy.scope():
            forward = tf.function(lambda pixels: model(pixels, training=False), autograph=False)
            return forward.get_concrete_function(tf.TensorSpec([None, size, size, 3], tf.float32)).graph

    def close(self) -> None:
        """The phase is over: features are no longer needed."""
        if self.cached:
            self._features.delete()

    def _images(self, examples: Examples, order: Order, geometry: Geometry, *options: Any) -> Any:
        session = self._session
        return batches.distributed(
            session.strategy, lambda: batches.images(examples, order, session.share, geometry, *options)
        )

    def _values(self, values: np.ndarray, examples: Examples, order: Order, *options: Any) -> Any:
        session = self._session
        return batches.distributed(
            session.strategy,
            lambda: batches.features(values, order, session.share, examples.labels, session.classes, *options),
        )
