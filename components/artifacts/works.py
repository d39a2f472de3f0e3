"""The works among which a server looks for the most similar ones: embeddings.parquet in a form that needs no pyarrow.

A folder `works` inside the classifier's (components.artifacts.classifier), a row per work, sorted by object_id:

    vectors.npy     [n, width] float16, of unit length, as in components.artifacts.embeddings
    works.jsonl     a line per work: object_id, label, title, artist, rights, credit, link
    thumbnails.bin  small JPEGs, one after the other; none beyond THUMBNAILS works
    places.npy      [n + 1, 2] int64: where the line and the JPEG of each work begin; the last row is both ends
"""

import json
import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.artifacts import embeddings
from components.shared import imaging
from components.shared.errors import PipelineError
from components.shared.storage import storage

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "works"
VECTORS, LINES, JPEGS, PLACES = "vectors.npy", "works.jsonl", "thumbnails.bin", "places.npy"
THUMBNAILS = 50_000  # works; theirs are about 150 MB
THUMBNAIL_SIDE = 112  # pixels of the longer side
_BLOCK = 4096  # rows that are converted, or compared, at a time
_SHOWN = ("object_id", "label", *embeddings.ABOUT)


@dataclass(frozen=True)
class Work:
    """A work that is similar to an image: `similarity` is the cosine of their vectors, -1 to 1; JPEG or b""."""

    about: dict[str, str]
    similarity: float
    thumbnail: bytes


def write(directory: str, works: "pa.Table", vectors: np.ndarray, jpeg: Callable[[int], bytes]) -> None:
    """Writes the folder into the local classifier's `directory`; `jpeg(row)` is the stored image of a row of `works`.

    `works` and `vectors` [n, width] are as embeddings.write takes them. The last file is places.npy.
    """
    from pyarrow import compute

    folder = os.path.join(directory, FOLDER)
    os.makedirs(folder, exist_ok=True)
    order = compute.sort_indices(works["object_id"]).to_numpy()
    kept = np.lib.format.open_memmap(os.path.join(folder, VECTORS), "w+", np.float16, vectors.shape)
    places = np.zeros((len(order) + 1, 2), np.int64)
    with open(os.path.join(folder, LINES), "wb") as lines, open(os.path.join(folder, JPEGS), "wb") as jpegs:
        for first in range(0, len(order), _BLOCK):
            rows = order[first : first + _BLOCK]
            kept[first : first + len(rows)] = embeddings.unit(vectors[rows])
            about = works.take(rows).to_pylist()
            for place, (row, values) in enumerate(zip(rows, about), first):
                line = {name: values.get(name) or "" for name in _SHOWN}
                lines.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                if len(order) <= THUMBNAILS:
                    jpegs.write(_thumbnail(jpeg(int(row))))
                places[place + 1] = lines.tell(), jpegs.tell()
    kept.flush()
    np.save(os.path.join(folder, PLACES), places)


class Works:
    """The works of a classifier, in memory: 4 bytes for each number of their vectors, and little beside.

    Safe to use from several threads, and from processes that are forked after it was loaded.
    """

    def __init__(self, folder: str) -> None:
        """Raises PipelineError: the local `folder` is incomplete or damaged."""
        try:
            stored = np.load(os.path.join(folder, VECTORS), mmap_mode="r")
            self._places = np.load(os.path.join(folder, PLACES))
            self._lines, self._jpegs = (_mapped(os.path.join(folder, name)) for name in (LINES, JPEGS))
            # NumPy multiplies float16 a hundred times more slowly.
            self._vectors = np.empty(stored.shape, np.float32)
            for first in range(0, len(stored), _BLOCK):
                self._vectors[first : first + _BLOCK] = stored[first : first + _BLOCK]
            if self._places.shape != (len(stored) + 1, 2) or self._places[-1, 0] != len(self._lines):
                raise ValueError("its files do not fit each other")
        except (OSError, ValueError) as error:
            raise PipelineError(f"{folder} is damaged ({error}): copy the model's whole folder again") from error

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self._vectors.shape[1]

    def nearest(self, vector: np.ndarray, count: int) -> list[Work]:
        """The `count` works that are most similar to a unit `vector` [width] float32, best first; ties by object_id.

        Exact: every work is compared.
        """
        similarities = self._vectors @ vector
        count = min(count, len(similarities))
        if not count:
            return []
        least = np.partition(similarities, -count)[-count]
        candidates = np.flatnonzero(similarities >= least)
        best = candidates[np.argsort(-similarities[candidates], kind="stable")][:count]
        return [self._work(int(row), float(similarities[row])) for row in best]

    def _work(self, row: int, similarity: float) -> Work:
        (line, jpeg), (line_end, jpeg_end) = self._places[row], self._places[row + 1]
        about = json.loads(self._lines[line:line_end])
        return Work(about, round(max(-1.0, min(1.0, similarity)), 6), bytes(self._jpegs[jpeg:jpeg_end]))


def bytes_in_memory(directory: str) -> int:
    """What `load` would take of the works beside the classifier at a path or URI; 0 if it has none."""
    uri = storage.join(directory, FOLDER, VECTORS)
    return 2 * storage.size(uri) if storage.exists(uri) else 0


def load(directory: str) -> Works | None:
    """The works beside the classifier in `directory`, a path or URI; None if it was trained by a release without them.

    Raises:
        PipelineError: they are damaged.
        storage.StorageError: they cannot be read.
    """
    path = storage.local_path(directory)
    if path is not None:
        return Works(os.path.join(path, FOLDER)) if os.path.isdir(os.path.join(path, FOLDER)) else None
    with tempfile.TemporaryDirectory(prefix="works-") as copy:
        download(directory, copy)
        return load(copy)


def download(uri: str, directory: str) -> None:
    """Copies the works of the classifier at `uri` into the local `directory`, if it has any. Raises as `load` does."""
    place = storage.join(uri, FOLDER)
    if storage.exists(storage.join(place, PLACES)):
        os.makedirs(os.path.join(directory, FOLDER), exist_ok=True)
        names = (VECTORS, LINES, JPEGS, PLACES)
        storage.download_all([(storage.join(place, name), os.path.join(directory, FOLDER, name)) for name in names])


def _thumbnail(jpeg: bytes) -> bytes:
    pixels = imaging.decode(jpeg, THUMBNAIL_SIDE)
    height, width = pixels.shape[:2]
    scale = THUMBNAIL_SIDE / max(height, width)
    if scale < 1:
        pixels = imaging.resize(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
    return imaging.encode_jpeg(pixels, 75)


def _mapped(path: str) -> mmap.mmap | bytes:
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.path.getsize(path) else b""
