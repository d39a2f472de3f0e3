"""Single images out of the record files, wherever these lie."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from components.artifacts import records
from components.shared.storage import storage

# Reads from a remote store wait for its answer: so many at a time.
_THREADS = 16


def read_pictures(examples: pa.Table, rows: Sequence[int]) -> list[bytes]:
    """The JPEGs of `rows` of `examples` (columns record_uri, offset, length), each by one ranged read.

    Raises:
        PipelineError: a record file cannot be read, or does not hold the image where the index says.
    """
    chosen = examples.select(["object_id", "record_uri", "offset", "length"]).take(pa.array(rows, pa.int64()))
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_read, chosen.to_pylist()))


def _read(row: dict) -> bytes:
    try:
        record = records.decode(storage.read_bytes(row["record_uri"], row["offset"], row["length"]))
    except records.RecordError as error:
        raise records.RecordError(f"{row['record_uri']}: record at byte {row['offset']}: {error}") from error
    if record.object_id != row["object_id"]:
        raise records.RecordError(
            f"{row['record_uri']}: at byte {row['offset']} is object {record.object_id}, not {row['object_id']}"
        )
    return record.encoded
