"""The one engine of a worker process, behind a bounded queue."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.artifacts.classifier import Classifier
from components.artifacts.uncertainty import Decision
from components.server.errors import RequestError, busy, from_image_error
from components.server.monitor import Monitor
from components.server.picture import check
from components.shared import occlusion
from components.shared.errors import PipelineError
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
        """The probabilities alone of what `look` returns."""
        return (await self.look(images, counted))[0]

    async def look(self, images: list[bytes], counted: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities, [len(images), classes] float32, and features: see Classifier.look.

        `counted`: whether the monitor counts them.

        Raises:
            RequestError: one is no image (413, 415, 422).
        """
        # A turn for each image: who has many goes back to the end of the line after each.
        loop = asyncio.get_running_loop()
        found = [await loop.run_in_executor(self._thread, self._look_at, image) for image in images]
        rows = np.stack([row for row, _ in found])
        if counted:
            self._monitor.count(rows)
        return rows, np.stack([features for _, features in found])

    async def alone(self, work: Callable, *arguments: Any) -> Any:
        """The result of `work(*arguments)`, which decodes or predicts an image, in a turn of its own."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def explain(self, image: bytes, index: int) -> tuple[bytes, occlusion.Explanation]:
        """What the class `index` hangs on in an image that was predicted: a JPEG of it, and the numbers."""
        pixels = await self.alone(self.classifier.view, image)
        rows = [await self.alone(self.classifier.predict_pixels, each[None]) for each in occlusion.covered(pixels)]
        found = occlusion.explain(np.concatenate(rows), index, len(pixels))
        return occlusion.overlay(pixels, found.heat), found

    def best(self, row: np.ndarray, top: int) -> list[Prediction]:
        """The `top` likeliest labels of one row of probabilities, best first."""
        return [Prediction(label, probability) for label, probability in self.classifier.ranking(row, top)]

    def decide(self, rows: np.ndarray, features: np.ndarray, coverage: float) -> list[Decision]:
        """A label for each image or none: see Classifier.decide. Raises RequestError 400: that cannot be decided."""
        try:
            return self.classifier.decide(rows, features, coverage)
        except PipelineError as error:
            raise RequestError(400, str(error), "bad_coverage") from error

    def _look_at(self, image: bytes) -> tuple[np.ndarray, np.ndarray]:
        try:
            check(image)
            rows, features = self.classifier.look([image])
            return rows[0], features[0]
        except ImageError as error:
            raise from_image_error(error) from error
