"""Files by URI: file (or a plain path), gs, s3, minio. SDKs are imported only for the scheme in hand."""

import os
import shutil
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlsplit

from components.shared.errors import PipelineError


class StorageError(PipelineError):
    """A file that cannot be read or written; the message names the URI and the cause."""


@dataclass(frozen=True)
class FileInfo:
    """One stored file: its URI and size in bytes."""

    uri: str
    size: int


def join(uri: str, *parts: str) -> str:
    """`join("s3://bucket/a", "b", "c")` is `s3://bucket/a/b/c`; plain paths work the same."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def local_path(uri: str) -> str | None:
    """The path of a `file://` URI or a plain path; None for any other scheme."""
    scheme = urlsplit(uri).scheme
    if scheme == "file":
        return urlsplit(uri).path
    return uri if not scheme else None


def open_read(uri: str) -> BinaryIO:
    """Opens `uri` for reading as a stream of bytes.

    Raises:
        StorageError: it does not exist or cannot be read.
    """
    path = _path(uri)
    try:
        return open(path, "rb")
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error.strerror}") from error


def read_bytes(uri: str, start: int = 0, length: int | None = None) -> bytes:
    """Bytes of `uri`, from `start` on, at most `length`. Raises StorageError."""
    with open_read(uri) as file:
        file.seek(start)
        return file.read() if length is None else file.read(length)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes `uri` atomically: readers see all of `data` or nothing. Raises StorageError."""
    path = _path(uri)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.partial-{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(data)
    os.replace(temporary, path)


def exists(uri: str) -> bool:
    """Whether a file is stored at `uri`."""
    return os.path.isfile(_path(uri))


def list_files(uri: str) -> list[FileInfo]:
    """All files below the folder `uri`, sorted by URI; empty if there is none."""
    found = []
    for folder, _, names in os.walk(_path(uri)):
        for name in names:
            path = os.path.join(folder, name)
            found.append(FileInfo(path, os.path.getsize(path)))
    return sorted(found, key=lambda file: file.uri)


def download(uri: str, path: str) -> None:
    """Copies the file `uri` to the local `path`, atomically. Raises StorageError."""
    temporary = f"{path}.partial-{os.getpid()}"
    with open_read(uri) as source, open(temporary, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    os.replace(temporary, path)


def upload(path: str, uri: str) -> None:
    """Copies the local file `path` to `uri`, atomically. Raises StorageError."""
    target = _path(uri)
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    download(path, target)


def _path(uri: str) -> str:
    path = local_path(uri)
    if path is None:
        raise StorageError(f"cannot use {uri}: this scheme is not supported; use a path or file, gs, s3 or minio")
    return path
