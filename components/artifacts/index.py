"""The index of a shard of records: a row for each object of the shard, with or without a record.

convert writes it; assemble reads the indexes of all shards. It has the columns of objects.parquet, and

    status          string  OK (see image_shard), a reason of the fetch, CORRUPT or MISSING
    message         string  of the failure, for a person
    sha256          string  of the original
    encoded_sha256  string  of the stored JPEG
    phash           uint64  perceptual hash: see components.shared.hashing
    thumbnail       binary  384 bytes: see components.shared.hashing
    width, height   int32   of the stored image, in pixels
    original_width, original_height   int32   of the original
    bytes           int64   of the stored JPEG
    record_uri      string  the record file that has it
    position        int64   its ordinal in that file, from 0
    offset, length  int64   where its payload lies in that file, in bytes

Everything after `message` but the original's columns is null where there is no record. Its metadata say under
image_shard.PARAMETERS what the fetch log says there.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts.image_shard import LOG_COLUMNS, OK, PARAMETERS
from components.shared import hashing
from components.shared.errors import PipelineError
from components.shared.storage import storage

CORRUPT = "corrupt_in_shard"  # the image is not the one that was fetched
MISSING = "missing_in_shard"  # the log names it, the tar lacks it
MEASURED = pa.schema(
    [
        ("status", pa.string()),
        ("message", pa.string()),
        ("sha256", pa.string()),
        ("encoded_sha256", pa.string()),
        ("phash", pa.uint64()),
        ("thumbnail", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("bytes", pa.int64()),
        ("record_uri", pa.string()),
        ("position", pa.int64()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)


class IndexWriter:
    """Writes the rows of an index; `opened` makes one."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._file, self._schema = file, schema
        self._columns = schema.names[: -len(MEASURED)]

    def write(self, batch: pa.RecordBatch, results: list[dict[str, Any]]) -> None:
        """Adds the objects of `batch`, rows of the log, with what became of each: values of MEASURED without phash."""
        found = [result for result in results if result["status"] == OK]
        # All at once: numpy costs more a call than an image.
        hashes = hashing.perceptual_hashes(hashing.lumas([result["thumbnail"] for result in found]))
        for result, value in zip(found, hashes.tolist()):
            result["phash"] = value
        measured = pa.RecordBatch.from_pylist(results, schema=MEASURED)
        objects = [batch.column(name) for name in self._columns]
        self._file.write_batch(pa.record_batch([*objects, *measured.columns], schema=self._schema))


@contextmanager
def opened(path: str, log: pa.Schema) -> Iterator[IndexWriter]:
    """A writer of the local file `path`, which appears only when it is whole; `log` is the fetch log's schema."""
    objects = [field for field in log if field.name not in LOG_COLUMNS]
    written = {PARAMETERS: (log.metadata or {}).get(PARAMETERS, b"{}")}
    schema = pa.schema([*objects, *MEASURED], metadata=written)
    with storage.replacing(path) as partial, pq.ParquetWriter(partial, schema) as file:
        yield IndexWriter(file, schema)


def parameters(path: str) -> dict[str, Any]:
    """The parameters with which the images of the index `path` were fetched; empty if it does not say."""
    return json.loads((pq.read_schema(path).metadata or {}).get(PARAMETERS, b"{}"))


def read(paths: Sequence[str]) -> pa.Table:
    """All rows of the indexes, sorted by object id, so that nothing depends on the order of arrival.

    Raises:
        PipelineError: there is no index, or an object is in two of them.
    """
    if not paths:
        raise PipelineError("there is no index to assemble: no shard was converted")
    table = pa.concat_tables([pq.read_table(path) for path in paths], promote_options="permissive")
    table = table.sort_by("object_id")
    ids = table["object_id"].to_pylist()
    twice = sorted({this for this, other in zip(ids, ids[1:]) if this == other})
    if twice:
        raise PipelineError(f"{len(twice)} objects are in two indexes, such as {twice[0]}: was a shard passed twice?")
    return table
