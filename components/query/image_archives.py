"""Images in zip and tar archives: their names, and their bytes in the order in which they are stored."""

import re
import tarfile
import zipfile
from collections.abc import Iterator

import duckdb

from components.query.database import folder_of
from components.query.packed import Plain, decompressed
from components.query.settings import QueryError
from components.query.table_file import local_copy

_ENDING = re.compile(r"[.](zip|tar|tgz|tbz2|txz|tar[.](gz|bz2|xz|zst))$", re.IGNORECASE)


def is_archive(uri: str) -> bool:
    """Whether the name is that of an archive."""
    return bool(_ENDING.search(uri.partition("?")[0] if uri.startswith(("http://", "https://")) else uri))


def open_archive(database: duckdb.DuckDBPyConnection, uri: str) -> str:
    """The local path of the archive `uri`, as zip or plain tar. Raises QueryError or StorageError."""
    path = local_copy(database, uri)
    try:
        path = decompressed(folder_of(database), Plain(uri, uri, path)).path
    except (OSError, EOFError, UnicodeError) as error:
        raise QueryError(f"cannot read {uri}: it is cut off or damaged ({error})") from error
    if not zipfile.is_zipfile(path) and not tarfile.is_tarfile(path):
        raise QueryError(f"cannot read {uri}: it is no zip and no tar archive, whatever its name says")
    return path


def members(path: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file in the archive at the local `path`. Raises QueryError: it is damaged."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for item in archive.infolist():
                    if not item.is_dir():
                        yield item.filename, archive.read(item)
            return
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if file := tar.extractfile(member) if member.isfile() else None:
                    yield member.name, file.read()
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:  # RuntimeError: a password
        raise QueryError(f"cannot read {path}: it is cut off, damaged or locked ({error})") from error
