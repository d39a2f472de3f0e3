"""From a table's picture addresses to `pictures(object_id, image_uri, position)`."""

import os

import duckdb

from components.query.database import column_names, identifier, literal
from components.query.settings import QueryError
from components.shared.storage import storage

# The columns that may hold an address, the best first.
ADDRESS_COLUMNS = ("original_image_url", "image_uri", "gcs_url")


def create_pictures(database: duckdb.DuckDBPyConnection, relation: str, base: str) -> None:
    """Creates `pictures` from `relation`, which has object_id and at least one of ADDRESS_COLUMNS.

    An object's pictures are numbered from 0: the primary one first (`is_primary`), then by address, so that the order
    of the rows does not matter. An address given twice counts once.

    Args:
        base: What stands before a relative address; a URI or an absolute folder.

    Raises:
        QueryError: `relation` lacks the columns.
    """
    columns = {name.lower(): name for name in column_names(database, relation)}
    found = [columns[name] for name in ADDRESS_COLUMNS if name in columns]
    if not found or "object_id" not in columns:
        raise QueryError(_missing(list(columns.values())))
    address = f"coalesce({', '.join(f'nullif(trim(CAST({identifier(name)} AS VARCHAR)), {_EMPTY})' for name in found)})"
    primary = f"CAST({identifier(columns['is_primary'])} AS VARCHAR)" if "is_primary" in columns else "''"
    database.execute(f"""
        CREATE TABLE pictures AS
        WITH addresses AS (
            SELECT trim(CAST({identifier(columns["object_id"])} AS VARCHAR)) AS object_id,
                {absolute(address, base)} AS image_uri,
                bool_or(lower({primary}) IN ('true', '1')) AS first
            FROM {identifier(relation)} WHERE {address} IS NOT NULL GROUP BY ALL
        )
        SELECT object_id, image_uri,
            row_number() OVER (PARTITION BY object_id ORDER BY first DESC, image_uri) - 1 AS position
        FROM addresses
    """)


def absolute(address: str, base: str) -> str:
    """SQL that puts `base` before the SQL expression `address` where that is relative."""
    prefix = literal(base.rstrip("/") + "/")
    has_scheme = f"regexp_matches({address}, '^([A-Za-z][A-Za-z0-9+.-]*:|/)')"
    joined = f"{prefix} || regexp_replace({address}, '^(\\./)+', '')"
    if storage.local_path(base) is None:
        # On a server, /images/1.jpg is below the server's base, not a file of this machine.
        has_scheme = f"regexp_matches({address}, '^[A-Za-z][A-Za-z0-9+.-]*:')"
        joined = f"{prefix} || regexp_replace({address}, '^(\\.?/)+', '')"
    return f"CASE WHEN {has_scheme} THEN {address} ELSE {joined} END"


def base_of(table: str, image_base: str) -> str:
    """What relative addresses start with: `image_base`, else the folder of `table`; absolute if it is a local path."""
    base = image_base or table.rpartition("/")[0] or "."
    local = storage.local_path(base)
    return os.path.abspath(local) if local is not None else base


_EMPTY = "''"


def _missing(columns: list[str]) -> str:
    return (
        f"no picture addresses: neither the objects nor a table images=... have object_id and one of "
        f"{', '.join(ADDRESS_COLUMNS)}; there are {', '.join(columns[:50])}; name yours with "
        "columns=original_image_url=your_column"
    )
