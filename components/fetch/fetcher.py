"""One shard of objects to one shard of images: `images-<shard>.tar` and `fetch-log.parquet`."""

import base64
import collections
import contextlib
import io
import json
import os
import shutil
import tarfile
import time
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from components.artifacts.image_shard import LOG_COLUMNS, LOG_NAME, MADE_BY, OK, PARAMETERS, log_schema, tar_name
from components.fetch import parts, pool
from components.fetch.failure import UNREACHABLE, is_lifted, may_pass, passes_soon
from components.fetch.outcome import Outcome
from components.fetch.rows import Row, Rows
from components.fetch.settings import Limits, Settings, ShardSettings
from components.shared import parquet
from components.shared.cores import available_cores
from components.shared.errors import PipelineError, TransientError
from components.shared.progress import Progress
from components.shared.storage import storage

# Shards that pipeline.py lets run at the same time; processes of one shard, each of some 95 MB.
_SIDE_BY_SIDE = _MOST_PROCESSES = 8
# Share of a shard's images whose host cannot be reached: then it is down, also for the other shards.
_MOST = 0.5
_SUMMED = ["status", "bytes", "message", "image_uri"]
# A part's line has the thumbnail in base64.
_LINE_SCHEMA = pa.schema([it.with_type(pa.string()) if it.name == "thumbnail" else it for it in log_schema()])


class FetchError(PipelineError):
    """Too many images could not be had."""


class HostTrouble(FetchError, TransientError):
    """Too many images could not be had now: without those that may come in a few minutes it would not be too many."""


@dataclass(frozen=True)
class FetchSummary:
    """The result of one shard's fetch. `bytes` counts originals; `seconds` and `resumed` are about this attempt."""

    shard: str
    objects: int
    reasons: dict[str, int] = field(default_factory=dict)  # of those that failed, commonest first
    bytes: int = 0
    seconds: float = 0.0
    resumed: int = 0  # objects that an earlier attempt had finished
    example: str = ""  # message of one object with the commonest reason

    @property
    def failed(self) -> int:
        """Objects without an image."""
        return sum(self.reasons.values())

    @property
    def images_per_second(self) -> float:
        """Objects that this attempt finished, a second."""
        return (self.objects - self.resumed) / self.seconds if self.seconds else 0.0

    def metadata(self) -> dict[str, float | int | str]:
        """Plain values for the artifact's metadata."""
        numbers = {
            "objects": self.objects,
            "ok": self.objects - self.failed,
            "failed": self.failed,
            "bytes": self.bytes,
        }
        rates = {"seconds": round(self.seconds, 2), "images_per_second": round(self.images_per_second, 1)}
        return {**numbers, **rates, **{f"failed_{reason}": count for reason, count in self.reasons.items()}}

    def __str__(self) -> str:
        text = f"shard {self.shard}: {self.objects - self.failed} of {self.objects} pictures, {self.bytes / 1e6:.1f} MB"
        text += f", {self.seconds:.1f} s, {self.images_per_second:.0f} pictures/s"
        if self.resumed:
            text += f"; {self.resumed} were there from an earlier attempt"
        return text + (f"; {self.failed} failed: {_counted(self.reasons)}" if self.failed else "")


def fetch_shard(
    shard: str, objects_path: str, output_dir: str, output_uri: str, settings: Settings, limits: Limits = Limits()
) -> FetchSummary:
    """Fetches the images of `shard` into `output_dir`; continues what an earlier attempt began.

    Args:
        shard: Name of the shard, such as 00003-of-00016.
        objects_path: objects.parquet of the query step.
        output_dir: Local folder for the shard's tar and log.
        output_uri: Where the folder will be stored. If that is remote, finished parts are kept beside it, because a
            retried pod starts with an empty disk.

    Raises:
        FetchError: so many images could not be had that it is more than `max_failed_fraction` of the whole
            collection, whatever the other shards bring; or the host of most of them is down.
        PipelineError: the input is not usable.
        OSError: the disk is full.
    """
    started = time.monotonic()
    # pyarrow's own allocator keeps what it freed: 15 MB for 100,000 rows.
    pa.set_memory_pool(pa.system_memory_pool())
    rows = Rows(objects_path, shard)
    together = min(rows.shards, _SIDE_BY_SIDE)
    # A museum that asks for less than the parameter allows is asked for less.
    slowest = min((rate for rate in (settings.requests_per_second, rows.rate) if rate), default=0.0)
    of_collection = {"named": rows.named, "side_by_side": together, "requests_per_second": slowest}
    own = ShardSettings(**{**vars(settings), **of_collection})
    work = _Work(shard, output_dir, output_uri, own, limits, rows)
    if not work.is_finished():
        work.fetch()
        work.write_log()
    summary = work.summary(time.monotonic() - started)
    if too_many := _too_many(summary, settings.max_failed_fraction, rows.total):
        lasting = sum(count for reason, count in summary.reasons.items() if not passes_soon(reason))
        kind = FetchError if lasting > settings.max_failed_fraction * rows.total else HostTrouble
        raise kind(_failed_text(summary, too_many, work.publish_log()))
    work.finish()
    return summary


class _Work:
    """One shard's folder: `parts/` while it is under way, tar and log when it is done."""

    def __init__(
        self, shard: str, output_dir: str, output_uri: str, settings: ShardSettings, limits: Limits, rows: Rows
    ):
        self._shard, self._settings, self._limits, self._rows = shard, settings, limits, rows
        self._folder, self._uri = output_dir, output_uri
        self._parts_folder = os.path.join(output_dir, "parts")
        self._tar = os.path.join(output_dir, tar_name(shard))
        self._log = os.path.join(output_dir, LOG_NAME)
        remote = bool(output_uri) and storage.local_path(output_uri) is None
        # Beside the artifact, not inside: the next step downloads all that is inside.
        self._parts_uri = (
            storage.join(output_uri.rstrip("/").rpartition("/")[0], f"fetch-parts-{shard}") if remote else ""
        )
        self._fingerprint = parts.fingerprint(settings)
        self._resumed = rows.count
        self._parts: parts.Parts | None = None

    def is_finished(self) -> bool:
        """Whether tar and log are there, made from these very objects, and nothing is worth another try."""
        if not self._made_by():
            return False
        return not any(may_pass(reason) or is_lifted(reason, self._settings) for reason in self.summary(0).reasons)

    def _made_by(self) -> str:
        """Fingerprint of the settings that made tar and log; empty if they are not there, or not of these objects."""
        if not (os.path.exists(self._tar) and os.path.exists(self._log)):
            return ""
        made_by, _, digest = (pq.read_schema(self._log).metadata or {}).get(MADE_BY, b"").decode().partition("-")
        return made_by if made_by.startswith(self._fingerprint) and digest == self._rows.digest else ""

    def fetch(self) -> None:
        """Fetches what no part holds yet."""
        os.makedirs(self._parts_folder, exist_ok=True)
        if made_by := self._made_by():
            self._reopen(made_by)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._tar)  # of other objects or settings: beside the new log it would look finished
        if self._parts_uri:
            parts.download(self._parts_uri, self._parts_folder, self._fingerprint)
        found = parts.Parts(self._parts_folder, self._fingerprint, self._rows.count)
        missing = np.array([not _is_settled(found, row, self._settings) for row in self._rows], bool)
        self._resumed = int(np.count_nonzero(~missing))
        progress = Progress(self._rows.count, "images")
        if self._resumed:
            progress.update(self._resumed, "from an earlier attempt")
        if missing.any():
            self._run_pool(missing, progress)
        self._parts = parts.Parts(self._parts_folder, self._fingerprint, self._rows.count)

    def _reopen(self, made_by: str) -> None:
        """Makes a finished shard a part again: what can have passed, or a parameter allows now, is still missing."""
        writer = parts.PartWriter(self._parts_folder, made_by)
        batches = parquet.batches(pq.ParquetFile(self._log), 256, list(LOG_COLUMNS))
        log = (line for batch in batches for line in batch.to_pylist())
        with tarfile.open(self._tar) as tar:
            members = iter(tar)
            for row, line in zip(self._rows, log, strict=True):
                picture = b""
                if line["status"] == OK:
                    file = tar.extractfile(next(members))
                    picture = file.read() if file else b""
                    next(members)  # the metadata, which are written anew
                writer.add(row.ordinal, row.key, row.text, Outcome(**line, picture=picture))
        writer.close()

    def _run_pool(self, missing: np.ndarray, progress: Progress) -> None:
        count = int(np.count_nonzero(missing))
        processes = min(self._limits.processes or min(available_cores(), _MOST_PROCESSES), max(1, count // 8))
        job = pool.Job(self._settings, self._limits, self._parts_folder, self._parts_uri, processes)
        writer = parts.PartWriter(self._parts_folder, self._fingerprint)

        def crashed(row: Row) -> None:
            writer.add(row.ordinal, row.key, row.text, Outcome("crashed", message="the decoder crashed on it"))
            progress.update()

        rows = (row for row in self._rows if missing[row.ordinal])
        pool.run(job, rows, count, lambda message: progress.update(), crashed, lambda: progress.update(0))
        writer.close()

    def write_log(self) -> None:
        """Writes `fetch-log.parquet`: a row per object, all of the object's columns and what became of it."""
        schema = self._rows.schema
        for field_ in log_schema():
            schema = schema.append(field_)
        schema = schema.with_metadata({MADE_BY: self._identity(), PARAMETERS: self._parameters()})
        ordinal, found = 0, self._parts
        assert found is not None  # fetch() has been called
        with storage.replacing(self._log) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for batch in self._rows.batches():
                lines = b"".join(found.line(ordinal + index) for index in range(batch.num_rows))
                writer.write_batch(pa.record_batch([*batch.columns, *_parsed(lines)], schema=schema))
                ordinal += batch.num_rows

    def finish(self) -> None:
        """Merges the parts to the tar and removes them; does nothing where that was done before."""
        if self._parts is not None:
            parts.write_tar(self._tar, self._parts, self._rows.count)
        shutil.rmtree(self._parts_folder, ignore_errors=True)
        if self._parts_uri:
            for file in storage.list_files(self._parts_uri):
                storage.delete(file.uri)

    def publish_log(self) -> str:
        """Puts the log of a failed step where it can be read afterwards; returns where."""
        if not self._parts_uri:
            return self._log
        target = storage.join(self._uri, LOG_NAME)
        try:
            storage.upload(self._log, target)
        except storage.StorageError as error:  # the reasons of the failure are worth more than this
            return f"{self._log} (not in the store: {error})"
        return target

    def summary(self, seconds: float) -> FetchSummary:
        """Counts what the log says."""
        reasons: collections.Counter[str] = collections.Counter()
        examples: dict[str, str] = {}
        size = 0
        for batch in parquet.batches(pq.ParquetFile(self._log), 1024, _SUMMED):
            for line in batch.to_pylist():
                size += line["bytes"]
                if line["status"] != OK:
                    reasons[line["status"]] += 1
                    examples.setdefault(line["status"], f"{line['image_uri']}: {line['message']}")
        ordered = dict(reasons.most_common())
        example = examples.get(next(iter(ordered), ""), "")
        return FetchSummary(self._shard, self._rows.count, ordered, size, seconds, self._resumed, example)

    def _parameters(self) -> bytes:
        shaping = {name: getattr(self._settings, name) for name in ("image_size", "jpeg_quality", "respect_robots")}
        return json.dumps(shaping).encode()

    def _identity(self) -> bytes:
        return f"{self._fingerprint}-{self._rows.digest}".encode()


def _is_settled(found: parts.Parts, row: Row, settings: Settings) -> bool:
    """Whether an earlier attempt has the image, or knows for good that there is none."""
    if not found.has(row.ordinal, row.key):
        return False
    status = json.loads(found.line(row.ordinal))["status"]
    return not (may_pass(status) or is_lifted(status, settings))


def _parsed(lines: bytes) -> list[pa.Array]:
    """Columns of the log from lines of JSON."""
    table = pyarrow.json.read_json(
        io.BytesIO(lines),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=_LINE_SCHEMA, unexpected_field_behavior="ignore"),
    )
    *columns, thumbnails = table.to_batches()[0].columns
    return [*columns, pa.array([base64.b64decode(text) for text in thumbnails.to_pylist()], pa.binary())]


def _counted(reasons: dict[str, int], most: int = 0) -> str:
    items = list(reasons.items())[: most or None]
    return ", ".join(f"{count} {reason}" for reason, count in items)


def _too_many(summary: FetchSummary, fraction: float, total: int) -> str:
    """Why this shard's failures end the run; empty if the whole collection is still to be judged, by assemble.

    A small shard may well have more failures than `fraction`: three bad images of four say nothing of the thousands.
    """
    if summary.failed > fraction * total:
        whole = "" if total == summary.objects else f" of all {total}"
        return f"more than max_failed_fraction={fraction:g}{whole}"
    unreachable = sum(summary.reasons.get(reason, 0) for reason in UNREACHABLE)
    if unreachable > max(fraction, _MOST) * summary.objects:
        return f"{unreachable} of them because their host cannot be reached"
    return ""


def _failed_text(summary: FetchSummary, too_many: str, log: str) -> str:
    return (
        f"{summary.failed} of {summary.objects} pictures of shard {summary.shard} could not be had, "
        f"{too_many}; commonest reasons: {_counted(summary.reasons, 3)} "
        f"(such as {summary.example[:300]}); each picture's reason is in {log}"
    )
