"""One shard of images to one file of records per split, and an index of them."""

import hashlib
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import simplejpeg

from components.artifacts import index, records
from components.artifacts.image_shard import OK, Images, open_log, tar_name
from components.shared import parquet
from components.shared.progress import Progress
from components.shared.storage import storage

_BATCH = 1024  # rows in memory at a time


@dataclass(frozen=True)
class ConvertSummary:
    """What became of a shard: objects in it, records written, images that failed, bytes of the record files."""

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

    Log and tar of a shard have the same order and are read side by side, so memory does not grow with the shard. A
    image that failed at fetch, is not in the shard or has changed since gets a row with its reason and no record. No
    image is decoded: fetch did, and its checksum says that these are the same bytes.

    Raises:
        PipelineError: the shard of images is missing, cut off, no tar file, or not the one that its log describes.
    """
    # pyarrow's own allocator keeps what it freed: 30 MB for 100,000 images.
    pa.set_memory_pool(pa.system_memory_pool())
    log = open_log(images_dir)
    os.makedirs(records_dir, exist_ok=True)
    progress = Progress(log.metadata.num_rows, "images")
    with ExitStack() as stack:
        images = stack.enter_context(Images(os.path.join(images_dir, tar_name(shard))))
        records_ = _Records(shard, records_dir, records_uri, stack)
        writer = stack.enter_context(index.opened(index_path, log.schema_arrow))
        for batch in parquet.batches(log, _BATCH):
            writer.write(batch, [_convert(row, images, records_) for row in batch.to_pylist()])
            progress.update(batch.num_rows)
        images.expect_end()
    rows = log.metadata.num_rows
    return ConvertSummary(shard, rows, records_.count, rows - records_.count, records_.bytes)


def _convert(row: dict[str, Any], images: Images, records_: "_Records") -> dict[str, Any]:
    """One object: writes its record if there is an image; returns the values of index.MEASURED (without phash)."""
    encoded = images.take(row["object_id"])
    if row["status"] != OK:
        return _failure(row, row["status"], row["message"])
    if encoded is None:
        return _failure(row, index.MISSING, "the fetch log names it, the image shard lacks it")
    sha256 = hashlib.sha256(encoded).hexdigest()
    if sha256 != row["encoded_sha256"]:
        return _failure(row, index.CORRUPT, "the picture is not the one that was fetched: its checksum differs")
    height, width, *_ = simplejpeg.decode_jpeg_header(encoded)
    record = records.Record(
        object_id=row["object_id"],
        label=row["label"],
        label_index=row["label_index"],
        encoded=encoded,
        height=height,
        width=width,
        sha256=sha256,
        source_sha256=row["sha256"] or "",
    )
    uri, span = records_.write(row["split"], record)
    return {
        **_failure(row, OK, row["message"]),
        "encoded_sha256": sha256,
        "thumbnail": row["thumbnail"],
        "width": width,
        "height": height,
        "bytes": len(encoded),
        "record_uri": uri,
        "position": span.position,
        "offset": span.offset,
        "length": span.length,
    }


def _failure(row: dict[str, Any], status: str, message: str) -> dict[str, Any]:
    return {
        "status": status,
        "message": message,
        "sha256": row["sha256"],
        "original_width": row["width"],
        "original_height": row["height"],
    }


class _Records:
    """The record files of a shard, one per split, made when its first record comes."""

    def __init__(self, shard: str, folder: str, uri: str, stack: ExitStack) -> None:
        self._shard, self._folder, self._uri, self._stack = shard, folder, uri, stack
        self._writers: dict[str, records.RecordWriter] = {}
        self.count = self.bytes = 0

    def write(self, split: str, record: records.Record) -> tuple[str, records.Span]:
        """Writes the record to its split's file; returns the file's URI and where the record lies in it."""
        name = records.file_name(split, self._shard)
        if name not in self._writers:
            path = os.path.join(self._folder, name)
            self._writers[name] = self._stack.enter_context(records.RecordWriter(path))
        self.count += 1
        self.bytes += len(record.encoded)
        return storage.join(self._uri, name), self._writers[name].write(records.encode(record))
