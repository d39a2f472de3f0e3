"""The DuckDB database that a query works in: on disk, with bounded memory, gone afterwards."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import duckdb

from components.shared.values import clean_sql

MEMORY_LIMIT = "600MB"


@contextlib.contextmanager
def open_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an empty database in a temporary folder; what does not fit into memory goes to that folder.

    Its SQL has `clean(text)`, which gives values their one spelling (see shared/values.py).
    """
    with tempfile.TemporaryDirectory(prefix="query-") as folder:
        with duckdb.connect(str(Path(folder) / "query.duckdb")) as database:
            database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            # Every result that matters is sorted explicitly; keeping the input's order would cost memory.
            database.execute("SET preserve_insertion_order = false")
            database.execute("SET autoinstall_known_extensions = false")
            database.execute("SET TimeZone = 'UTC'")
            database.execute(f"CREATE MACRO clean(text) AS {clean_sql('text')}")
            yield database


def folder_of(database: duckdb.DuckDBPyConnection) -> str:
    """The temporary folder of a database of `open_database`."""
    return str(Path(scalar(database, "SELECT path FROM duckdb_databases() WHERE path IS NOT NULL")).parent)


def close_files(database: duckdb.DuckDBPyConnection, but: Iterable[str]) -> None:
    """From now on, no statement opens another file than the paths `but`; there is no way back."""
    paths = ", ".join(literal(os.path.abspath(path)) for path in but)
    database.execute(f"SET allowed_paths = [{paths}]")
    database.execute("SET enable_external_access = false")


def identifier(name: str) -> str:
    """`name` quoted as an SQL identifier, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` quoted as an SQL string, for the places where DuckDB takes no parameter (DDL)."""
    return "'" + text.replace("'", "''") + "'"


def column_names(database: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    """Names of the columns of a table or view, in order."""
    return [row[0] for row in database.execute(f"DESCRIBE {identifier(relation)}").fetchall()]


def scalar(database: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None):
    """The first column of the first row of a query."""
    return row(database, sql, parameters)[0]


def row(database: duckdb.DuckDBPyConnection, sql: str, parameters: list | dict | None = None) -> tuple:
    """The only row of a query, fetched to its end: DuckDB refuses some calls while a result is unfinished."""
    ((*values,),) = database.execute(sql, parameters or []).fetchall()
    return tuple(values)


def first_line(error: Exception) -> str:
    """What a DuckDB error says, without the excerpt of the statement or file and the hints below it."""
    return str(error).strip().split("\n")[0].strip()
