"""The one engine of a worker process, behind a bounded queue."""

import contextlib
import threading
from dataclasses import dataclass
from typing import Iterator

import numpy as np

from components.serve.errors import busy, from_image_error
from components.serve.monitor import Monitor
from components.shared.classifier import Classifier
from components.shared.imaging import ImageError

# Of all the requests in one worker: so that many large uploads at once cannot fill a pod's memory.
HELD_BYTES = 160_000_000


@dataclass(frozen=True)
class Prediction:
    """A label and its probability, 0 to 1."""

    label: str
    probability: float


class Engine:
    """Lets at most `queue` requests in, and one at a time to the classifier, each waiting at most `wait_seconds`.

    Decoding happens in the request's turn too: so a worker holds one decoded picture, however many wait.
    """

    def __init__(self, classifier: Classifier, monitor: Monitor, queue: int, wait_seconds: float) -> None:
        self.classifier = classifier
        self._monitor = monitor
        self._queue, self._requests, self._held = queue, 0, 0
        self._counting = threading.Lock()
        self._turn = threading.Lock()
        self._wait_seconds = wait_seconds

    @contextlib.contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """A place in the queue for as long as the request's body, of `size` bytes, is held.

        Raises:
            RequestError: 503, all places are taken, or the bodies that are held come to too many bytes.
        """
        with self._counting:
            if self._requests == self._queue or self._held + size > HELD_BYTES:
                raise busy()
            self._requests, self._held = self._requests + 1, self._held + size
        try:
            yield
        finally:
            with self._counting:
                self._requests, self._held = self._requests - 1, self._held - size

    def predict(self, images: list[bytes]) -> np.ndarray:
        """Probabilities, [len(images), classes] float32.

        Raises:
            RequestError: one is no picture (413, 415, 422), or the turn did not come in time (503).
        """
        rows = np.empty([len(images), len(self.classifier.labels)], np.float32)
        for index, image in enumerate(images):
            rows[index] = self._predict_one(image)
        self._monitor.count(rows)
        return rows

    def best(self, row: np.ndarray, top: int) -> list[Prediction]:
        """The `top` likeliest labels of one row of probabilities, best first."""
        order = np.argsort(-row, kind="stable")[:top]
        return [Prediction(self.classifier.labels[index], round(float(row[index]), 6)) for index in order]

    def _predict_one(self, image: bytes) -> np.ndarray:
        # A turn for each picture, so that a large batch does not keep the others waiting.
        if not self._turn.acquire(timeout=self._wait_seconds):
            raise busy("no answer in time: try again in a second")
        try:
            return self.classifier.predict([image])[0]
        except ImageError as error:
            raise from_image_error(error) from error
        finally:
            self._turn.release()
