"""Files in files: what is compressed, in an archive, in a workbook or in another encoding becomes plain files.

What a file is, its content tells. A member is named behind its archive, as if that were a folder, a sheet behind its
workbook: `dump.zip/objects.csv`, `dump.tar.gz/objects_*.jsonl`, `list.xlsx/Objects`.
"""

import bz2
import csv
import datetime
import fnmatch
import hashlib
import io
import lzma
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow

from components.query.settings import QueryError
from components.shared.texts import encoding_of

# The endings of tables' names.
FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\0": "xz"}
_OLD_WORKBOOK = b"\xd0\xcf\x11\xe0"
_ARCHIVE = re.compile(r"(.+?\.(?:zip|tar|tgz|tbz2|txz|tar\.(?:gz|bz2|xz|zst)))/(.+)", re.IGNORECASE)
_WORKBOOK = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, WORKBOOKS))}))/([^/]+)", re.IGNORECASE)
_TAR = 257, b"ustar"
_SHOWN = 5


@dataclass(frozen=True)
class Plain:
    """A file that is neither packed nor in another encoding than UTF-8.

    Attributes:
        uri: As messages call it.
        name: Its own name, within whatever it was in.
        path: Of the local copy.
    """

    uri: str
    name: str
    path: str


def split_member(uri: str, exists: Callable[[str], bool]) -> tuple[str, str]:
    """`dump.zip/objects.csv` as the archive (or workbook) and the member; the member is empty where there is none."""
    for pattern in (_ARCHIVE, _WORKBOOK):
        match = pattern.fullmatch(uri)
        if match and not exists(uri):
            return match[1], match[2]
    return uri, ""


def unpack(folder: str, uri: str, path: str, member: str = "") -> list[Plain]:
    """The plain files in the file at `path`, which the user calls `uri`; copies lie in `folder`.

    Args:
        member: Name or pattern of members of an archive, or a workbook's sheet; empty for the only one.

    Raises:
        QueryError: the file is damaged, there is no such member, or there are several and none is named.
    """
    try:
        return _unpack(folder, Plain(uri, uri, path), member)
    except (OSError, EOFError, UnicodeError, pyarrow.ArrowException, zipfile.BadZipFile, tarfile.TarError) as error:
        raise QueryError(f"cannot read {uri}: it is cut off or damaged ({error})") from error


def _unpack(folder: str, file: Plain, member: str) -> list[Plain]:
    file = decompressed(folder, file)
    with open(file.path, "rb") as opened:
        head = opened.read(512)
    if head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(file.path) as archive:
            names = archive.namelist()
            if any(name.startswith("xl/") for name in names) or "content.xml" in names:
                return [_sheet(folder, file, member)]
            zipped = [item.filename for item in archive.infolist() if not item.is_dir()]
            return _members(folder, file, member, zipped, archive.open)
    if head.startswith(_OLD_WORKBOOK):
        return [_sheet(folder, file, member)]
    if head[_TAR[0] :].startswith(_TAR[1]):
        with tarfile.open(file.path, "r:") as tar:
            members = {item.name: item for item in tar if item.isfile()}

            def open_member(name: str) -> IO[bytes]:
                return tar.extractfile(members[name]) or io.BytesIO()  # None is for what is no file

            return _members(folder, file, member, list(members), open_member)
    if member:
        raise QueryError(f"cannot read {file.uri}/{member}: {file.uri} is no archive and no workbook")
    return [file]


def _members(
    folder: str, file: Plain, member: str, names: list[str], open_member: Callable[[str], IO[bytes]]
) -> list[Plain]:
    chosen = _chosen(file.uri, member, names)
    found = []
    for name in chosen:
        inner = Plain(f"{file.uri}/{name}", name, _copy_of(folder, file, name))
        if not os.path.exists(inner.path):
            with open_member(name) as source, open(inner.path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        found += _unpack(folder, inner, "")
    return found


def _chosen(uri: str, member: str, names: list[str]) -> list[str]:
    """The names of the members that are meant, sorted."""
    tables = sorted(name for name in names if is_table(name)) or (sorted(names) if len(names) == 1 else [])
    if member:
        chosen = [name for name in sorted(names) if name == member] or fnmatch.filter(sorted(names), member)
        if not chosen:
            raise QueryError(f"cannot read {uri}/{member}: there is no such file in the archive; {_listed(tables)}")
        return chosen
    if not tables:
        raise QueryError(f"cannot read {uri}: it is an archive of {len(names)} files, and none of them is a table")
    if len(tables) > 1:
        raise QueryError(
            f"cannot read {uri}: it is an archive of several tables; name one, table={uri}/{tables[0]}, or several by "
            f"a pattern; {_listed(tables)}"
        )
    return tables


def is_table(name: str) -> bool:
    """Whether a file of this name may be a table: not what macOS puts beside each file, and no image."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and (ending(name) in FORMATS or ending(name) in WORKBOOKS)


def ending(name: str) -> str:
    """The ending of a file's name, without that of its compression, in lower case."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"there are {', '.join(names[:_SHOWN])}{more}" if names else "there is no table in it"


def decompressed(folder: str, file: Plain) -> Plain:
    """`file`, or a copy in `folder` that is not compressed and in UTF-8. Raises OSError, EOFError or UnicodeError."""
    for _ in range(4):  # such as UTF-16 in gzip
        with open(file.path, "rb") as opened:
            head = opened.read(4096)
        compression = next((name for mark, name in _COMPRESSED.items() if head.startswith(mark)), None)
        encoding = encoding_of(head)
        if compression is None and encoding == "utf-8":
            break
        copy = _copy_of(folder, file, "plain")
        if not os.path.exists(copy):
            _write_plain(file.path, copy, compression, encoding)
        file = Plain(file.uri, file.name, copy)
    return file


def _write_plain(path: str, copy: str, compression: str | None, encoding: str) -> None:
    if compression is None:
        with open(path, encoding=encoding, newline="") as text, open(copy, "w", encoding="utf-8", newline="") as target:
            shutil.copyfileobj(text, target, 1 << 20)
        return
    with _opened(path, compression) as packed, open(copy, "wb") as target:
        shutil.copyfileobj(packed, target, 1 << 20)


def _opened(path: str, compression: str) -> Any:
    if compression == "bz2":
        return bz2.open(path)
    if compression == "xz":
        return lzma.open(path)
    return pyarrow.input_stream(path, compression=compression)


def _sheet(folder: str, file: Plain, name: str) -> Plain:
    """A sheet of a workbook as CSV. Raises QueryError: none is named and several have rows."""
    import python_calamine

    try:
        book = python_calamine.load_workbook(file.path)
        sheets = {sheet: book.get_sheet_by_name(sheet) for sheet in book.sheet_names}
    except python_calamine.CalamineError as error:
        raise QueryError(f"cannot read {file.uri}: the workbook is damaged or locked ({error})") from error
    full = [title for title, sheet in sheets.items() if sheet.height]
    if name and name not in sheets:
        raise QueryError(f"cannot read {file.uri}/{name}: there is no such sheet; there are {', '.join(sheets)}")
    if not name and len(full) != 1:
        what = f"has several sheets; name one, table={file.uri}/{full[0]}; there are {', '.join(full)}" if full else ""
        raise QueryError(f"cannot read {file.uri}: the workbook {what or 'is empty'}")
    copy = _copy_of(folder, file, f"sheet {name or full[0]}")
    if not os.path.exists(copy):
        with open(copy, "w", encoding="utf-8", newline="") as target:
            csv.writer(target).writerows(_rows(sheets[name or full[0]]))
    return Plain(file.uri, "sheet.csv", copy)


def _rows(sheet) -> Iterator[list[str]]:
    """The rows of a sheet as texts, all as wide as its heading; empty rows are none."""
    width = 0
    for row in sheet.iter_rows():
        texts = [_text(cell) for cell in row]
        if not any(texts):
            continue
        width = width or max(place for place, text in enumerate(texts, 1) if text)
        if any(texts[width:]):
            stray = next(text for text in texts[width:] if text)
            raise QueryError(f"a cell of the sheet stands to the right of its heading: {stray[:60]!r}; name its column")
        yield texts[:width]


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else str(cell)


def _copy_of(folder: str, file: Plain, purpose: str) -> str:
    text = f"{file.uri} {file.path} {purpose}"
    return os.path.join(folder, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20])
