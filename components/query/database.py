"""The DuckDB database that a query works in: on disk, with bounded memory, gone afterwards."""

import contextlib
import tempfile
from pathlib import Path
from typing import Iterator

import duckdb

MEMORY_LIMIT = "600MB"


@contextlib.contextmanager
def open_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to an empty database in a temporary folder; what does not fit into memory goes to that folder."""
    with tempfile.TemporaryDirectory(prefix="query-") as folder:
        with duckdb.connect(str(Path(folder) / "query.duckdb")) as database:
            database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            # Every result that matters is sorted explicitly; keeping the input's order would cost memory.
            database.execute("SET preserve_insertion_order = false")
            database.execute("SET autoinstall_known_extensions = false")
            database.execute("SET TimeZone = 'UTC'")
            yield database


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
    return database.execute(sql, parameters or []).fetchone()[0]


def first_line(error: Exception) -> str:
    """What a DuckDB error says, without the excerpt of the statement or file and the hints below it."""
    lines = str(error).strip().splitlines()
    # Of a CSV error the first line says where, and one below the excerpt says what.
    reasons = [line for line in lines[1:] if "utf-8" in line or line.startswith("Expected Number of Columns")]
    return ". ".join([lines[0], *reasons[:1]])
