"""From a table's picture addresses to `pictures(object_id, image_uri, position)`."""

import os

import duckdb

from components.query.database import column_names, identifier, literal
from components.query.settings import QueryError
from components.shared.addresses import AROUND
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
    address = f"coalesce({', '.join(map(_cleaned, found))})"
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
    """SQL for addresses.absolute: puts `base` before the SQL expression `address` where that is relative."""
    scheme, _, rest = base.partition("://")
    on_web = scheme.lower() in ("http", "https")
    prefix = literal(base.rstrip("/") + "/")
    complete, start = "[A-Za-z][A-Za-z0-9+.-]*:", "(\\.?/)+"
    if storage.local_path(base) is not None:
        complete, start = f"{complete}|/", "(\\./)+"  # only elsewhere is /images/1.jpg below the base
    cases = [
        f"WHEN starts_with({address}, '//') THEN 'https:' || {address}",
        f"WHEN regexp_matches({address}, '^({complete})') THEN {address}",
        f"ELSE {prefix} || regexp_replace({address}, '^{start}', '') END",
    ]
    if on_web:
        host = literal(f"//{rest.partition('/')[0]}/")
        cases.insert(0, f"WHEN starts_with({address}, {host}) THEN {literal(scheme + ':')} || {address}")
        cases.insert(-1, f"WHEN starts_with({address}, '?') THEN {literal(base)} || {address}")
    if on_web and "?" in base:
        value = f"replace(replace(replace({address}, '&', '%26'), '#', '%23'), '+', '%2B')"
        cases[-1] = f"ELSE {literal(base)} || {value} END"
    return " ".join(["CASE", *cases])


def base_of(table: str, image_base: str) -> str:
    """What relative addresses start with: `image_base`, else the folder of `table`; absolute if it is a local path."""
    base = image_base or table.rpartition("/")[0] or "."
    local = storage.local_path(base)
    return os.path.abspath(local) if local is not None else base


def _cleaned(column: str) -> str:
    return f"nullif(trim(CAST({identifier(column)} AS VARCHAR), {literal(AROUND)}), '')"


def _missing(columns: list[str]) -> str:
    return (
        f"no picture addresses: neither the objects nor a table images=... have object_id and one of "
        f"{', '.join(ADDRESS_COLUMNS)}; there are {', '.join(columns[:50])}; name yours with "
        "columns=original_image_url=your_column"
    )
