"""What has been fetched so far, kept so that nothing is lost when a step is killed, and merged when it is complete.

A *part* is two files that only grow: `NAME.tar`, the finished images as tar entries, and `NAME.jsonl`, a line an
object. An object counts once its line is there, and the line is written after the image: a process that is killed at
any moment leaves complete objects and at most some bytes that no line points to. Parts are never changed afterwards; a
resumed step writes further ones.
"""

import base64
import functools
import hashlib
import io
import json
import os
import time
import uuid
from collections.abc import Iterator

import numpy as np

from components.artifacts.image_shard import END, LOG_COLUMNS, OK, entry
from components.fetch.outcome import Outcome
from components.fetch.settings import Settings
from components.shared.storage import storage

# Columns of the log that a part's line carries as they are; the thumbnail is in base64.
_LOG_FIELDS = [name for name in LOG_COLUMNS if name != "thumbnail"]


def fingerprint(settings: Settings) -> str:
    """What the stored bytes depend on besides the objects: parts of other settings are not taken over.

    With `respect_robots` it ends in `r`. Parts are found by how their names begin, so images that were fetched with
    respect for robots.txt are taken over without it, too.
    """
    shaping = ["2", settings.image_base, settings.image_size, settings.jpeg_quality]
    digest = hashlib.sha256(json.dumps(shaping).encode()).hexdigest()[:12]
    return digest + ("r" if settings.respect_robots else "")


class PartWriter:
    """Appends objects to a part below `folder`; starts a new part when `close` was called in between."""

    def __init__(self, folder: str, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self._files: tuple[io.FileIO, io.FileIO] | None = None  # tar and log
        self._name = ""
        self._broken: OSError | None = None
        self.objects = 0

    def add(self, ordinal: int, key: str, text: str, outcome: Outcome) -> None:
        """Writes one object; `text` is its row as JSON. Raises OSError if the disk is full."""
        if self._broken:
            raise self._broken
        try:
            self._add(ordinal, key, text, outcome)
        except OSError as error:
            self._broken = error  # a line may be half written: nothing may follow it
            raise

    def _add(self, ordinal: int, key: str, text: str, outcome: Outcome) -> None:
        tar, log = self._files = self._files or self._open()
        columns = json.loads(text)
        entries = _entries(columns, outcome) if outcome.status == OK else b""
        line = {"row": ordinal, "key": key, "offset": tar.tell(), "length": len(entries)}
        line |= {name: getattr(outcome, name) for name in _LOG_FIELDS}
        line["thumbnail"] = base64.b64encode(outcome.thumbnail).decode()
        _write(tar, entries)
        _write(log, json.dumps(line).encode() + b"\n")
        self.objects += 1

    def close(self) -> str:
        """Ends the part; returns its path without suffix, or "" if there is none open."""
        if self._files is None:
            return ""
        for file in self._files:
            file.close()
        self._files = None
        self.objects = 0
        return os.path.join(self._folder, self._name)

    def _open(self) -> tuple[io.FileIO, io.FileIO]:
        # In the order of their names later parts count more: a later attempt may have what an earlier one missed.
        self._name = f"{self._fingerprint}-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        path = os.path.join(self._folder, self._name)
        # Unbuffered: what was written survives the process, in the order in which it was written.
        return open(f"{path}.tar", "xb", buffering=0), open(f"{path}.jsonl", "xb", buffering=0)


class Parts:
    """All parts in a folder, as an index from a row's ordinal to its line and its image.

    The index takes 37 bytes per row, whatever is in the parts.
    """

    def __init__(self, folder: str, fingerprint: str, rows: int) -> None:
        names = [name for name in os.listdir(folder) if name.startswith(fingerprint) and name.endswith(".jsonl")]
        names.sort(key=lambda name: name.partition("-")[2])  # by time
        self._paths = [os.path.join(folder, name[: -len(".jsonl")]) for name in names]
        self._part = np.full(rows, -1, np.int32)
        self._line = np.zeros((rows, 2), np.int64)
        self._key = np.zeros(rows, np.uint64)
        for number in range(len(self._paths)):
            self._read(number)
        self._files = functools.lru_cache(maxsize=64)(lambda path: open(path, "rb"))

    def has(self, ordinal: int, key: str) -> bool:
        """Whether a part holds this row, with the very columns that it has now."""
        return self._part[ordinal] >= 0 and int(self._key[ordinal]) == int(key, 16)

    def line(self, ordinal: int) -> bytes:
        """The log line of a row: JSON with the columns of the log, the thumbnail in base64."""
        offset, length = self._line[ordinal]
        return os.pread(self._files(self._path(ordinal) + ".jsonl").fileno(), int(length), int(offset))

    def entries(self, ordinal: int) -> bytes:
        """The tar entries of a row: image and metadata, or nothing if it failed."""
        line = json.loads(self.line(ordinal))
        return os.pread(self._files(self._path(ordinal) + ".tar").fileno(), line["length"], line["offset"])

    def _path(self, ordinal: int) -> str:
        return self._paths[self._part[ordinal]]

    def _read(self, number: int) -> None:
        path = self._paths[number]
        tar_size = os.path.getsize(f"{path}.tar") if os.path.exists(f"{path}.tar") else 0
        offset = 0
        for line, length in _whole_lines(f"{path}.jsonl"):
            ordinal = line["row"]
            if ordinal < len(self._part) and line["offset"] + line["length"] <= tar_size:
                self._part[ordinal] = number
                self._line[ordinal] = offset, length
                self._key[ordinal] = int(line["key"], 16)
            offset += length


def write_tar(path: str, parts: Parts, rows: int) -> None:
    """Merges the images of all rows, in their order, to one tar at `path`; it appears complete or not at all."""
    with storage.replacing(path) as partial, open(partial, "wb", buffering=1 << 20) as file:
        for ordinal in range(rows):
            file.write(parts.entries(ordinal))
        file.write(END)


def upload(path: str, uri: str) -> None:
    """Copies a closed part to the folder `uri`: the lines last, because they make it count. Raises StorageError."""
    for suffix in (".tar", ".jsonl"):
        storage.upload(path + suffix, storage.join(uri, os.path.basename(path) + suffix))


def download(uri: str, folder: str, fingerprint: str) -> int:
    """Fetches the parts that an earlier pod left in `uri`; returns how many files. Raises StorageError."""
    files = [file.uri for file in storage.list_files(uri)]
    pairs = [(file, os.path.join(folder, file.rpartition("/")[2])) for file in files]
    wanted = [(file, path) for file, path in pairs if os.path.basename(path).startswith(fingerprint)]
    storage.download_all([pair for pair in wanted if not os.path.exists(pair[1])])
    return len(wanted)


def _whole_lines(path: str) -> Iterator[tuple[dict, int]]:
    """Lines and their lengths; a last line that was cut off by a crash is left out."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line), len(line)


def _entries(columns: dict, outcome: Outcome) -> bytes:
    metadata = columns | {name: getattr(outcome, name) for name in ("sha256", "width", "height", "bytes")}
    object_id = columns["object_id"]
    return entry(f"{object_id}.jpg", outcome.picture) + entry(
        f"{object_id}.json", json.dumps(metadata, ensure_ascii=False).encode()
    )


def _write(file: io.FileIO, data: bytes) -> None:
    """Writes all of `data`: an unbuffered file may take less, and says so only by its return value."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
