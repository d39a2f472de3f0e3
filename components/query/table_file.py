"""One table in one file or several: CSV, JSON or Parquet, wherever it is, packed or not. The content tells which."""

import glob
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pyarrow
from duckdb.sqltypes import DuckDBPyType

from components.query import csv_file
from components.query.columns import Column, at_path, children, columns_of, described_types
from components.query.database import first_line, folder_of, identifier, literal, scalar
from components.query.downloads import download
from components.query.json_file import count_records
from components.query.packed import FORMATS, WORKBOOKS, Plain, ending, split_member, unpack
from components.query.settings import QueryError
from components.query.state import file_state
from components.shared.storage import storage

# What else people take for a table, by its first bytes; the message says what to do.
_REFUSED = {
    b"SQLite format 3": "is an SQLite database; export the table as CSV",
    b"%PDF": "is a PDF",
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; git lfs pull brings it",
    b"<!doctype": "is a web page, not a table; take the address of the file itself",
    b"<html": "is a web page, not a table; take the address of the file itself",
    b"<?xml": "is XML; export the table as CSV",
}
# Types that DuckDB reads out of JSON's strings, and writes otherwise than they stand there.
_OF_STRINGS = ("date", "time", "timestamp", "timestamp with time zone", "timestamp_ns", "uuid", "interval")
_PATTERN = re.compile(r"[*?[]")
_NUMBERS = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MOST_FILES = 100_000


@dataclass(frozen=True)
class TableFile:
    """A table that can be read.

    Attributes:
        uri: As the user calls it.
        files: Its parts, neither packed nor in another encoding than UTF-8.
        reader: SQL of its content; empty for CSV.
        columns: Fields of nested ones as `column.field`; empty for CSV.
        dialects: Of each file, for CSV.
    """

    uri: str
    files: tuple[Plain, ...]
    reader: str = ""
    columns: tuple[Column, ...] = ()
    dialects: tuple[csv_file.Dialect, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns, each once whatever its case."""
        found = [column.name for column in self.columns]
        found += [name for dialect in self.dialects for name in dialect.names]
        return tuple({name.lower(): name for name in reversed(found)}.values())[::-1]

    @property
    def paths(self) -> tuple[str, ...]:
        """Of the local files."""
        return tuple(file.path for file in self.files)

    def find(self, name: str) -> str:
        """The name of the column `name`, whatever its case, or the path of a nested value; empty: there is none."""
        by_lower = {known.lower(): known for known in self.names}
        if name.lower() in by_lower:
            return by_lower[name.lower()]
        return name if at_path(self.columns, name) else ""


def open_table(database: duckdb.DuckDBPyConnection, uri: str) -> TableFile:
    """The table at `uri`, downloaded, unpacked and described. Raises QueryError or StorageError."""
    files = tuple(file for part in expanded(uri) for file in _plain(database, part))
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise QueryError(f"cannot read {uri}: its files are of several kinds: {', '.join(sorted(kinds))}; name one")
    (kind,) = kinds
    try:
        if kind == "csv":
            return TableFile(uri, files, dialects=tuple(map(_dialect, files)))
        paths = f"[{', '.join(literal(file.path) for file in files)}]"
        several = ", union_by_name = true" if len(files) > 1 else ""
        reader = f"read_parquet({paths}{several})" if kind == "parquet" else _json_reader(database, paths + several)
        return TableFile(uri, files, reader, tuple(columns_of(database, reader)))
    except (duckdb.Error, csv_file.CsvError) as error:
        raise QueryError(f"cannot read {uri}: {first_line(error)}") from error


def table_state(uri: str) -> str:
    """See state.file_state: of each file that the pattern `uri` stands for. Raises StorageError."""
    return " ".join(file_state(split_member(part, _exists)[0]) for part in expanded(uri))


def load_table(
    database: duckdb.DuckDBPyConnection, name: str, table: TableFile, columns: list[tuple[str, str]]
) -> None:
    """Creates the table (CSV) or view `name` with `columns`, pairs of the file's name and ours, as the file types them.

    Raises:
        QueryError: the file is not as its heading or format says; for CSV the message names the line.
    """
    try:
        if table.dialects:
            _load_csv(database, name, table, columns)
            return
        found = [(at_path(table.columns, theirs), ours) for theirs, ours in columns]
        selected = ", ".join(f"{column.sql} AS {identifier(ours)}" for column, ours in found if column)
        database.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {selected} FROM {table.reader}")
        if table.reader.startswith("read_json"):
            read = scalar(database, f"SELECT count(*) FROM {table.reader}")
            _check_count(table.uri, sum(map(count_records, table.paths)), read)
    except (duckdb.Error, csv_file.CsvError, pyarrow.ArrowInvalid) as error:
        raise QueryError(f"cannot read {table.uri}: {first_line(error)}") from error


def _load_csv(database: duckdb.DuckDBPyConnection, name: str, table: TableFile, columns: list[tuple[str, str]]) -> None:
    ours = ", ".join(f"{identifier(name)} VARCHAR" for _, name in columns)
    database.execute(f"CREATE TABLE {identifier(name)} ({ours})")
    rows = 0
    for file, dialect in zip(table.files, table.dialects, strict=True):
        scan = csv_file.check_lines(file.path, dialect)
        there = {name.lower(): name for name in dialect.names}
        pairs = [(there[theirs.lower()], ours) for theirs, ours in columns if theirs.lower() in there]
        if not pairs:
            continue
        wanted = list(dict.fromkeys(theirs for theirs, _ in pairs))
        database.register("batches", csv_file.read_batches(file.path, dialect, scan, wanted))
        selected = ", ".join(f"{identifier(theirs)} AS {identifier(ours)}" for theirs, ours in pairs)
        database.execute(f"INSERT INTO {identifier(name)} BY NAME SELECT {selected} FROM batches")
        database.unregister("batches")
        rows += scan.rows
    _check_count(table.uri, rows, scalar(database, f"SELECT count(*) FROM {identifier(name)}"))


def _check_count(uri: str, there: int, read: int) -> None:
    if read != there:
        raise QueryError(f"cannot read {uri}: of its {there:,} rows {read:,} were read; save it as Parquet")


def _dialect(file: Plain) -> csv_file.Dialect:
    dialect = csv_file.read_dialect(file.path)
    if not any(dialect.names):
        raise QueryError(f"cannot read {file.uri}: it has no heading that names the columns")
    return dialect


def _json_reader(database: duckdb.DuckDBPyConnection, paths: str) -> str:
    """SQL that reads JSON with its strings as they stand there, and each object's keys as fields, however many."""
    options = "maximum_object_size = 67108864, map_inference_threshold = -1, field_appearance_threshold = 0"
    reader = f"read_json({paths}, sample_size = -1, {options})"
    described = described_types(database, reader)
    types = {name: _with_strings(kind) for name, kind in described}
    if all(types[name] == str(kind) for name, kind in described):
        return reader
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    return f"read_json({paths}, columns = {{{columns}}}, maximum_object_size = 67108864)"


def _with_strings(kind: DuckDBPyType) -> str:
    if kind.id == "struct":
        return f"STRUCT({', '.join(f'{identifier(name)} {_with_strings(inner)}' for name, inner in children(kind))})"
    if kind.id == "list":
        return f"{_with_strings(children(kind)[0][1])}[]"
    return "VARCHAR" if kind.id in _OF_STRINGS else str(kind)


def expanded(uri: str) -> Iterator[str]:
    """`uri`, or the files that it is a pattern of, sorted: `x_*.csv`, `x-{000..009}.tar`. Raises QueryError: none."""
    if (numbers := _NUMBERS.search(uri)) and not _exists(uri):
        first, last = numbers[1], numbers[2]
        for number in range(int(first), min(int(last), int(first) + _MOST_FILES) + 1):
            yield from expanded(f"{uri[: numbers.start()]}{number:0{len(first)}d}{uri[numbers.end() :]}")
        return
    outer, member = split_member(uri, _exists)
    if not _PATTERN.search(outer) or _exists(outer):
        yield uri
        return
    behind = f"/{member}" if member else ""
    if urlsplit(outer).scheme in ("http", "https"):
        # A ? begins a query there, and a server does not list its files.
        if "*" in outer.partition("?")[0]:
            raise QueryError(f"cannot read {uri}: a web server does not list its files; name one, or download them")
        yield uri
        return
    if (local := storage.local_path(outer)) is not None:
        found = sorted(glob.glob(local, recursive=True))
    else:
        start = _PATTERN.split(outer)[0].rpartition("/")[0]
        matches = re.compile(_regex(outer))
        found = [file.uri for file in storage.list_files(start) if matches.fullmatch(file.uri)]
    if not found:
        raise QueryError(f"there is no table {outer}: no file has such a name")
    yield from (name + behind for name in found)


def _regex(pattern: str) -> str:
    """A pattern of paths as a regular expression: `*` does not go beyond a `/`, `**/` does."""
    parts = re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", pattern)
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        meaning.get(part, part.replace("[!", "[^") if part[:1] == "[" else re.escape(part)) for part in parts
    )


def _exists(uri: str) -> bool:
    path = storage.local_path(uri)
    return path is not None and os.path.exists(path)


def _plain(database: duckdb.DuckDBPyConnection, uri: str) -> list[Plain]:
    outer, member = split_member(uri, _exists)
    return unpack(folder_of(database), outer, local_copy(database, outer), member)


def local_copy(database: duckdb.DuckDBPyConnection, uri: str) -> str:
    """The local path of `uri`, downloaded first if it is elsewhere."""
    path = storage.local_path(uri)
    if path is None:
        name = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        path = os.path.join(folder_of(database), f"download-{name}")
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


def _kind(file: Plain) -> str:
    """csv, json or parquet. Raises QueryError for anything else, with its name."""
    with open(file.path, "rb") as opened:
        head = opened.read(4096)
    if head.startswith(b"PAR1"):
        return "parquet"
    on_web = urlsplit(file.name).scheme in ("http", "https")
    suffix = ending(urlsplit(file.name).path if on_web else file.name)
    refused = next((why for mark, why in _REFUSED.items() if head.lower().startswith(mark.lower())), "")
    if not refused and FORMATS.get(suffix) == "parquet":
        refused = "is no Parquet file, whatever its name says"
    if not refused and suffix in WORKBOOKS:
        refused = "is no workbook, whatever its name says"
    if not refused and b"\0" in head:
        refused = "is no text: it has zero bytes (UTF-16 needs a byte order mark); save it as CSV UTF-8"
    if refused:
        raise QueryError(f"cannot read {file.uri}: it {refused}")
    is_told = suffix in FORMATS
    if not is_told and suffix not in (".txt", ".zip", ".tar", ".tgz") and not on_web:
        raise QueryError(
            f"cannot read {file.uri}: a table's name ends with {', '.join(FORMATS)} or {WORKBOOKS[0]} (or these and "
            ".gz, .zst, .bz2, .xz), or it is a .zip or .tar of such files"
        )
    return FORMATS[suffix] if is_told else "json" if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in b"[{" else "csv"
