"""source=table: objects and pictures in CSV, JSON lines or Parquet, at a path or a URI (file, http, gs, s3, minio)."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from components.query.conditions import condition_columns
from components.query.database import first_line, identifier, literal
from components.query.downloads import download
from components.query.pictures import ADDRESS_COLUMNS, base_of, create_pictures
from components.query.settings import QueryError, Settings
from components.query.state import file_state
from components.shared.parameters import did_you_mean
from components.shared.storage import storage

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def open_source(settings: Settings) -> "TableSource":
    """The table at `settings.table`."""
    return TableSource(settings)


class TableSource:
    """A table of objects; the pictures' addresses in it or in a second table."""

    label = "culture"
    applies_where = False
    total = None
    pictures_are_complete = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def state(self) -> str:
        """Of both files."""
        return f"{file_state(self.settings.table)} {file_state(self.settings.images)}"

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates the view `raw`. Only columns in `where` get a type: elsewhere, 007 stays 007."""
        typed = condition_columns(self.settings.where, "duckdb")
        names = create_view(database, "raw", self.settings.table, self.settings.renamed, typed)
        if self.settings.images:
            wanted = ("object_id", "is_primary", *ADDRESS_COLUMNS)
            names += create_view(database, "raw_images", self.settings.images, self.settings.renamed, set(), wanted)
        check_renamed(self.settings, names)

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `pictures` from the images table if there is one, else from the objects."""
        settings = self.settings
        relation = "raw_images" if settings.images else "objects"
        try:
            create_pictures(database, relation, base_of(settings.images or settings.table, settings.image_base))
        except duckdb.Error as error:
            raise QueryError(f"cannot read {settings.images or settings.table}: {first_line(error)}") from error

    def describe_attributes(self, settings: Settings) -> None:
        """DuckDB describes what it has loaded."""


def create_view(
    database: duckdb.DuckDBPyConnection,
    name: str,
    uri: str,
    renamed: dict[str, str],
    typed: set[str],
    wanted: tuple[str, ...] = (),
) -> list[str]:
    """Creates the view `name` over the file at `uri`, under our column names.

    Args:
        renamed: {our name: the file's name}, applied to the columns that the file has.
        typed: Columns (lower case, our names) that keep the file's types; all others are strings.
        wanted: Only these columns, if the file has them; empty for all.

    Returns:
        The file's own column names.

    Raises:
        QueryError: the file is missing, or is not such a table.
    """
    try:
        path, kind = _local(database, uri), _format(uri)
        names = _columns(database, path, kind)
        if kind == "csv" and len(names) == 1 and any(mark in names[0] for mark in ",;\t"):
            raise QueryError(
                f"cannot read {uri}: some lines have another number of fields than its heading, {names[0]}"
            )
        ours = {actual.lower(): our_name for our_name, actual in renamed.items()}
        shown = {column: ours.get(column.lower(), column) for column in names}
        # A renamed column takes the place of one that had the name before.
        taken = {new.lower() for old, new in shown.items() if old != new}
        shown = {old: new for old, new in shown.items() if old != new or old.lower() not in taken}
        strings = [old for old in names if shown.get(old, "").lower() not in typed]
        columns = [
            f"{f'CAST({identifier(old)} AS VARCHAR)' if old in strings else identifier(old)} AS {identifier(new)}"
            for old, new in shown.items()
            if not wanted or new.lower() in wanted
        ]
        reader = _reader(path, kind, strings if len(strings) < len(names) else None)
        database.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {', '.join(columns) or '*'} FROM {reader}")
    except duckdb.Error as error:
        raise QueryError(f"cannot read {uri}: {first_line(error)}") from error
    return names


def check_renamed(settings: Settings, names: list[str]) -> None:
    """Raises QueryError if `columns` speaks of a name that is not among `names`."""
    known = {name.lower() for name in names}
    for theirs in settings.renamed.values():
        if theirs.lower() not in known:
            raise QueryError(f"columns={settings.columns}: there is no column {theirs}{did_you_mean(theirs, names)}")


def file_columns(database: duckdb.DuckDBPyConnection, uri: str) -> list[str]:
    """Names of the columns of the table at `uri`. Raises QueryError."""
    try:
        return _columns(database, _local(database, uri), _format(uri))
    except duckdb.Error as error:
        raise QueryError(f"cannot read {uri}: {first_line(error)}") from error


def _columns(database: duckdb.DuckDBPyConnection, path: str, kind: str) -> list[str]:
    described = database.execute(f"DESCRIBE SELECT * FROM {_reader(path, kind, None)}").fetchall()
    return [row[0] for row in described]


def _reader(path: str, kind: str, strings: list[str] | None) -> str:
    """SQL of the file's content; the CSV columns `strings` are not taken for numbers (None: no column is)."""
    if kind == "parquet":
        return f"read_parquet({literal(path)})"
    if kind == "json":
        return f"read_json({literal(path)}, sample_size = -1, maximum_object_size = 67108864)"
    if strings is None:
        return f"read_csv({literal(path)}, all_varchar = true, header = true)"
    types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in strings)
    # Types are told from all rows, not the first few: a number that turns out to be a word would stop the query.
    return f"read_csv({literal(path)}, sample_size = -1, header = true, types = {{{types}}})"


def _format(uri: str) -> str:
    suffixes = Path(urlsplit(uri).path).suffixes
    while suffixes and suffixes[-1].lower() in (".gz", ".zst"):
        suffixes.pop()
    kind = FORMATS.get(suffixes[-1].lower() if suffixes else "")
    if kind is None:
        raise QueryError(f"cannot read {uri}: a table's name ends with {', '.join(FORMATS)} (or these and .gz, .zst)")
    return kind


def _local(database: duckdb.DuckDBPyConnection, uri: str) -> str:
    """The local path of `uri`, downloaded first if it is elsewhere."""
    path = storage.local_path(uri)
    if path is not None:
        if not Path(path).is_file():
            raise QueryError(f"there is no table {uri} (looked in {Path(path).absolute().parent})")
        if not Path(path).stat().st_size:
            raise QueryError(f"the table {uri} is empty")
        return path
    folder = Path(database.execute("SELECT path FROM duckdb_databases() WHERE path IS NOT NULL").fetchone()[0]).parent
    # The same table may be asked for twice: its columns first, then its rows.
    target = folder / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}-{Path(urlsplit(uri).path).name[-100:]}"
    if not target.exists():
        download(uri, str(target))
    return str(target)
