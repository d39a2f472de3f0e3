"""Plain paths and file:// URIs."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote

from components.shared.storage import base
from components.shared.storage.base import Chunk, FileInfo, NotFound, StorageError


def path_of(uri: str) -> str | None:
    """The path of a `file://` URI or a plain path; None for any other scheme."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    # Not by urlsplit: a `#` or `?` belongs to the name of a file.
    return unquote("/" + rest.partition("/")[2]) if scheme.lower() == "file" else None


@contextmanager
def replacing(path: str, contended: bool = False) -> Iterator[str]:
    """A temporary name beside `path` to write to; it becomes `path` if the block ends well, and is removed if not.

    `contended`: others may write `path` at the same time, so the name is this thread's own. Without it, what a process
    that was killed left behind is overwritten by the next one.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.partial" + (f"-{os.getpid()}-{threading.get_ident()}" if contended else "")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise


def _own(uri: str) -> str:
    path = path_of(uri)
    assert path is not None, uri  # storage asks this store for paths and file:// only
    return path


class LocalStore(base.Store):
    """Files of this machine."""

    def __init__(self, scheme: str = "file") -> None:
        pass

    def stat(self, uri: str) -> FileInfo:
        with _explained("read", uri):
            return FileInfo(uri, os.path.getsize(_own(uri)))

    def read(self, uri: str, start: int, length: int, version: str = "") -> Chunk:
        with _explained("read", uri), open(_own(uri), "rb") as file:
            file.seek(start)
            return Chunk(file.read(length), start, FileInfo(uri, os.fstat(file.fileno()).st_size))

    def write(self, uri: str, data: bytes) -> None:
        with _explained("write", uri), replacing(_own(uri), contended=True) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)

    def write_file(self, uri: str, path: str) -> None:
        with _explained("write", uri), replacing(_own(uri), contended=True) as temporary:
            shutil.copyfile(path, temporary)

    def list(self, uri: str) -> list[FileInfo]:
        found = []
        for folder, _, names in os.walk(_own(uri)):
            paths = [os.path.join(folder, name) for name in names]
            stats = [(path, os.stat(path)) for path in paths if os.path.isfile(path)]
            found += [FileInfo(path, told.st_size, modified=told.st_mtime) for path, told in stats]
        return found

    def delete(self, uri: str) -> None:
        with _explained("delete", uri):
            try:
                os.remove(_own(uri))
            except FileNotFoundError:
                pass


@contextmanager
def _explained(verb: str, uri: str) -> Iterator[None]:
    """OSError as one clear line; a full disk stays an OSError, which the steps report with the right advice."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"cannot {verb} {uri}: {error.strerror}") from error
    except OSError as error:
        if error.errno in base.DISK_FULL:
            raise
        raise StorageError(f"cannot {verb} {uri}: {error.strerror}") from error
