"""Files by URI: a plain path or file, gs, s3, minio; http and https to read from.

    open_read, read_bytes(start, length), write_bytes, exists, stat, size, list_files, delete  one file or folder
    download, upload, download_all, upload_all, download_folder, mirror                         copies, in parallel
    published_uri                                                                               where a run's files go

Whatever the scheme: a request that fails for a reason that can pass is repeated, whole files are checked against the
store's checksum, a file appears under its name complete or not at all, and errors name the URI and the cause but no
credentials. SDKs are imported only for the scheme in hand (gs.py, s3.py, ...).
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from importlib import import_module
from typing import BinaryIO

from components.shared.storage.base import (
    DamagedCopyError,
    FileInfo,
    NotFound,
    StorageError,
    Store,
    TransientStorageError,
    no_retries,
    retried,
    shown,
)
from components.shared.storage.local import path_of, replacing

__all__ = ["FileInfo", "NotFound", "StorageError", "TransientStorageError", "no_retries", "replacing"]

# `pipeline.py run --root s3://...` keeps a run's files in a local folder and mirrors them to the store after each step;
# these two say which folder and where to.
LOCAL_ROOT_VARIABLE = "ARTIFACT_LOCAL_ROOT"
STORE_ROOT_VARIABLE = "ARTIFACT_STORE_ROOT"

# Bytes a request of a file that is read piece by piece.
CHUNK = 8 << 20
_WORKERS = 8
_STORES = {
    "file": "local.LocalStore",
    "gs": "gs.GsStore",
    "s3": "s3.S3Store",
    "minio": "s3.S3Store",
    "http": "http.HttpStore",
    "https": "http.HttpStore",
}
_opened: dict[tuple[int, str], Store] = {}


def join(uri: str, *parts: str) -> str:
    """`join("s3://bucket/a", "b", "c")` is `s3://bucket/a/b/c`; plain paths work the same."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def local_path(uri: str) -> str | None:
    """The path of a `file://` URI or a plain path; None for any other scheme."""
    return path_of(uri)


def open_read(uri: str) -> io.BufferedReader:
    """Opens `uri` for reading as a seekable stream of bytes.

    Raises:
        StorageError: it does not exist or cannot be read.
    """
    path = local_path(uri)
    if path is None:
        return io.BufferedReader(_RangeReader(uri), 1 << 20)
    try:
        return open(path, "rb")
    except OSError as error:
        kind = NotFound if isinstance(error, FileNotFoundError) else StorageError
        raise kind(f"cannot read {uri}: {error.strerror}") from error


def read_bytes(uri: str, start: int = 0, length: int | None = None, version: str = "") -> bytes:
    """Bytes of `uri`, from `start` on, at most `length`; of that `version`, where given. Raises StorageError."""
    if length is not None and local_path(uri) is None:
        chunk = _store(uri).read(uri, start, length, version)
        return chunk.data[start - chunk.start :][:length]
    with open_read(uri) as file:
        file.seek(start)
        return file.read() if length is None else file.read(length)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes `uri` atomically: readers see all of `data` or nothing. Raises StorageError."""
    _store(uri).write(uri, data)


def exists(uri: str) -> bool:
    """Whether a file is stored at `uri`. Raises StorageError if that cannot be said."""
    path = local_path(uri)
    if path is not None:
        return os.path.isfile(path)
    try:
        _store(uri).stat(uri)
    except NotFound:
        return False
    return True


def stat(uri: str) -> FileInfo:
    """Size of the file `uri` and, where its store tells them, checksum and version. Raises StorageError."""
    return _store(uri).stat(uri)


def size(uri: str) -> int:
    """Size of the file `uri` in bytes. Raises StorageError."""
    return stat(uri).size


def list_files(uri: str) -> list[FileInfo]:
    """All files below the folder `uri`, sorted by URI (plain paths for file://); empty if there is none."""
    return sorted(_store(uri).list(uri), key=lambda file: file.uri)


def delete(uri: str) -> None:
    """Removes the file `uri`, if it is there. Raises StorageError."""
    _store(uri).delete(uri)


def download(uri: str, path: str, report: Callable[[int, int], None] = lambda done, size: None) -> None:
    """Copies the file `uri` to the local `path`, atomically, and checks its checksum. Raises StorageError.

    Args:
        report: Called with the bytes that have arrived, and the file's size, after each megabyte from another machine.
    """
    if (source := local_path(uri)) is not None:
        with open_read(uri):  # a missing source leaves no empty folder behind
            pass
        return _store(path).write_file(path, source)
    # A request that gets no answer has been repeated already.
    return retried(lambda: _download(uri, path, report), DamagedCopyError)


def upload(path: str, uri: str) -> None:
    """Copies the local file `path` to `uri`, atomically. Raises StorageError."""
    with open_read(path):
        pass
    _store(uri).write_file(uri, path)


def download_all(pairs: Iterable[tuple[str, str]], workers: int = _WORKERS) -> None:
    """Downloads many files side by side: pairs of URI and local path. Raises the first StorageError."""
    _all_of(download, pairs, workers)


def upload_all(pairs: Iterable[tuple[str, str]], workers: int = _WORKERS) -> None:
    """Uploads many files side by side: pairs of local path and URI. Raises the first StorageError."""
    _all_of(upload, pairs, workers)


def download_folder(uri: str, path: str) -> int:
    """Copies all files below `uri` to the local folder `path`; returns how many. Raises StorageError."""
    files = list_files(uri)
    prefix = len((local_path(uri) or uri).rstrip("/")) + 1
    download_all((file.uri, os.path.join(path, file.uri[prefix:])) for file in files)
    return len(files)


def mirror(path: str, uri: str) -> int:
    """Copies the files below the local folder `path` to `uri`, except those already there; returns how many it sent."""
    uri = local_path(uri) or uri
    there = {file.uri: file for file in list_files(uri)}
    pairs = [(file.uri, join(uri, os.path.relpath(file.uri, path))) for file in list_files(path)]
    missing = [(source, target) for source, target in pairs if not _same(source, there.get(target))]
    upload_all(missing)
    return len(missing)


def published_uri(uri: str) -> str:
    """Where the file or folder `uri` of a run will be found afterwards, and from other machines.

    `uri` itself, except in `pipeline.py run --root s3://...`: there an artifact's path becomes its URI in the store.
    """
    local, published = os.environ.get(LOCAL_ROOT_VARIABLE), os.environ.get(STORE_ROOT_VARIABLE)
    path = local_path(uri)
    if not local or not published or path is None:
        return uri
    relative = os.path.relpath(os.path.abspath(path), local)
    return uri if relative.startswith("..") else join(published, relative)


class _RangeReader(io.RawIOBase):
    """A remote file as a seekable raw stream that asks for CHUNK bytes at a time, all of one version."""

    def __init__(self, uri: str) -> None:
        self._uri, self._position = uri, 0
        self._chunk = _store(uri).read(uri, 0, CHUNK)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._chunk.file.size}[whence]
        self._position = max(origin + offset, 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:
        offset = self._position - self._chunk.start
        if self._position >= self._chunk.file.size:
            return 0
        if not 0 <= offset < len(self._chunk.data):
            file = self._chunk.file
            chunk = _store(self._uri).read(self._uri, self._position, CHUNK, file.version)
            self._chunk = type(chunk)(chunk.data, chunk.start, file)
            offset = self._position - chunk.start
        piece = self._chunk.data[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def _download(uri: str, path: str, report: Callable[[int, int], None]) -> None:
    with replacing(path, contended=True) as temporary:
        with open(temporary, "wb") as target:
            reader = _RangeReader(uri)
            file = reader._chunk.file
            for piece in _pieces(reader):
                target.write(piece)
                report(target.tell(), file.size)
        written = os.path.getsize(temporary)
        if written != file.size:
            raise DamagedCopyError(f"cannot read {shown(uri)}: {written} of {file.size} bytes arrived")
        with open(temporary, "rb") as copy:
            if file.checksum and not file.checksum.matches(_pieces(copy)):
                raise DamagedCopyError(f"cannot read {shown(uri)}: the bytes do not have its {file.checksum.kind}")


def _pieces(file: BinaryIO | io.RawIOBase) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 20), b"")


def _all_of(copy, pairs: Iterable[tuple[str, str]], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        futures: list[Future] = [pool.submit(copy, source, target) for source, target in pairs]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in done:
            future.result()


def _same(path: str, stored: FileInfo | None) -> bool:
    """Whether the local file is what is stored, by size and, where the store tells one, checksum."""
    if stored is None or stored.size != os.path.getsize(path):
        return False
    with open(path, "rb") as file:
        return stored.checksum is None or stored.checksum.matches(_pieces(file))


def _store(uri: str) -> Store:
    scheme = uri.partition("://")[0] if "://" in uri else "file"
    if scheme not in _STORES:
        names = ", ".join(_STORES)
        raise StorageError(f"cannot use {shown(uri)}: unknown scheme {scheme}; use a plain path or one of {names}")
    # A child process must not share connections with its parent.
    key = (os.getpid(), scheme)
    if key not in _opened:
        module, name = _STORES[scheme].split(".")
        _opened[key] = getattr(import_module(f"components.shared.storage.{module}"), name)(scheme)
    return _opened[key]
