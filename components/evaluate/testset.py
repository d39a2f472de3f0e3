"""The test split: its images in order, what is known about each, and single images for the report."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from components.artifacts import dataset, objects, records
from components.artifacts.dataset import DatasetInfo
from components.shared.errors import PipelineError
from components.shared.storage import storage

SPLIT = "test"
_WANTED = (
    *("object_id", "label", "label_index", *objects.ABOUT, "group"),
    *("original_width", "original_height", "record_uri", "offset", "length"),
)
_SIZES = ((300, "under 300 px"), (600, "300 to 599 px"), (1200, "600 to 1,199 px"))


@dataclass(frozen=True)
class TestSet:
    """The test split of a data set of n images; all lists are in reading order.

    Attributes:
        rows: one dictionary of the index's columns for each image.
    """

    __test__ = False  # a name that pytest would take for tests

    path: str
    info: DatasetInfo
    object_ids: list[str]
    targets: np.ndarray
    rows: list[dict]

    @property
    def labels(self) -> tuple[str, ...]:
        """The data set's labels, in the order of the class indexes."""
        return self.info.labels

    def __len__(self) -> int:
        return len(self.object_ids)

    def batches(self, size: int) -> Iterator[list[bytes]]:
        """The encoded images, `size` at a time: the split need not fit into memory."""
        batch: list[bytes] = []
        for example, expected in zip_longest(dataset.read_examples(self.path, SPLIT), self.object_ids):
            if example is None or example.object_id != expected:
                raise PipelineError(
                    f"{dataset.EXAMPLES} of {self.path} does not fit its record files: run assemble again"
                )
            batch.append(example.encoded)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def pictures(self, indexes: list[int]) -> dict[int, bytes]:
        """The encoded images at `indexes`, read one by one from where the index says they lie."""
        found = {}
        for index in sorted(set(indexes)):
            row = self.rows[index]
            found[index] = _read(row["record_uri"], row["offset"], row["length"])
        return found

    def text(self, index: int, name: str) -> str:
        """One of objects.ABOUT, or the group, of an image; "" if it is not known."""
        return str(self.rows[index].get(name) or "")

    def columns(self) -> dict[str, list[str]]:
        """What the accuracy is broken down by: metadata columns, rights, size of the original image."""
        names = objects.slices(sorted({name for row in self.rows for name in row}))
        found = {
            name.replace("_", " "): [str(row.get(objects.SLICE_PREFIX + name) or "(none)") for row in self.rows]
            for name in names
        }
        found["rights"] = [str(row.get("rights") or "(none)") for row in self.rows]
        found["original size"] = [_size(row) for row in self.rows]
        # The label's own column would repeat the table of classes.
        found = {name: values for name, values in found.items() if values != [row.get("label") for row in self.rows]}
        return {name: values for name, values in found.items() if len(set(values)) > 1}


def load(path: str) -> TestSet:
    """Loads the test split of the data set in the folder `path`.

    Raises:
        PipelineError: the folder is no data set, or its test split is empty; while reading, that the two disagree.
    """
    info = dataset.load(path)
    files = info.splits[SPLIT].files if SPLIT in info.splits else ()
    # From the index, in the order in which `batches` will read the files: so that they are read once.
    numbers = {file.uri: number for number, file in enumerate(files)}
    known = [row for row in _index(path) if row["record_uri"] in numbers]
    rows = sorted(known, key=lambda row: (numbers[row["record_uri"]], row["offset"]))
    ids, targets = [row["object_id"] for row in rows], [row["label_index"] for row in rows]
    if not ids:
        raise PipelineError("the test split is empty: raise test_fraction, or take more objects, and run again")
    return TestSet(path, info, ids, np.array(targets), rows)


def _index(path: str) -> list[dict]:
    filters = [("split", "=", SPLIT), ("kept", "=", True)]
    return dataset.read_index(path, lambda name: name in _WANTED or bool(objects.slices([name])), filters).to_pylist()


def _read(uri: str, offset: int, length: int) -> bytes:
    return records.decode(storage.read_bytes(uri, offset, length)).encoded


def _size(row: dict) -> str:
    shorter = min(row.get("original_width") or 0, row.get("original_height") or 0)
    if not shorter:
        return "(unknown)"
    return next((name for limit, name in _SIZES if shorter < limit), "1,200 px and more")
