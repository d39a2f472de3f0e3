"""The model as annotate uses it: an engine per core, and the labelled works that its vectors are compared with."""

import collections
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from components.annotate.settings import Settings
from components.artifacts import classifier, embeddings
from components.artifacts.embeddings import unit
from components.shared.cores import available_cores
from components.shared.errors import PipelineError
from components.shared.storage import storage

BATCH = 128
_CHUNK, _AHEAD = 32, 3  # images that an engine is given at a time; batches that are read ahead
_ROWS = 4096  # of the works' vectors that are compared at a time


Look = tuple[np.ndarray, np.ndarray]  # of one image: probabilities [classes], features [width]


class Suggester:
    """Answers for stored images in their order, by a process with an engine per core, as the server has it."""

    def __init__(self, settings: Settings) -> None:
        """Raises ModelError: there is no such model, or it cannot say what it does not know."""
        self.directory = settings.located()
        self._copy = tempfile.TemporaryDirectory(prefix="classifier-")
        local = storage.local_path(self.directory)
        if local is None:
            local = self._copy.name
            classifier.download(self.directory, local)
        self.model = classifier.load(local)
        self.model.check_decides()
        self._local, self._cores = local, available_cores()
        self._engines: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None

    def looks(self, batches: Iterator[list[bytes]]) -> Iterator[list[Look | None]]:
        """What was seen of each image of each batch, None of one that cannot be read; some batches are read ahead.

        Raises:
            PipelineError: an engine broke off.
        """
        pool = self._started()
        waiting: collections.deque[list[Future]] = collections.deque()
        for batch in batches:
            chunks = [batch[first : first + _CHUNK] for first in range(0, len(batch), _CHUNK)]
            waiting.append([pool.submit(self._ask, chunk) for chunk in chunks])
            if len(waiting) > _AHEAD:
                yield _collected(waiting.popleft())
        while waiting:
            yield _collected(waiting.popleft())

    def _started(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._cores)  # threads that wait for the engines
            command = [sys.executable, "-m", "components.annotate.engine", self._local]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            for _ in range(self._cores):
                pipe = subprocess.PIPE
                process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)
                weakref.finalize(self, _end, process)
                self._engines.put(process)
        return self._pool

    def _ask(self, images: list[bytes]) -> list[Look | None]:
        engine = self._engines.get()
        try:
            assert engine.stdin and engine.stdout
            pickle.dump(images, engine.stdin, pickle.HIGHEST_PROTOCOL)
            engine.stdin.flush()
            return pickle.load(engine.stdout)  # noqa: S301  from a process of our own
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise PipelineError(f"an engine broke off (status {engine.poll()}): start annotate again") from error
        finally:
            self._engines.put(engine)


def _collected(futures: list[Future]) -> list[Look | None]:
    return [look for future in futures for look in future.result()]


def _end(process: subprocess.Popen) -> None:
    """At the end of its input an engine ends by itself."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


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

    def nearest(self, features: np.ndarray, count: int) -> tuple[list[list[str]], np.ndarray]:
        """For each of `features` [n, width] the ids of the `count` works with the largest cosine, nearest first.

        And the cosine of the nearest, [n]; 0 where there are no works.
        """
        if not self.ids or not len(features):
            return [[] for _ in features], np.zeros(len(features), np.float32)
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
        return [[self.ids[place] for place in row] for row in places], best[:, 0]
