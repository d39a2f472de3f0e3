"""Looks at pairs of images, in this process or, where there are many, in several."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType

import numpy as np
import pyarrow as pa

from components.assemble import confirmation
from components.assemble.stored import read_pictures
from components.shared.cores import available_cores

# Pairs that one call looks at; their images' details are held (16 KB each).
_CHUNK = 256
# Fewer pairs are done before processes have started.
_FEW = 1024
# A pod may have two CPUs of a node's many.
_MOST_PROCESSES = 4


class Looker:
    """Whether images of `examples` (columns object_id, record_uri, offset, length) are the same."""

    def __init__(self, examples: pa.Table) -> None:
        self._examples = examples.select(["object_id", "record_uri", "offset", "length"])
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Looker":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def equal(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether the images of each pair of rows are the same: bool [pairs].

        Raises:
            PipelineError: a record file cannot be read, or does not hold the image where the index says.
        """
        tasks = [self._task(first[k : k + _CHUNK], second[k : k + _CHUNK]) for k in range(0, len(first), _CHUNK)]
        processes = min(available_cores(), _MOST_PROCESSES)
        if not self._pool and len(first) > _FEW and processes > 1:
            # Not by fork: Arrow's threads hold locks.
            self._pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
        found = (self._pool.map if self._pool else map)(_equal, *zip(*tasks)) if tasks else ()
        return np.concatenate([np.zeros(0, bool), *found])

    def _task(self, first: np.ndarray, second: np.ndarray) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        return self._examples.take(pa.array(rows)), *np.split(places, 2)


def _equal(pictures: pa.Table, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    details = [confirmation.detail(picture) for picture in read_pictures(pictures, range(len(pictures)))]
    return confirmation.agreements(np.stack(details), first, second) >= confirmation.SAME
