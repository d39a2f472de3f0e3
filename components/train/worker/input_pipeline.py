"""Batches from the record shards, in an order that depends on the seed alone.

The order of an epoch is one permutation of the whole split, and any batch of it can be had at once: record files are
copied to local disk, mapped into memory, and read at random. So a resumed run starts at its step without reading what
it has seen, and any number of workers (more than files, too) share the same batches: each takes its part of every one.
"""

import dataclasses
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.artifacts import records
from components.artifacts.dataset import DatasetInfo, RecordFile
from components.shared.errors import PipelineError
from components.shared.progress import Progress
from components.shared.storage import storage

COPIED_TOGETHER = 16  # record files between two lines of progress


@dataclass(frozen=True)
class Examples:
    """The examples of a split, in the order of their files.

    Attributes:
        labels: [n] int32, class indexes.
        sizes: [n, 2] int32, height and width in pixels of the stored images.
        files, offsets, lengths: [n] int, where the encoded image lies; `maps` are the open files.
        ids: [n] object, the object_ids.
    """

    labels: np.ndarray
    sizes: np.ndarray
    files: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    maps: tuple[mmap.mmap, ...]
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: np.ndarray) -> "Examples":
        """The examples of these `rows` [m], in their order."""
        return dataclasses.replace(
            self,
            labels=self.labels[rows],
            sizes=self.sizes[rows],
            files=self.files[rows],
            offsets=self.offsets[rows],
            lengths=self.lengths[rows],
            ids=self.ids[rows],
        )

    def encoded(self, index: int) -> bytes:
        """The stored JPEG of the example `index`."""
        start = self.offsets[index]
        return self.maps[self.files[index]][start : start + self.lengths[index]]


def load(info: DatasetInfo, split: str, folder: str, check: Callable[[str], None] = lambda doing: None) -> Examples:
    """The examples of `split`; remote record files are copied into the local `folder`, excluded objects are skipped.

    `check` is called between files, with what is being done; it may raise to stop.

    Raises:
        PipelineError: a record file is missing or damaged, or the split is empty.
    """
    part = info.splits.get(split)
    if part is None or not part.examples:
        raise PipelineError(
            f"the data set has no examples in its {split} split: raise its fraction or the number of objects"
        )
    excluded = info.excluded_ids(split)
    every = load_all(info, split, folder, check)
    kept = [row for row, name in enumerate(every.ids) if name not in excluded]
    if not kept:
        raise PipelineError(f"all examples of the {split} split are excluded: see the data report")
    return every if len(kept) == len(every) else every.subset(np.array(kept))


def load_all(info: DatasetInfo, split: str, folder: str, check: Callable[[str], None] = lambda doing: None) -> Examples:
    """As `load`, with those that are excluded, and perhaps none at all."""
    part_files = info.splits[split].files if split in info.splits else ()
    rows: list[tuple[int, int, int, int, int, int]] = []
    ids: list[str] = []
    maps = []
    progress = Progress(sum(file.records for file in part_files), f"{split} records read")
    for number, path in enumerate(_local_copies(part_files, split, folder, check)):
        check("reading record files")
        maps.append(_map(path))
        for record, offset in _scan(maps[-1], part_files[number].uri):
            progress.update()
            ids.append(record.object_id)
            rows.append((record.label_index, record.height, record.width, number, offset, len(record.encoded)))
    columns = np.array(rows, np.int64).reshape(-1, 6)
    files, offsets, lengths = columns[:, 3:].T
    labels, sizes = columns[:, 0].astype(np.int32), columns[:, 1:3].astype(np.int32)
    return Examples(labels, sizes, files, offsets, lengths, tuple(maps), np.array(ids, object))


def _local_copies(
    files: tuple[RecordFile, ...], split: str, folder: str, check: Callable[[str], None]
) -> list[str]:  # fmt: skip
    """A local path of each file; those that are remote are copied into `folder`, several side by side."""
    paths = [storage.local_path(file.uri) or _copy_path(folder, number, file) for number, file in enumerate(files)]
    missing = [
        (file.uri, path)
        for file, path in zip(files, paths, strict=True)
        if storage.local_path(file.uri) is None and not _has_size(path, file.bytes)
    ]
    os.makedirs(folder, exist_ok=True)
    progress = Progress(len(missing), f"{split} files copied")
    for start in range(0, len(missing), COPIED_TOGETHER):
        check("copying record files")
        together = missing[start : start + COPIED_TOGETHER]
        storage.download_all(together)
        progress.update(len(together))
    return paths


def _copy_path(folder: str, number: int, file: RecordFile) -> str:
    # The number keeps files of one name but of different folders apart.
    return os.path.join(folder, f"{number}-{file.uri.rsplit('/', 1)[-1]}")


def _has_size(path: str, size: int) -> bool:
    return os.path.isfile(path) and os.path.getsize(path) == size


def _map(path: str) -> mmap.mmap:
    if not Path(path).is_file():
        raise PipelineError(f"the record file {path} is missing: run the convert step again")
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _scan(content: mmap.mmap, uri: str) -> Iterator[tuple[records.Record, int]]:
    """The records of a file with the offset of their encoded image in it; checksums are verified."""
    content.seek(0)
    for span, payload in records.read_payloads(content, uri):
        try:
            record = records.decode(payload)
        except records.RecordError as error:
            raise records.RecordError(f"{uri}: record {span.position} (at byte {span.offset}): {error}") from error
        yield record, span.offset + payload.index(record.encoded)


@dataclass(frozen=True)
class Order:
    """Which examples make up which batch.

    Attributes:
        labels: [n] class indexes of the split.
        batch_size: examples of a step, over all replicas.
        seed: of the permutations; None keeps the order of the files (evaluation).
        balanced: draw classes equally often; an epoch still has n examples.
    """

    labels: np.ndarray
    batch_size: int
    seed: int | None = None
    balanced: bool = False

    @property
    def steps(self) -> int:
        """Batches of an epoch; the last is filled up with examples of weight 0."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, number: int) -> np.ndarray:
        """[n] int64: the examples of the epoch `number`, in order; each once, unless balanced."""
        if self.seed is None:
            return np.arange(len(self.labels))
        generator = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        shuffled = generator.permutation(len(self.labels))
        return self._balance(shuffled, generator) if self.balanced else shuffled

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Examples [batch_size] int64 of the step (over all epochs), and which of them count, [batch_size] bool."""
        epoch, position = divmod(step, self.steps)
        order = self._cached(epoch)
        places = np.arange(position * self.batch_size, (position + 1) * self.batch_size)
        return order[places % len(order)], places < len(order)

    def _cached(self, epoch: int) -> np.ndarray:
        cache = self.__dict__
        if cache.get("_epoch") != epoch:
            object.__setattr__(self, "_order", self.epoch(epoch))
            object.__setattr__(self, "_epoch", epoch)
        return cache["_order"]

    def _balance(self, shuffled: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """As many draws of each class: small ones repeat, large ones give a part, all in `shuffled` order."""
        members = [shuffled[self.labels[shuffled] == label] for label in np.unique(self.labels)]
        each = -(-len(shuffled) // len(members))
        draws = np.stack([np.resize(examples, each) for examples in members], axis=1).ravel()
        return generator.permutation(draws)[: len(shuffled)]


def class_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """[classes] float32 loss weights inverse to the class frequencies; their mean over the examples is 1."""
    counts = np.bincount(labels, minlength=classes)
    present = np.maximum(counts, 1)
    return (len(labels) / (np.count_nonzero(counts) * present)).astype(np.float32)
