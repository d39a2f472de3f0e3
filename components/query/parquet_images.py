"""Parquet with the images' bytes in a column, as Hugging Face's `Image` has them: a struct of `bytes` and `path`."""

import json
import re
from collections.abc import Iterator

import duckdb
import pyarrow.parquet

from components.query.columns import ADDRESS_COLUMNS, Column
from components.query.database import identifier, literal
from components.query.given_splits import SPELLINGS
from components.query.inside import PREFIX
from components.query.table_file import TableFile

_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
# How Hugging Face names the files of a split: train-00000-of-00002.parquet.
_SPLIT_FILE = re.compile(rf"({'|'.join(SPELLINGS)})[-_.].*", re.IGNORECASE)
_FILE, _ROW = "file_of_image_", "file_row_number"


def find_images(database: duckdb.DuckDBPyConnection, table: TableFile, pairs: list[tuple[str, str]]) -> Column | None:
    """The column with the bytes of images; None where there is none, or where addresses are given.

    Args:
        pairs: (the file's name, ours) of the columns.
    """
    if not table.reader.startswith("read_parquet"):
        return None
    by_name = {column.name: column for column in table.columns}
    named = [by_name[theirs] for theirs, ours in pairs if ours.lower() in ADDRESS_COLUMNS and theirs in by_name]
    candidates = named or [column for column in table.columns if str(column.type) == "BLOB"]
    for column in candidates:
        if str(column.type) != "BLOB":
            return None
        found = database.execute(
            f"SELECT {column.sql} FROM {table.reader} WHERE {column.sql} IS NOT NULL LIMIT 1"
        ).fetchone()
        if found and bytes(found[0]).startswith(_HEADS):
            return column
    return None


def load(
    database: duckdb.DuckDBPyConnection, name: str, table: TableFile, pairs: list[tuple[str, str]], images: Column
) -> None:
    """Creates the view `name` of the other columns, with the key of each image as `original_image_url`.

    Without a column object_id, it is the image's path, or else its place. Numbers of classes become their names.
    """
    columns = {column.name: column for column in table.columns}
    ours = {given.lower() for _, given in pairs}
    selected = [
        f"{_value(table, columns[theirs])} AS {identifier(given)}"
        for theirs, given in pairs
        if theirs != images.name and given.lower() not in ADDRESS_COLUMNS
    ]
    place = f"parse_filename({_FILE}, true) || '-' || {_ROW}"
    path = images.name.removesuffix(".bytes") + ".path"
    if "object_id" not in ours:
        own = f"nullif({columns[path].sql}, '')" if path in columns else "NULL"
        selected.append(f"coalesce({own}, {place}) AS object_id")
    if "split" not in ours and (sides := _sides(table)):
        selected.append(f"{sides} AS split")
    key = f"{literal(PREFIX)} || {_ROW} || '@' || {_FILE}"
    selected.append(f"CASE WHEN {images.sql} IS NOT NULL THEN {key} END AS original_image_url")
    database.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {', '.join(selected)} FROM {_reader(table)}")


def read(
    database: duckdb.DuckDBPyConnection, table: TableFile, images: Column, wanted: set[str]
) -> Iterator[tuple[str, bytes]]:
    """(key, bytes) of the images `wanted`, in the order of the files."""
    for file in table.paths:
        rows = sorted(int(key[len(PREFIX) :].partition("@")[0]) for key in wanted if key.partition("@")[2] == file)
        if not rows:
            continue
        result = database.cursor().execute(
            f"SELECT {_ROW}, {images.sql} FROM read_parquet({literal(file)}, file_row_number = true) "
            f"WHERE list_contains(?, {_ROW}) ORDER BY {_ROW}",
            [rows],
        )
        while batch := result.fetchmany(50):
            for number, data in batch:
                yield f"{PREFIX}{number}@{file}", bytes(data)


def _reader(table: TableFile) -> str:
    options = f"filename = {literal(_FILE)}, file_row_number = true"
    return f"{table.reader.removesuffix(')')}, {options})"


def _value(table: TableFile, column: Column) -> str:
    names = _classes(table).get(column.name)
    if not names:
        return column.sql
    return f"[{', '.join(map(literal, names))}][CAST({column.sql} AS BIGINT) + 1]"


def _classes(table: TableFile) -> dict[str, list[str]]:
    """Names of the classes of each column that has numbers of classes, as Hugging Face writes them down."""
    metadata = pyarrow.parquet.read_schema(table.paths[0]).metadata or {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: each["names"] for name, each in features.items() if each.get("_type") == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError):
        return {}


def _sides(table: TableFile) -> str:
    """SQL of the split that each file's name says; empty where not all do, or all say the same."""
    found = {file.path: _SPLIT_FILE.fullmatch(file.name.rpartition("/")[2]) for file in table.files}
    sides = {path: match[1].lower() for path, match in found.items() if match}
    if len(sides) < len(found) or len(set(sides.values())) < 2:
        return ""
    cases = " ".join(f"WHEN {literal(path)} THEN {literal(side)}" for path, side in sides.items())
    return f"CASE {_FILE} {cases} END"
