"""The model as annotate uses it: an engine per core, and the labelled works that its vectors are compared with."""

import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from components.annotate.settings import Settings
from components.artifacts import classifier, embeddings
from components.artifacts.classifier import Classifier
from components.artifacts.embeddings import unit
from components.shared.cores import available_cores
from components.shared.errors import PipelineError
from components.shared.imaging import ImageError, decode, encode_jpeg, resize
from components.shared.storage import storage

BATCH = 64
_SIDE, _LONGEST, _QUALITY = 128, 256, 75  # of a thumbnail, in pixels
_ROWS = 4096  # of the works' vectors that are compared at a time


@dataclass(frozen=True)
class Look:
    """Of one image: probabilities [classes], features [width], and a small JPEG of it."""

    probabilities: np.ndarray
    features: np.ndarray
    thumbnail: bytes


class Suggester:
    """Answers for stored images, by as many engines as there are cores, in their order.

    An engine leaves Python's lock while it computes, so a thread each keeps the cores busy.
    """

    def __init__(self, settings: Settings) -> None:
        """Raises ModelError: there is no such model, or it cannot say what it does not know."""
        self.directory = settings.located()
        self._count = available_cores()
        models = [classifier.load(self.directory) for _ in range(self._count)]
        models[0].check_decides()
        self.model: Classifier = models[0]
        self._idle: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
        for model in models:
            self._idle.put(model)

        self._pool = ThreadPoolExecutor(self._count)

    def look(self, images: list[bytes]) -> list[Look | None]:
        """What was seen of each image, None of one that cannot be read."""
        return list(self._pool.map(self._look_at, images))

    def _look_at(self, image: bytes) -> Look | None:
        model = self._idle.get()
        try:
            [row], [features] = model.look([image])
            return Look(row, features, _thumbnail(image))
        except ImageError:
            return None
        finally:
            self._idle.put(model)


def _thumbnail(image: bytes) -> bytes:
    pixels = decode(image, _SIDE)
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / min(height, width), _LONGEST / max(height, width))
    return encode_jpeg(resize(pixels, max(1, round(height * scale)), max(1, round(width * scale))), _QUALITY)


class Works:
    """The labelled works of the model's data set; none where a model came without its vectors."""

    def __init__(self, directory: str, digest: str) -> None:
        """Raises PipelineError: the vectors are damaged, or of another model."""
        self.ids: list[str] = []
        if not storage.exists(storage.join(directory, embeddings.FILE_NAME)):
            return
        found = embeddings.read(directory)
        if found.model not in ("", digest):
            raise PipelineError(f"{embeddings.FILE_NAME} in {directory} is of another model: copy the whole folder")
        self.ids = found.works["object_id"].to_pylist()
        self._vectors = found.vectors

    def nearest(self, features: np.ndarray, count: int) -> list[list[str]]:
        """For each of `features` [n, width] the ids of the `count` works with the largest cosine, nearest first."""
        if not self.ids or not len(features):
            return [[] for _ in features]
        best = np.full((len(features), 0), -np.inf, np.float32)
        places = np.zeros((len(features), 0), np.int64)
        wanted, every = unit(features), np.arange(len(features))[:, None]
        for first in range(0, len(self.ids), _ROWS):
            cosines = wanted @ self._vectors[first : first + _ROWS].astype(np.float32).T
            best = np.concatenate([best, cosines], axis=1)
            places = np.concatenate(
                [places, np.broadcast_to(np.arange(cosines.shape[1]) + first, cosines.shape)], axis=1
            )
            kept = np.argsort(-best, axis=1, kind="stable")[:, :count]
            best, places = best[every, kept], places[every, kept]
        return [[self.ids[place] for place in row] for row in places]
