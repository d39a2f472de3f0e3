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

from components.artifacts import records
from components.shared import hashing, parquet
from components.shared.errors import PipelineError
from components.shared.progress import Progress
from components.shared.storage import storage

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
_DOWNLOAD_COLUMNS = {
    "http_status", "attempts", "bytes", "width", "height", "seconds", "sha256", "status", "message", "encoded_sha256",
    "thumbnail",
}  # fmt: skip
_BATCH = 1024  # rows in memory at a time


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

    Log and tar of a shard have the same order and are read side by side, so memory does not grow with the shard. A
    picture that failed at fetch, is not in the shard or has changed since gets a row with its reason and no record. No
    picture is decoded: fetch did, and its checksum says that these are the same bytes.

    Raises:
        PipelineError: the shard of images is missing, cut off, no tar file, or not the one that its log describes.
    """
    # pyarrow's own allocator keeps what it freed: 30 MB for 100,000 pictures.
    pa.set_memory_pool(pa.system_memory_pool())
    log = _open_log(images_dir)
    os.makedirs(records_dir, exist_ok=True)
    progress = Progress(log.metadata.num_rows, "images")
    with ExitStack() as stack:
        pictures = _Pictures(os.path.join(images_dir, f"images-{shard}.tar"), stack)
        records_ = _Records(shard, records_dir, records_uri, stack)
        index = stack.enter_context(_Index(index_path, log.schema_arrow))
        for batch in parquet.batches(log, _BATCH):
            index.write(batch, [_convert(row, pictures, records_) for row in batch.to_pylist()])
            progress.update(batch.num_rows)
        pictures.expect_end()
    rows = log.metadata.num_rows
    return ConvertSummary(shard, rows, records_.count, rows - records_.count, records_.bytes)


def _convert(row: dict[str, Any], pictures: "_Pictures", records_: "_Records") -> dict[str, Any]:
    """One object: writes its record if there is a picture; returns the values of _MEASURED (without phash)."""
    encoded = pictures.take(row["object_id"])
    if row["status"] != OK:
        return _failure(row, row["status"], row["message"])
    if encoded is None:
        return _failure(row, MISSING, "the fetch log names it, the image shard lacks it")
    sha256 = hashlib.sha256(encoded).hexdigest()
    if sha256 != row["encoded_sha256"]:
        return _failure(row, CORRUPT, "the picture is not the one that was fetched: its checksum differs")
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


def _open_log(images_dir: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(os.path.join(images_dir, LOG_NAME))
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"cannot read {LOG_NAME} in {images_dir}: run the fetch step again ({error})") from error


class _Pictures:
    """The pictures of a tar file, taken one after the other."""

    def __init__(self, path: str, stack: ExitStack) -> None:
        self._path = path
        self._entries = self._read(path, stack)
        self._next = next(self._entries, None)

    def take(self, object_id: str) -> bytes | None:
        """The object's JPEG if it comes next in the tar, which then goes on; else None."""
        if self._next is None or self._next[0] != object_id:
            return None
        picture = self._next[1]
        self._next = next(self._entries, None)
        return picture

    def expect_end(self) -> None:
        """Raises PipelineError if pictures are left that no row asked for."""
        if self._next is not None:
            raise PipelineError(
                f"{self._path} and the {LOG_NAME} beside it are of different fetches ({self._next[0]} is not where the "
                "log has it): run the fetch step again"
            )

    @staticmethod
    def _read(path: str, stack: ExitStack) -> Iterator[tuple[str, bytes]]:
        try:
            tar = stack.enter_context(tarfile.open(path))
            for member in tar:
                # tarfile remembers every member that it met: memory would grow with the shard.
                tar.members = []
                object_id, extension = os.path.splitext(member.name)
                if extension == ".jpg":
                    yield object_id, tar.extractfile(member).read()
        except (OSError, tarfile.TarError) as error:
            raise PipelineError(f"cannot read {path}: {error}; run the fetch step again") from error


class _Records:
    """The record files of a shard, one a split, made when its first record comes."""

    def __init__(self, shard: str, folder: str, uri: str, stack: ExitStack) -> None:
        self._shard, self._folder, self._uri, self._stack = shard, folder, uri, stack
        self._writers: dict[str, records.RecordWriter] = {}
        self.count = self.bytes = 0

    def write(self, split: str, record: records.Record) -> tuple[str, records.Span]:
        """Writes the record to its split's file; returns the file's URI and where the record lies in it."""
        name = f"{split}-{self._shard}.tfrecord"
        if name not in self._writers:
            path = os.path.join(self._folder, name)
            self._writers[name] = self._stack.enter_context(records.RecordWriter(path))
        self.count += 1
        self.bytes += len(record.encoded)
        return storage.join(self._uri, name), self._writers[name].write(records.encode(record))


class _Index:
    """Writes the index; it appears under its name only when it is whole."""

    def __init__(self, path: str, log: pa.Schema) -> None:
        self._path = path
        self._columns = [name for name in log.names if name not in _DOWNLOAD_COLUMNS]
        fields = [log.field(name) for name in self._columns]
        self._schema = pa.schema([*fields, *_MEASURED])
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        self._writer = pq.ParquetWriter(f"{path}.partial", self._schema)

    def write(self, batch: pa.RecordBatch, results: list[dict[str, Any]]) -> None:
        """Adds the objects of `batch`, with what became of each."""
        found = [result for result in results if result["status"] == OK]
        # All at once: numpy costs more a call than a picture.
        hashes = hashing.perceptual_hashes(hashing.lumas([result["thumbnail"] for result in found]))
        for result, value in zip(found, hashes.tolist()):
            result["phash"] = value
        measured = pa.RecordBatch.from_pylist(results, schema=_MEASURED)
        objects = [batch.column(name) for name in self._columns]
        self._writer.write_batch(pa.record_batch([*objects, *measured.columns], schema=self._schema))

    def __enter__(self) -> "_Index":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._writer.close()
        if kind is None:
            os.replace(f"{self._path}.partial", self._path)
        else:
            os.unlink(f"{self._path}.partial")
