"""source=table: objects and images in CSV, JSON, Parquet or Excel, packed or not, at a path or a URI."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import duckdb

from components.query import parquet_images
from components.query.collections import Resolved
from components.query.columns import ADDRESS_COLUMNS, Column, columns_of, comparable
from components.query.conditions import check_condition, condition_columns
from components.query.database import first_line, scalar
from components.query.pictures import base_of, create_pictures, folder_of_table
from components.query.settings import QueryError, Settings
from components.query.table_file import TableFile, load_table, open_table, table_state
from components.shared.parameters import did_you_mean


def open_source(settings: Settings) -> "TableSource":
    """The table at `settings.table`."""
    return TableSource(settings)


class TableSource:
    """A table of objects; the images' addresses in it or in a second table."""

    label = "culture"
    applies_where = False
    total = None
    pictures_are_complete = True
    files: tuple[str, ...] = ()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self._table: TableFile | None = None
        self._images: Column | None = None

    def state(self) -> str:
        """Of all files."""
        return " ".join(table_state(uri) for uri in (self.settings.table, self.settings.images_table) if uri)

    def load(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `raw`, and `raw_images` of a table of images."""
        settings = self.settings
        tables = {"objects": self._open_objects(database)}
        if settings.images_table:
            tables["images"] = open_table(database, settings.images_table)
        self.files = tuple(path for table in tables.values() for path in table.paths)
        names = {name: table.names for name, table in tables.items()}
        check_renamed(settings, names, lambda table, name: tables[table].find(name), self.notes)
        objects = tables["objects"]
        pairs = under_our_names(objects, settings.renamed_in("objects"))
        self._table, self._images = objects, None
        if not settings.images_table:
            self._images = parquet_images.find_images(database, objects, pairs)
        if self._images:
            parquet_images.load(database, "raw", objects, pairs, self._images)
        else:
            load_table(database, "raw", objects, pairs)
        if settings.images_table:
            self._load_images(database, tables["images"])

    def _open_objects(self, database: duckdb.DuckDBPyConnection) -> TableFile:
        return open_table(database, self.settings.table)

    def _load_images(self, database: duckdb.DuckDBPyConnection, table: TableFile) -> None:
        text = self.settings.images_where
        columns = under_our_names(table, self.settings.renamed_in("images"))
        known = {ours.lower() for _, ours in columns}
        # What the condition names may stand in the table under a name that is renamed.
        columns += [(name, name) for name in table.names if name.lower() not in known]
        named = condition_columns(text, "duckdb", "images_where")
        if unknown := sorted(named - {ours.lower() for _, ours in columns}):
            near = did_you_mean(unknown[0], [ours for _, ours in columns])
            raise QueryError(f"images_where={text}: there is no column {unknown[0]}{near}")
        wanted = {"object_id", "is_primary", *ADDRESS_COLUMNS} | named
        load_table(database, "raw_images", table, [pair for pair in columns if pair[1].lower() in wanted])

    def load_pictures(self, database: duckdb.DuckDBPyConnection) -> None:
        """Creates `pictures` from the images table if there is one, else from the objects."""
        settings = self.settings
        relation = "raw_images" if settings.images_table else "objects"
        try:
            if settings.images_where:
                relation = self._matching_images(database)
            create_pictures(database, relation, base_of(settings), folder_of_table(settings))
        except duckdb.Error as error:
            raise QueryError(f"cannot read {settings.images_table or settings.table}: {first_line(error)}") from error

    def read_inside(self, database: duckdb.DuckDBPyConnection, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
        """Of a parquet table with the bytes of its images."""
        if self._table is None or self._images is None:
            return iter(())
        return parquet_images.read(database, self._table, self._images, wanted)

    def _matching_images(self, database: duckdb.DuckDBPyConnection) -> str:
        """Creates the table of the images that match `images_where`; returns its name."""
        text = self.settings.images_where
        columns = columns_of(database, "raw_images")

        def typed(named: set[str]) -> dict[str, str]:
            return comparable(database, "raw_images", [column for column in columns if column.name in named])

        condition = check_condition(text, [column.name for column in columns], "duckdb", typed, "images_where")
        try:
            database.execute(f"CREATE TABLE matching_images AS SELECT * FROM raw_images WHERE ({condition})")
        except duckdb.Error as error:
            raise QueryError(f"images_where={text}: {first_line(error)}") from error
        total, kept = (scalar(database, f"SELECT count(*) FROM {name}") for name in ("raw_images", "matching_images"))
        if not kept:
            raise QueryError(f"images_where={text}: none of {total:,} images matches; loosen the condition")
        self.notes.append(f"{total - kept:,} of {total:,} images do not match images_where")
        return "matching_images"

    def describe_attributes(self, settings: Settings) -> None:
        """DuckDB describes what it has loaded."""


def under_our_names(table: TableFile, renamed: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of a column's name or path in `table` and ours; `renamed` is {our name: the file's}, of those it has."""
    pairs = [(found, ours) for ours, theirs in renamed.items() if (found := table.find(theirs))]
    # A renamed column takes the place of one that had the name before.
    taken = {name.lower() for pair in pairs for name in pair}
    return [(name, name) for name in table.names if name.lower() not in taken] + pairs


def check_renamed(
    settings: Settings,
    tables: Mapping[str, Sequence[str]],
    find: Callable[[str, str], object] | None = None,
    notes: list[str] | None = None,
) -> None:
    """Raises QueryError if `columns` speaks of a name that is not in its table.

    Of what the file of a collection names, only id and address must be there: `notes` tells of others.

    Args:
        tables: The names of the columns of `objects`, and of `images` where there are such.
        find: Whether a table has a column; where it is not given, among the names, whatever its case.
    """
    lower = {table: {name.lower() for name in names} for table, names in tables.items()}
    find = find or (lambda table, name: name.lower() in lower[table])
    stated = isinstance(settings, Resolved) and settings.columns == getattr(settings.collection, "columns", "")
    for table, ours, theirs in settings.renamed:
        among = [table] if table else list(tables)
        if not any(find(each, theirs) for each in among):
            where = f" in the table of {table}" if table else ""
            if stated and notes is not None and ours not in ("object_id", *ADDRESS_COLUMNS):
                notes.append(f"there is no {theirs}{where}, so {ours} is empty")
                continue
            near = did_you_mean(theirs, [name for each in among for name in tables[each]])
            raise QueryError(f"columns={settings.columns}: there is no column {theirs}{where}{near}")
