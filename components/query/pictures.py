"""From a table's image addresses to `pictures(object_id, image_uri, position)`."""

import os

import duckdb

from components.query.columns import ADDRESS_COLUMNS, FLOAT_ID, Texts, columns_of, texts_of
from components.query.database import identifier, literal, row
from components.query.settings import QueryError, Settings
from components.shared.addresses import AROUND
from components.shared.storage import storage
from components.shared.templates import IMAGE_REQUEST, PLACE, is_iiif, is_template, sized

# Where several stand in a cell: before a scheme, behind the ending of an image's name, as an array of JSON or Python.
_PICTURE = r"[.](?i:jpe?g|png|tiff?|gif|webp|jp2|bmp|avif)"
_AFTER_PICTURE = rf"({_PICTURE})\s*[;,]\s*"
_ARRAY = r"\s*\[.*\]\s*"
_BEFORE_SCHEME = r"[;,\s]+([A-Za-z][A-Za-z0-9+.-]+://)"


def create_pictures(database: duckdb.DuckDBPyConnection, relation: str, base: str, folder: str = "") -> None:
    """Creates `pictures` from `relation`, which has object_id and at least one of ADDRESS_COLUMNS.

    An object's images are numbered from 0: the primary one first (`is_primary`), then in the order of their cell if
    that has several addresses, then by address, so that the order of the rows does not matter. An address given twice
    counts once.

    Args:
        base: What stands before a relative address; a URI or an absolute folder; or a template (see templates.py).
        folder: What stands before an address that is still relative in its template.

    Raises:
        QueryError: `relation` lacks the columns, or all addresses are paths of a Windows machine.
    """
    texts = texts_of(database, identifier(relation), columns_of(database, identifier(relation)))
    columns = {name.lower(): sql for name, sql in texts.sql.items()}
    found = [columns[name] for name in ADDRESS_COLUMNS if name in columns]
    if not found or "object_id" not in columns:
        raise QueryError(_missing(texts))
    primary = columns.get("is_primary", "''")
    cell = f"coalesce({', '.join(map(_trimmed, found))})"
    cells = f"""
        SELECT clean({columns["object_id"]}) AS object_id, {cell} AS address, 0 AS place,
            lower({primary}) IN ('true', '1') AS first
        FROM {identifier(relation)} WHERE address IS NOT NULL
    """
    is_several, has_float_ids = _look_at(database, cells)
    addresses = _parted(cells) if is_several else cells
    if is_template(base):
        addresses = f"SELECT * REPLACE ({_filled('address', base)} AS address) FROM ({addresses})"
    complete = absolute("address", base)
    if is_template(base):
        complete = absolute("address", folder) if base.startswith(PLACE) else "address"
    key = "regexp_replace(object_id, '[.]0+$', '')" if has_float_ids else "object_id"
    database.execute(f"""
        CREATE TABLE pictures AS
        WITH addresses AS (
            SELECT {key} AS object_id, {complete} AS image_uri, bool_or(first) AS first,
                min(place) AS place
            FROM ({addresses}) GROUP BY ALL
        )
        SELECT object_id, image_uri,
            row_number() OVER (PARTITION BY object_id ORDER BY first DESC, place, image_uri) - 1 AS position
        FROM addresses
    """)


def absolute(address: str, base: str) -> str:
    """SQL for addresses.absolute: puts `base` before the SQL expression `address` where that is relative."""
    scheme, _, rest = base.partition("://")
    on_web = scheme.lower() in ("http", "https")
    prefix = literal(base.rstrip("/") + "/")
    complete, start = "[A-Za-z][A-Za-z0-9+.-]*:", "(\\.?/)+"
    name = address
    if storage.local_path(base) is not None:
        complete, start = f"{complete}|/", "(\\./)+"  # only elsewhere is /images/1.jpg below the base
        name = rf"replace({address}, '\', '/')"  # of a list that was made on Windows
    cases = [
        f"WHEN starts_with({address}, '//') THEN 'https:' || {address}",
        f"WHEN regexp_matches({address}, '^({complete})') THEN {address}",
        f"ELSE {prefix} || regexp_replace({name}, '^{start}', '') END",
    ]
    if on_web:
        host = literal(f"//{rest.partition('/')[0]}/")
        cases.insert(0, f"WHEN starts_with({address}, {host}) THEN {literal(scheme + ':')} || {address}")
        cases.insert(-1, f"WHEN starts_with({address}, '?') THEN {literal(base)} || {address}")
    if on_web and "?" in base:
        cases[-1] = f"ELSE {literal(base)} || {_as_value(address)} END"
    return " ".join(["CASE", *cases])


def base_of(settings: Settings) -> str:
    """`image_base`, with a number for `{size}`, else the folder of the table; absolute if it is a local path."""
    base = sized(settings.image_base, settings.image_size, settings.sizes) or folder_of_table(settings)
    local = None if base.startswith(PLACE) else storage.local_path(base)
    return os.path.abspath(local) if local is not None else base


def folder_of_table(settings: Settings) -> str:
    """The folder of the table that has the addresses; absolute if it is a local path."""
    table = settings.images_table or settings.table
    if table.startswith(("http://", "https://")):
        table = table.partition("?")[0].partition("#")[0]
    folder = table.rpartition("/")[0] or "."
    local = storage.local_path(folder)
    return os.path.abspath(local) if local is not None else folder


def _filled(address: str, template: str) -> str:
    """SQL of `address` in the place of `{}`; a complete one as it is, where the template has a beginning of its own.

    An identifier of a IIIF service is one segment of a path, whatever is in it, unless it is encoded already; `{}`
    after a `?` is a value. The address of a service may be that of its info.json, or of one of its images.
    """
    start = template.partition(PLACE)[0]
    value = address
    if "?" in start:
        value = _as_value(address)
    elif is_iiif(template):
        whole = f"rtrim(regexp_replace({address}, '(/info[.]json|{IMAGE_REQUEST})$', ''), '/')"
        encoded = (
            f"CASE WHEN regexp_matches({address}, '%[0-9A-Fa-f]{{2}}') THEN {address} ELSE url_encode({address}) END"
        )
        value = encoded if start else whole
    text = f"replace({literal(template)}, '{PLACE}', {value})"
    if not start:
        return text
    return f"CASE WHEN regexp_matches({address}, '^([A-Za-z][A-Za-z0-9+.-]*:|//)') THEN {address} ELSE {text} END"


def _as_value(sql: str) -> str:
    return f"replace(replace(replace({sql}, '&', '%26'), '#', '%23'), '+', '%2B')"


def _look_at(database: duckdb.DuckDBPyConnection, cells: str) -> tuple[bool, bool]:
    """Whether cells hold several addresses, and whether all ids are such as `12.0` (see columns.unify_ids).

    Raises:
        QueryError: all addresses are paths of a Windows machine.
    """
    several, windows, all_of_them, example, has_float_ids = row(
        database,
        rf"""
        SELECT bool_or(regexp_matches(address, '[|\n\r]|^\s*\[|{_BEFORE_SCHEME}|{_AFTER_PICTURE}')),
            count(*) FILTER (windows), count(*), min(address) FILTER (windows), bool_and({FLOAT_ID})
        FROM (SELECT *, regexp_matches(address, '^([A-Za-z]:[\\/]|\\\\)') AS windows FROM ({cells}))
        """,
    )
    if windows and windows == all_of_them:
        raise QueryError(
            f"the pictures are files of a Windows machine, such as {example}: copy them here, and write their names "
            "relative to the table, or to image_base"
        )
    return bool(several), bool(has_float_ids)


def _parted(cells: str) -> str:
    """SQL of a row per address: they stand in lines, are parted by `|`, or are listed otherwise (see above)."""
    lines = rf"regexp_replace(address, '{_BEFORE_SCHEME}', chr(10) || '\1', 'g')"
    names = rf"regexp_replace({lines}, '{_AFTER_PICTURE}', '\1' || chr(10), 'g')"
    lines = rf"CASE WHEN regexp_matches(address, '{_PICTURE}\s*$') THEN {names} ELSE {lines} END"
    parts = rf"string_split_regex({lines}, '[|\n\r]+')"
    arrays = ", ".join(
        f"json_extract_string(CASE WHEN json_valid({text}) THEN {text} END, '$[*]')"
        for text in ("address", "replace(address, chr(39), chr(34))")
    )
    parts = f"CASE WHEN regexp_full_match(address, '{_ARRAY}', 's') THEN coalesce({arrays}, {parts}) ELSE {parts} END"
    return rf"""
        SELECT object_id, {_trimmed("part")} AS address, place, first AND place = 0 AS first
        FROM (
            SELECT object_id, first, unnest(parts) AS part, unnest(range(len(parts))) AS place
            FROM (SELECT object_id, first, {parts} AS parts FROM ({cells}))
        ) WHERE address IS NOT NULL
    """


def _trimmed(sql: str) -> str:
    # Most have nothing around them, and to find that out by trim takes ten times as long.
    trimmed = f"nullif(trim({sql}, {literal(AROUND)}), '')"
    return f"CASE WHEN regexp_full_match({sql}, '[!-~]+') THEN {sql} ELSE {trimmed} END"


def _missing(texts: Texts) -> str:
    unusable = "".join(f"; the column {name} {reason}" for name, reason in texts.unusable.items())
    return (
        f"no picture addresses: neither the objects nor a table images_table=... have object_id and one of "
        f"{', '.join(ADDRESS_COLUMNS)}; there are {', '.join(list(texts.sql)[:50])}{unusable}; name yours with "
        "columns=original_image_url=your_column"
    )
