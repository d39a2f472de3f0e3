"""Features of a frozen network: computed once by all workers together, and kept for an attempt that comes after."""

import hashlib
import json
import os
import tempfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.shared.progress import Progress
from components.shared.storage import storage
from components.train import models
from components.train.worker import batches
from components.train.worker.events import EventLog
from components.train.worker.input_pipeline import Examples, Order
from components.train.worker.interruption import Preempted
from components.train.worker.session import Session
from components.train.worker.step import with_column


class Features:
    """What the base of the session's network makes of every example, without augmentation.

    A split's array is kept beside the checkpoints, in a .npy file named by everything that it depends on, so that a
    training that is interrupted and goes on does not compute it again.
    """

    def __init__(self, session: Session, events: EventLog, step: int) -> None:
        """`events` shows the first batch as an image of step `step`."""
        self._session, self._events, self._step = session, events, step
        self._key = _key(session)

    def of(self, split: str, examples: Examples) -> np.ndarray:
        """[n, width] float32, a row per example of `split`, the same on every worker.

        Raises:
            Preempted: one of the workers was asked to stop.
            StorageError: the file cannot be read or written.
        """
        found = self._load(split, len(examples))
        if found is not None:
            return found
        values = self._computed(split, examples)
        if self._session.chief:
            with tempfile.TemporaryDirectory(prefix="features-") as folder:
                path = os.path.join(folder, "features.npy")
                np.save(path, values)
                storage.upload(path, self._file(split))
        return values

    def delete(self) -> None:
        """Removes the files of both splits. Raises StorageError."""
        for split in ("train", "validation"):
            storage.delete(self._file(split))

    def _load(self, split: str, examples: int) -> np.ndarray | None:
        uri = self._file(split)
        if not storage.exists(uri):
            return None
        with tempfile.TemporaryDirectory(prefix="features-") as folder:
            path = os.path.join(folder, "features.npy")
            storage.download(uri, path)
            values = np.load(path)
        print(f"the features of {len(values)} {split} pictures are taken from {uri}", flush=True)
        return values if len(values) == examples else None

    def _file(self, split: str) -> str:
        return storage.join(self._session.checkpoints, f"features-{split}-{self._key}.npy")

    def _computed(self, split: str, examples: Examples) -> np.ndarray:
        session, order = self._session, Order(examples.labels, self._session.settings.evaluation_batch)
        strategy, base = session.strategy, session.network.base
        geometry = batches.Geometry(session.size, session.classes)
        elements = iter(
            batches.distributed(strategy, lambda: batches.images(examples, order, session.share, geometry))
        )  # fmt: skip

        @tf.function
        def compute(images: Any, stop: tf.Tensor) -> tf.Tensor:
            values = strategy.run(lambda x: with_column(base(tf.cast(x, tf.float32), training=False), stop), (images,))
            return strategy.gather(values, axis=0)

        progress, parts = Progress(len(examples), f"{split} features"), []
        for step in range(order.steps):
            images = next(elements)[0]
            if step == 0 and split == "train":
                pictures = strategy.experimental_local_results(images)[0]
                self._events.images(self._step, "augmented", pictures.numpy()[:16])
            values = compute(images, tf.constant(float(session.stop.requested))).numpy()
            if values[:, -1].any():
                raise Preempted("stopped while features were computed: they are computed again")
            parts.append(values[:, :-1])
            progress.update(min(order.batch_size, len(examples) - progress.done))
        return np.concatenate(parts)[: len(examples)]


def _key(session: Session) -> str:
    settings, size = session.settings, session.size
    key = {
        "snapshot": session.info.snapshot,
        "model": settings.model,
        "weights": session.weights_hash,
        "sizes": [session.info.stored_size, size, models.base_size(settings.model, size, settings.pre_trained)],
        "policy": keras.config.dtype_policy().name,
        "precision": settings.precision,
    }
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
