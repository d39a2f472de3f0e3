"""One table in a file: CSV, JSON or Parquet, wherever it is, compressed or in UTF-16. What it is, its content tells."""

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pyarrow
from duckdb.sqltypes import DuckDBPyType

from components.query import csv_file
from components.query.columns import children, columns_of, described_types
from components.query.database import first_line, folder_of, identifier, literal, scalar
from components.query.downloads import download
from components.query.settings import QueryError
from components.shared.storage import storage
from components.shared.texts import encoding_of

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
# What else people take for a table, by its first bytes; the message says what to do.
_REFUSED = {
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook (.xls); save its sheet as CSV UTF-8",
    b"BZh": "is compressed by bzip2; unpack it, or compress it by gzip or zstd",
    b"\xfd7zXZ": "is compressed by xz; unpack it, or compress it by gzip or zstd",
    b"SQLite format 3": "is an SQLite database; export the table as CSV",
    b"%PDF": "is a PDF",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; git lfs pull brings it",
    b"<!doctype": "is a web page, not a table; take the address of the file itself",
    b"<html": "is a web page, not a table; take the address of the file itself",
    b"<?xml": "is XML; export the table as CSV",
}
# Types that DuckDB reads out of JSON's strings, and writes otherwise than they stand there.
_OF_STRINGS = ("date", "time", "timestamp", "timestamp with time zone", "timestamp_ns", "uuid", "interval")


@dataclass(frozen=True)
class TableFile:
    """A table that can be read.

    Attributes:
        uri: As the user calls it.
        path: A local copy, neither compressed nor in another encoding than UTF-8.
        reader: SQL of its content; empty for CSV.
        names: Of the columns; fields of nested ones as `column.field`.
    """

    uri: str
    path: str
    reader: str
    names: tuple[str, ...]
    dialect: csv_file.Dialect | None = None


def open_table(database: duckdb.DuckDBPyConnection, uri: str) -> TableFile:
    """The table at `uri`, downloaded, unpacked and described. Raises QueryError or StorageError."""
    path = _plain(database, uri, _local(database, uri))
    kind = _kind(uri, path)
    try:
        if kind == "csv":
            dialect = csv_file.read_dialect(path)
            if not any(dialect.names):
                raise QueryError(f"cannot read {uri}: it has no heading that names the columns")
            return TableFile(uri, path, "", dialect.names, dialect)
        reader = f"read_parquet({literal(path)})" if kind == "parquet" else _json_reader(database, path)
        return TableFile(uri, path, reader, tuple(column.name for column in columns_of(database, reader)))
    except (duckdb.Error, csv_file.CsvError) as error:
        raise QueryError(f"cannot read {uri}: {first_line(error)}") from error


def load_table(
    database: duckdb.DuckDBPyConnection, name: str, table: TableFile, columns: list[tuple[str, str]]
) -> None:
    """Creates the table (CSV) or view `name` with `columns`, pairs of the file's name and ours, as the file types them.

    Raises:
        QueryError: the file is not as its heading or format says; for CSV the message names the line.
    """
    try:
        if table.dialect is not None:
            _load_csv(database, name, table, table.dialect, columns)
            return
        sql = {column.name: column.sql for column in columns_of(database, table.reader)}
        selected = ", ".join(f"{sql[theirs]} AS {identifier(ours)}" for theirs, ours in columns)
        database.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {selected} FROM {table.reader}")
    except (duckdb.Error, csv_file.CsvError, pyarrow.ArrowInvalid) as error:
        raise QueryError(f"cannot read {table.uri}: {first_line(error)}") from error


def _load_csv(
    database: duckdb.DuckDBPyConnection,
    name: str,
    table: TableFile,
    dialect: csv_file.Dialect,
    columns: list[tuple[str, str]],
) -> None:
    scan = csv_file.check_lines(table.path, dialect)
    wanted = list(dict.fromkeys(theirs for theirs, _ in columns))
    database.register("batches", csv_file.read_batches(table.path, dialect, scan, wanted))
    selected = ", ".join(f"{identifier(theirs)} AS {identifier(ours)}" for theirs, ours in columns)
    database.execute(f"CREATE TABLE {identifier(name)} AS SELECT {selected} FROM batches")
    database.unregister("batches")
    read = scalar(database, f"SELECT count(*) FROM {identifier(name)}")
    if read != scan.rows:
        raise QueryError(f"cannot read {table.uri}: of its {scan.rows:,} rows {read:,} were read; save it as Parquet")


def _json_reader(database: duckdb.DuckDBPyConnection, path: str) -> str:
    """SQL that reads JSON with its strings as they stand there."""
    options = "maximum_object_size = 67108864"
    reader = f"read_json({literal(path)}, sample_size = -1, {options})"
    described = described_types(database, reader)
    types = {name: _with_strings(kind) for name, kind in described}
    if all(types[name] == str(kind) for name, kind in described):
        return reader
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    return f"read_json({literal(path)}, columns = {{{columns}}}, {options})"


def _with_strings(kind: DuckDBPyType) -> str:
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{identifier(name)} {_with_strings(inner)}' for name, inner in children(kind))})"
    if kind.id == "list":
        return f"{_with_strings(children(kind)[0][1])}[]"
    return "VARCHAR" if kind.id in _OF_STRINGS else str(kind)


def _local(database: duckdb.DuckDBPyConnection, uri: str) -> str:
    """The local path of `uri`, downloaded first if it is elsewhere."""
    path = storage.local_path(uri)
    if path is None:
        path = _copy_of(database, uri, "download")
        # The same table may be asked for twice: its columns first, then its rows.
        if not os.path.exists(path):
            download(uri, path)
    elif os.path.isdir(path):
        raise QueryError(f"{uri} is a folder, and a table is a file; source=folder reads a folder per class")
    elif not os.path.exists(path):
        raise QueryError(f"there is no table {uri} (looked in {Path(path).absolute().parent})")
    elif not os.path.isfile(path):
        raise QueryError(f"{uri} is no file")
    if not os.path.getsize(path):
        raise QueryError(f"the table {uri} is empty")
    return path


def _plain(database: duckdb.DuckDBPyConnection, uri: str, path: str) -> str:
    """The path of what is in the file at `path`: unpacked, and in UTF-8."""
    for _ in range(3):  # such as UTF-16 in gzip
        head = _head(path)
        compression = next((name for mark, name in _COMPRESSED.items() if head.startswith(mark)), None)
        encoding = encoding_of(head)
        if compression is None and encoding == "utf-8":
            break
        copy = _copy_of(database, f"{uri} {path}", "plain")
        if not os.path.exists(copy):
            try:
                _write_plain(path, copy, compression, encoding)
            except (OSError, UnicodeError, pyarrow.ArrowException) as error:
                raise QueryError(f"cannot read {uri}: it is cut off or damaged ({error})") from error
        path = copy
    return path


def _write_plain(path: str, copy: str, compression: str | None, encoding: str) -> None:
    if compression:
        with pyarrow.input_stream(path, compression=compression) as packed, open(copy, "wb") as target:
            shutil.copyfileobj(packed, target, 1 << 20)
        return
    with open(path, encoding=encoding, newline="") as text, open(copy, "w", encoding="utf-8", newline="") as target:
        shutil.copyfileobj(text, target, 1 << 20)


def _kind(uri: str, path: str) -> str:
    """csv, json or parquet. Raises QueryError for anything else, with its name."""
    head = _head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    refused = next((why for mark, why in _REFUSED.items() if head.lower().startswith(mark.lower())), "")
    if head.startswith(b"PK\x03\x04"):
        refused = _zipped(path)
    ending = _ending(uri)
    if not refused and FORMATS.get(ending) == "parquet":
        refused = "is no Parquet file, whatever its name says"
    if not refused and b"\0" in head:
        refused = "is no text: it has zero bytes (UTF-16 needs a byte order mark); save it as CSV UTF-8"
    if refused:
        raise QueryError(f"cannot read {uri}: it {refused}")
    is_told = ending in FORMATS
    if not is_told and ending != ".txt" and urlsplit(uri).scheme not in ("http", "https"):
        raise QueryError(f"cannot read {uri}: a table's name ends with {', '.join(FORMATS)} (or these and .gz, .zst)")
    return FORMATS[ending] if is_told else "json" if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in b"[{" else "csv"


def _ending(uri: str) -> str:
    """The ending of the file's name, without that of its compression, in lower case."""
    suffixes = Path(urlsplit(uri).path if uri.startswith(("http://", "https://")) else uri).suffixes
    while suffixes and suffixes[-1].lower() in (".gz", ".zst"):
        suffixes.pop()
    return suffixes[-1].lower() if suffixes else ""


def _zipped(path: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "is a damaged ZIP archive"
    if any(name.startswith("xl/") for name in names):
        return "is an Excel workbook; save its sheet as CSV UTF-8"
    if "content.xml" in names:
        return "is an OpenDocument spreadsheet; save its sheet as CSV in UTF-8"
    return f"is a ZIP archive of {len(names)} files; unpack it"


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def _copy_of(database: duckdb.DuckDBPyConnection, uri: str, purpose: str) -> str:
    name = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return os.path.join(folder_of(database), f"{purpose}-{name}")
