"""What the stores of `storage.py` have in common: their interface, errors, retries and checksums."""

import base64
import contextlib
import errno
import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from components.shared.errors import PipelineError, TransientError
from components.shared.retries import attempts

# Seconds before each further attempt at a request that failed for a reason that can pass; about half a minute in all.
RETRY_DELAYS = (0.3, 1.0, 3.0, 8.0, 20.0)
CONNECT_SECONDS = 10
# A server that sends nothing for so long is given up on, and asked again.
READ_SECONDS = 60
# The disk, or the user's share of it, is full.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

T = TypeVar("T")


class StorageError(PipelineError):
    """A file that cannot be read or written; the message names the URI and the cause."""


class NotFound(StorageError):
    """There is no such file."""


class TransientStorageError(StorageError, TransientError):
    """The store did not answer, or not completely: it may if asked again."""


class DamagedCopyError(TransientStorageError):
    """What arrived is not what is stored: it is copied anew."""


@dataclass(frozen=True)
class Checksum:
    """A checksum as its store gives it: `kind` is md5, crc32 or crc32c, `value` lower-case hexadecimal."""

    kind: str
    value: str

    def matches(self, pieces: Iterable[bytes]) -> bool:
        """Whether the concatenated `pieces` have this checksum."""
        return _digest(self.kind, pieces) == self.value


@dataclass(frozen=True)
class FileInfo:
    """One stored file: its URI, its size in bytes and, where the store says, its checksum and version.

    `modified` is when it was written, in seconds since 1970; what is listed has it.
    """

    uri: str
    size: int
    checksum: Checksum | None = None
    version: str = ""
    modified: float = 0.0


@dataclass(frozen=True)
class Chunk:
    """A range of a file, from byte `start` on, and the file it is a part of."""

    data: bytes
    start: int
    file: FileInfo


class Store(ABC):
    """Files of one scheme. Every method raises StorageError; URIs are complete (`s3://bucket/key`)."""

    @abstractmethod
    def stat(self, uri: str) -> FileInfo:
        """Size, checksum and version. Raises NotFound."""

    @abstractmethod
    def read(self, uri: str, start: int, length: int, version: str = "") -> Chunk:
        """At most `length` bytes from `start` on; of that `version`, if one is given. Raises NotFound.

        A server that knows no ranges may return a Chunk that is the whole file.
        """

    def write(self, uri: str, data: bytes) -> None:
        """Stores `data`, all or nothing."""
        raise StorageError(f"cannot write {shown(uri)}: {urlsplit(uri).scheme} is read-only")

    def write_file(self, uri: str, path: str) -> None:
        """Stores the content of the local file `path`, all or nothing."""
        raise StorageError(f"cannot write {shown(uri)}: {urlsplit(uri).scheme} is read-only")

    def list(self, uri: str) -> list[FileInfo]:
        """All files below the folder `uri`."""
        raise StorageError(f"cannot list {shown(uri)}: {urlsplit(uri).scheme} has no folders")

    def delete(self, uri: str) -> None:
        """Removes the file if it is there."""
        raise StorageError(f"cannot delete {shown(uri)}: {urlsplit(uri).scheme} is read-only")


_retries: ContextVar[bool] = ContextVar("retries", default=True)


@contextlib.contextmanager
def no_retries() -> Iterator[None]:
    """In this block, and this thread, a request is made once: for callers with attempts and a deadline of their own."""
    token = _retries.set(False)
    try:
        yield
    finally:
        _retries.reset(token)


def retried(call: Callable[[], T], after: type[TransientStorageError] = TransientStorageError) -> T:
    """Returns `call()`, called again after errors of the kind `after`, with growing pauses (exponential, jittered)."""
    for last in attempts(RETRY_DELAYS if _retries.get() else ()):
        try:
            return call()
        except after:
            if last:
                raise
    raise AssertionError("unreachable")


def shown(uri: str) -> str:
    """`uri` as it may be printed: without user, password, and the query that may hold a signature."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no address at all
        return uri.partition("?")[0]
    if not parts.scheme:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def bucket_and_key(uri: str) -> tuple[str, str]:
    """`s3://bucket/a/b` is ("bucket", "a/b"). Raises StorageError if the bucket is missing."""
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise StorageError(f"{uri!r} names no bucket: write {scheme}://BUCKET/PATH")
    return bucket, key


def folder_prefix(key: str) -> str:
    """The prefix that the keys below the folder `key` share."""
    return key.rstrip("/") + "/" if key.strip("/") else ""


def _digest(kind: str, pieces: Iterable[bytes]) -> str:
    if kind == "crc32":
        value = 0
        for piece in pieces:
            value = zlib.crc32(piece, value)
        return f"{value:08x}"
    if kind == "crc32c":
        import google_crc32c

        checksum: Any = google_crc32c.Checksum()
    else:
        checksum = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        checksum.update(piece)
    return checksum.digest().hex()


def crc32(pieces: Iterable[bytes]) -> Checksum:
    """The CRC-32 of the concatenated `pieces`."""
    return Checksum("crc32", _digest("crc32", pieces))


def base64_to_hex(value: str) -> str:
    """Checksums travel in base64; here they are hexadecimal."""
    return base64.b64decode(value).hex()
