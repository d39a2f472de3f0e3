"""Features of a frozen network: computed once by all workers together, and kept for an attempt that comes after."""

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from components.shared.progress import Progress
from components.shared.storage import storage
from components.train import models
from components.train.worker import batches, devices
from components.train.worker.events import EventLog
from components.train.worker.input_pipeline import Examples, Order
from components.train.worker.interruption import Preempted
from components.train.worker.lite import Runner, convert
from components.train.worker.session import Session
from components.train.worker.step import with_column


@dataclass(frozen=True)
class Sight:
    """What the network is shown of every image: the "center" or the "whole" (`view`), as it is or `mirrored`."""

    view: str = "center"
    mirrored: bool = False


class Features:
    """What the base of the session's network makes of every example, without augmentation.

    The array of a split and sight is kept beside the checkpoints, in a .npy file named by everything that it depends
    on, so that a training that is interrupted and goes on does not compute it again. `seconds` were spent on `images`.
    """

    def __init__(self, session: Session, events: EventLog, step: int) -> None:
        """`events` shows the first batch as an image of step `step`."""
        self._session, self._events, self._step = session, events, step
        self._runner: Runner | None = None
        self._written: set[str] = set()
        self.seconds, self.images = 0.0, 0

    def of(self, split: str, examples: Examples, sight: Sight = Sight()) -> np.ndarray:
        """[n, width] float32, a row per example of `split`, the same on every worker.

        Raises:
            Preempted: one of the workers was asked to stop.
            StorageError: the file cannot be read or written.
        """
        uri = storage.join(self._session.checkpoints, f"features-{split}-{_key(self._session, sight)}.npy")
        self._written.add(uri)
        found = _load(uri, split, len(examples))
        if found is not None:
            return found
        values = self._computed(split, examples, sight)
        if self._session.chief:
            with tempfile.TemporaryDirectory(prefix="features-") as folder:
                path = os.path.join(folder, "features.npy")
                np.save(path, values)
                storage.upload(path, uri)
        return values

    def delete(self) -> None:
        """On the chief, removes the files. Raises StorageError."""
        for uri in self._written if self._session.chief else ():
            storage.delete(uri)

    def _computed(self, split: str, examples: Examples, sight: Sight) -> np.ndarray:
        session, order = self._session, Order(examples.labels, self._session.settings.evaluation_batch)
        geometry = batches.Geometry(session.size, session.classes, view=sight.view)
        elements = iter(
            batches.distributed(session.strategy, lambda: batches.images(examples, order, session.share, geometry))
        )
        compute = self._on_cpu() if session.settings.replicas == 1 and not session.settings.gpus else self._together()
        progress = Progress(len(examples), f"{split} features{', mirrored' if sight.mirrored else ''}")
        started = time.monotonic()
        values = np.empty((len(examples), session.network.base.output_shape[-1]), np.float32)
        for step in range(order.steps):
            images = next(elements)[0]
            if step == 0 and split.startswith("train") and sight == Sight():
                pictures = session.strategy.experimental_local_results(images)[0]
                self._events.images(self._step, "augmented", pictures.numpy()[:16])
            rows = values[step * order.batch_size : (step + 1) * order.batch_size]
            rows[:] = compute(images, sight.mirrored)[: len(rows)]
            progress.update(len(rows))
        self.seconds += time.monotonic() - started
        self.images += len(examples)
        return values

    def _on_cpu(self):
        """A function of a batch: LiteRT takes half the time of TensorFlow's functions."""
        runner = self._runner or Runner(convert(self._session.network.base), devices.cpus())
        self._runner = runner

        def compute(images: tf.Tensor, mirrored: bool) -> np.ndarray:
            self._session.stop.check("features were computed")
            pixels = images.numpy()
            return runner(pixels[:, :, ::-1] if mirrored else pixels)

        return compute

    def _together(self):
        """A function of a global batch, of which every replica takes its part and gets all of the values."""
        strategy, base, stop = self._session.strategy, self._session.network.base, self._session.stop

        @tf.function(autograph=False)
        def distributed(images: Any, mirrored: bool, stopped: tf.Tensor) -> tf.Tensor:
            def own(x):
                pixels = tf.reverse(x, [2]) if mirrored else x
                return with_column(base(tf.cast(pixels, tf.float32), training=False), stopped)

            return strategy.gather(strategy.run(own, (images,)), axis=0)

        def compute(images: Any, mirrored: bool) -> np.ndarray:
            values = distributed(images, mirrored, tf.constant(float(stop.requested))).numpy()
            if values[:, -1].any():
                raise Preempted("stopped while features were computed: they are computed again")
            return values[:, :-1]

        return compute


def _load(uri: str, split: str, examples: int) -> np.ndarray | None:
    if not storage.exists(uri):
        return None
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        path = os.path.join(folder, "features.npy")
        storage.download(uri, path)
        values = np.load(path)
    print(f"the features of {len(values)} {split} pictures are taken from {uri}", flush=True)
    return values if len(values) == examples else None


def _key(session: Session, sight: Sight) -> str:
    settings, size = session.settings, session.size
    key = {
        "snapshot": session.info.snapshot,
        "model": settings.model,
        "weights": session.weights_hash,
        "sizes": [session.info.stored_size, size, models.base_size(session.entry, size, settings.pre_trained)],
        "policy": keras.config.dtype_policy().name,
        "precision": settings.precision,
        "reading": str(session.reading),
        "sight": str(sight),
    }
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
