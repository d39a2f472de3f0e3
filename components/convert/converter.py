"""One shard of images to one file of records per split, and an index of them."""

import hashlib
import os
import tarfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from components.shared import hashing, records, storage
from components.shared.errors import PipelineError
from components.shared.progress import Progress

LOG_NAME = "fetch-log.parquet"
OK = "ok"
# Statuses that arise here; all others come from the fetch step.
CORRUPT = "corrupt_in_shard"
MISSING = "missing_in_shard"

# What the index says about a picture beyond the columns of its object; empty for a picture that failed.
_MEASURED = pa.schema(
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
# Columns of the fetch log that are about the download, not about the object.
_DOWNLOAD_COLUMNS = {"http_status", "attempts", "bytes", "width", "height", "seconds", "sha256", "status", "message"}


@dataclass(frozen=True)
class ConvertSummary:
    """What became of a shard: objects in it, records written, pictures that failed, bytes of the record files."""

    shard: str
    objects: int
    records: int
    failed: int
    bytes: int

    def metadata(self) -> dict[str, Any]:
        """Metadata of the records artifact."""
        return asdict(self)

    def __str__(self) -> str:
        return f"shard {self.shard}: {self.records} records of {self.objects} objects, {self.failed} failed"


def convert_shard(shard: str, images_dir: str, records_dir: str, records_uri: str, index_path: str) -> ConvertSummary:
    """Writes `<split>-<shard>.tfrecord` into `records_dir`, and a row for each object of the shard to `index_path`.

    A picture that failed at fetch, is not in the shard or does not decode gets a row with its reason and no record.

    Raises:
        PipelineError: the shard of images is missing, cut off, or no tar file.
    """
    log = _read_log(images_dir)
    rows = {row["object_id"]: row for row in log.to_pylist()}
    results = {object_id: _failure(row) for object_id, row in rows.items()}
    os.makedirs(records_dir, exist_ok=True)
    progress = Progress(len(rows), "images")
    size = 0
    with ExitStack() as stack:
        writers: dict[str, records.RecordWriter] = {}
        for object_id, encoded in _pictures(os.path.join(images_dir, f"images-{shard}.tar")):
            row = rows.get(object_id)
            progress.update()
            if row is None or row["status"] != OK:
                continue
            try:
                record, looks = _record(row, encoded)
            except ValueError as error:
                results[object_id] = {**_failure(row), "status": CORRUPT, "message": str(error)}
                continue
            name = f"{row['split']}-{shard}.tfrecord"
            if name not in writers:
                writers[name] = stack.enter_context(records.RecordWriter(os.path.join(records_dir, name)))
            span = writers[name].write(records.encode(record))
            results[object_id] = _success(row, record, looks, storage.join(records_uri, name), span)
            size += len(encoded)
    _add_hashes([result for result in results.values() if result["status"] == OK])
    _write_index(log, results, index_path)
    written = sum(result["status"] == OK for result in results.values())
    return ConvertSummary(shard, len(rows), written, len(rows) - written, size)


def _read_log(images_dir: str) -> pa.Table:
    try:
        return pq.read_table(os.path.join(images_dir, LOG_NAME))
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"cannot read {LOG_NAME} in {images_dir}: run the fetch step again ({error})") from error


def _pictures(path: str) -> Iterator[tuple[str, bytes]]:
    """Object id and JPEG of each picture in the tar file `path`, in order."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                # tarfile remembers every member that it met: memory would grow with the shard.
                tar.members = []
                object_id, extension = os.path.splitext(member.name)
                if extension == ".jpg":
                    yield object_id, tar.extractfile(member).read()
    except (OSError, tarfile.TarError) as error:
        raise PipelineError(f"cannot read {path}: {error}; run the fetch step again") from error


def _record(row: dict[str, Any], encoded: bytes) -> tuple[records.Record, bytes]:
    """The record of a picture, and its thumbnail. Raises ValueError if the picture does not decode."""
    height, width, *_ = simplejpeg.decode_jpeg_header(encoded)
    looks = hashing.thumbnail(encoded)
    record = records.Record(
        object_id=row["object_id"],
        label=row["label"],
        label_index=row["label_index"],
        encoded=encoded,
        height=height,
        width=width,
        sha256=hashlib.sha256(encoded).hexdigest(),
        source_sha256=row["sha256"] or "",
    )
    return record, looks


def _failure(row: dict[str, Any]) -> dict[str, Any]:
    status = MISSING if row["status"] == OK else row["status"]
    message = "the fetch log names it, the image shard lacks it" if row["status"] == OK else row["message"]
    return {
        "status": status,
        "message": message,
        "sha256": row["sha256"],
        "original_width": row["width"],
        "original_height": row["height"],
    }


def _success(row: dict[str, Any], record: records.Record, looks: bytes, uri: str, span: records.Span) -> dict[str, Any]:
    return {
        **_failure(row),
        "status": OK,
        "message": "",
        "encoded_sha256": record.sha256,
        "thumbnail": looks,
        "width": record.width,
        "height": record.height,
        "bytes": len(record.encoded),
        "record_uri": uri,
        "position": span.position,
        "offset": span.offset,
        "length": span.length,
    }


def _add_hashes(results: list[dict[str, Any]]) -> None:
    """All at once: numpy costs more a call than a picture."""
    hashes = hashing.perceptual_hashes(hashing.lumas([result["thumbnail"] for result in results]))
    for result, value in zip(results, hashes.tolist()):
        result["phash"] = value


def _write_index(log: pa.Table, results: dict[str, dict[str, Any]], path: str) -> None:
    objects = log.select([name for name in log.column_names if name not in _DOWNLOAD_COLUMNS])
    ordered = [results[object_id] for object_id in log["object_id"].to_pylist()]
    measured = pa.Table.from_pylist(ordered, schema=_MEASURED)
    table = objects
    for name in measured.column_names:
        table = table.append_column(measured.schema.field(name), measured[name])
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    pq.write_table(table, f"{path}.partial")
    os.replace(f"{path}.partial", path)
