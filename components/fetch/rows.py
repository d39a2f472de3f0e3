"""The objects of one shard, streamed from `objects.parquet` in their order."""

import datetime
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import objects
from components.shared import parquet
from components.shared.errors import PipelineError

_BATCH = 1024
_OBJECT_ID = re.compile(r"[A-Za-z0-9._-]+")
# On BigQuery `table` is no path.
_SOURCES_WITH_PATHS = ("table", "folder", "met", "iiif", "webdataset")
_NEEDED = ("object_id", "image_uri", "shard")


@dataclass(frozen=True)
class Row:
    """One object: its ordinal in the shard, its columns as JSON, and a hash of them that tells whether it changed."""

    ordinal: int
    key: str  # 16 hexadecimal digits
    text: str


class Rows:
    """The rows of `shard` (`00003-of-00016`).

    Attributes:
        shards: Shards of the whole collection.
        total: Objects of the whole collection.
        rate: Images per second that the collection's host is asked for at most; 0 for no limit of its own.
        named: Paths and URIs of the collection that the user typed, as the query step wrote them down.

    Raises:
        PipelineError: the shard's name or the table is not what the query step writes.
    """

    def __init__(self, path: str, shard: str) -> None:
        self._shard, self.shards = objects.parse_shard(shard)
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise PipelineError(f"cannot read the objects in {path}: {error}") from error
        self.schema = self._file.schema_arrow
        missing = [name for name in _NEEDED if name not in self.schema.names]
        if missing:
            raise PipelineError(f"{path} has no column {', '.join(missing)}; it has {', '.join(self.schema.names)}")
        self.named = _named(self._file.metadata.metadata)
        stated = objects.selection(self._file.metadata.metadata)["parameters"].get("collection") or {}
        self.rate = float(stated.get("rate") or 0)
        self.total = self._file.metadata.num_rows
        self.count, self.digest = self._measure()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The shard's rows, at most _BATCH at a time."""
        groups = [group for group in range(self._file.num_row_groups) if self._may_hold(group)]
        for batch in parquet.batches(self._file, _BATCH, groups=groups):
            # Slices and lists, because pyarrow's kernels and its to_numpy (pandas) take 40 MB each.
            mine = np.flatnonzero(np.array(batch["shard"].to_pylist()) == self._shard)
            for run in np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1):
                if len(run):
                    yield batch.slice(run[0], len(run))

    def __iter__(self) -> Iterator[Row]:
        ordinal = 0
        for batch in self.batches():
            for columns in batch.to_pylist():
                yield _row(ordinal, columns)
                ordinal += 1

    def _may_hold(self, group: int) -> bool:
        index = self._file.schema_arrow.get_field_index("shard")
        statistics = self._file.metadata.row_group(group).column(index).statistics
        return not statistics or not statistics.has_min_max or statistics.min <= self._shard <= statistics.max

    def _measure(self) -> tuple[int, str]:
        digest, count = hashlib.sha256(), 0
        previous = None
        for row in self:
            object_id = json.loads(row.text)["object_id"]
            if not _OBJECT_ID.fullmatch(object_id or ""):
                raise PipelineError(f"object_id {object_id!r} has characters other than letters, digits and . _ -")
            if object_id == previous:
                raise PipelineError(f"object_id {object_id} occurs twice")
            previous = object_id
            digest.update(row.key.encode())
            count += 1
        return count, digest.hexdigest()


def _named(metadata: dict[bytes, bytes] | None) -> tuple[str, ...]:
    """Paths and URIs among the query's parameters; none in a table that the query step did not write."""
    parameters = objects.selection(metadata)["parameters"]
    inside = parameters.get("inside")  # the query step wrote it, and what is there, itself
    typed = ("table", "images_table") if parameters.get("source") in _SOURCES_WITH_PATHS else ()
    return tuple(filter(None, (inside, *map(parameters.get, typed))))


def _row(ordinal: int, columns: dict) -> Row:
    text = json.dumps(columns, ensure_ascii=False, sort_keys=True, default=_plain)
    return Row(ordinal, hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), text)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, (datetime.date, datetime.datetime)) else str(value)
