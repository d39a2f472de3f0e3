"""source=table: objects and pictures in CSV, JSON lines or Parquet, at a path or a URI (file, http, gs, s3, minio)."""

import duckdb

from components.query.columns import ADDRESS_COLUMNS
from components.query.database import first_line
from components.query.pictures import base_of, create_pictures, folder_of_table
from components.query.settings import QueryError, Settings
from components.query.state import file_state
from components.query.table_file import TableFile, load_table, open_table
from components.shared.parameters import did_you_mean


def open_source(settings: Settings) -> "TableSource":
    """The table at `settings.table`."""
    return TableSource(settings)


class TableSource:
    """A table of objects; the pictures' addresses in it or in a second table."""

    label = "culture"
    applies_where = False
    total = None
    pictures_are_complete = True
    files: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def state(self) -> str:
        """Of both files."""
        return f"{file_state(self.settings.table)} {file_state(self.settings.images)}"

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`, and `raw_images` of a table of pictures."""
        settings = self.settings
        tables = [open_table(database, uri) for uri in (settings.table, settings.images) if uri]
        self.files = tuple(table.path for table in tables)
        check_renamed(settings, [name for table in tables for name in table.names])
        load_table(database, "raw", tables[0], under_our_names(tables[0], settings.renamed))
        if settings.images:
            wanted = ("object_id", "is_primary", *ADDRESS_COLUMNS)
            columns = under_our_names(tables[1], settings.renamed)
            load_table(database, "raw_images", tables[1], [pair for pair in columns if pair[1].lower() in wanted])

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `pictures` from the images table if there is one, else from the objects."""
        settings = self.settings
        relation = "raw_images" if settings.images else "objects"
        try:
            create_pictures(database, relation, base_of(settings), folder_of_table(settings))
        except duckdb.Error as error:
            raise QueryError(f"cannot read {settings.images or settings.table}: {first_line(error)}") from error

    def describe_attributes(self, settings: Settings) -> None:
        """DuckDB describes what it has loaded."""


def under_our_names(table: TableFile, renamed: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of a column's name in `table` and ours; `renamed` is {our name: the file's}, for those that it has."""
    by_lower = {name.lower(): name for name in table.names}
    pairs = [(by_lower[theirs.lower()], ours) for ours, theirs in renamed.items() if theirs.lower() in by_lower]
    # A renamed column takes the place of one that had the name before.
    taken = {name.lower() for pair in pairs for name in pair}
    return [(name, name) for name in table.names if name.lower() not in taken] + pairs


def check_renamed(settings: Settings, names: list[str]) -> None:
    """Raises QueryError if `columns` speaks of a name that is not among `names`."""
    known = {name.lower() for name in names}
    for theirs in settings.renamed.values():
        if theirs.lower() not in known:
            raise QueryError(f"columns={settings.columns}: there is no column {theirs}{did_you_mean(theirs, names)}")
