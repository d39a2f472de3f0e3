"""The one engine of a worker process, behind a bounded queue."""

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from components.artifacts.classifier import Classifier
from components.server.errors import busy, from_image_error
from components.server.monitor import Monitor
from components.server.picture import check
from components.shared.imaging import ImageError


@dataclass(frozen=True)
class Prediction:
    """A label and its probability, 0 to 1."""

    label: str
    probability: float


class Engine:
    """Lets at most `queue` requests in, and one image at a time to the classifier, in the order of arrival.

    Decoding happens in the image's turn too: so a worker holds one decoded image, however many wait.
    """

    def __init__(self, classifier: Classifier, monitor: Monitor, queue: int) -> None:
        self.classifier = classifier
        self._monitor = monitor
        self._queue, self._requests = queue, 0
        self._thread = ThreadPoolExecutor(1, "engine")

    def check_room(self) -> None:
        """Raises RequestError 503: all places are taken."""
        if self._requests >= self._queue:
            raise busy()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """A place in the queue. Raises RequestError 503: all are taken."""
        self.check_room()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def predict(self, images: list[bytes], counted: bool = True) -> np.ndarray:
        """Probabilities, [len(images), classes] float32; `counted`: whether the monitor counts them.

        Raises:
            RequestError: one is no image (413, 415, 422).
        """
        # A turn for each image: who has many goes back to the end of the line after each.
        loop = asyncio.get_running_loop()
        rows = np.stack([await loop.run_in_executor(self._thread, self._predict_one, image) for image in images])
        if counted:
            self._monitor.count(rows)
        return rows

    def best(self, row: np.ndarray, top: int) -> list[Prediction]:
        """The `top` likeliest labels of one row of probabilities, best first."""
        return [Prediction(label, probability) for label, probability in self.classifier.ranking(row, top)]

    def _predict_one(self, image: bytes) -> np.ndarray:
        try:
            check(image)
            return self.classifier.predict([image])[0]
        except ImageError as error:
            raise from_image_error(error) from error
