"""The one engine of a worker process, behind a bounded queue."""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.artifacts.classifier import Classifier
from components.server.errors import busy, from_image_error
from components.server.monitor import Monitor
from components.server.picture import check
from components.shared.imaging import ImageError

# Of all the requests in one worker: so that many large uploads at once cannot fill a pod's memory.
HELD_BYTES = 160_000_000


@dataclass(frozen=True)
class Prediction:
    """A label and its probability, 0 to 1."""

    label: str
    probability: float


class Engine:
    """Lets at most `queue` requests in, and one picture at a time to the classifier, in the order of arrival.

    Decoding happens in the picture's turn too: so a worker holds one decoded picture, however many wait.
    """

    def __init__(self, classifier: Classifier, monitor: Monitor, queue: int) -> None:
        self.classifier = classifier
        self._monitor = monitor
        self._queue, self._requests, self._held = queue, 0, 0
        self._counting = threading.Lock()
        self._turns = Turns()

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

    def predict(self, images: list[bytes], until: float, counted: bool = True) -> np.ndarray:
        """Probabilities, [len(images), classes] float32.

        Args:
            until: The time, as of time.monotonic(), at which the whole request must have its answer.
            counted: Whether the monitor counts them.

        Raises:
            RequestError: one is no picture (413, 415, 422), or they were not done in time (503).
        """
        rows = np.empty([len(images), len(self.classifier.labels)], np.float32)
        for index, image in enumerate(images):
            rows[index] = self._predict_one(image, until)
        if counted:
            self._monitor.count(rows)
        return rows

    def best(self, row: np.ndarray, top: int) -> list[Prediction]:
        """The `top` likeliest labels of one row of probabilities, best first."""
        return [Prediction(label, probability) for label, probability in self.classifier.ranking(row, top)]

    def _predict_one(self, image: bytes, until: float) -> np.ndarray:
        # A turn for each picture, so that a large batch does not keep the others waiting.
        if time.monotonic() >= until or not self._turns.take(until):
            raise busy("no answer in time: try again in a second, with fewer pictures if there were many")
        try:
            check(image)
            return self.classifier.predict([image])[0]
        except ImageError as error:
            raise from_image_error(error) from error
        finally:
            self._turns.give_back()


class Turns:
    """A lock that is handed on in order.

    threading.Lock goes to whoever is awake: a thread that releases it and asks again at once, as one with a batch of
    pictures does, would keep all others waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._waiting: collections.deque[threading.Lock] = collections.deque()

    def take(self, until: float) -> bool:
        """Waits for the turn, at the latest until time.monotonic() is `until`; whether it came."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=max(0.0, until - time.monotonic())):
            return True
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        return True  # it came at the very last moment

    def give_back(self) -> None:
        """Ends the turn; the one who has waited longest is next."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
