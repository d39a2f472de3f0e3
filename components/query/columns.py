"""Columns of a source as text: what has a plain text gets it, what is nested is left out and named.

Nothing is guessed: a list of one value is that value, a field `web` of a nested column `image` is the column
`image.web`, whole numbers are written without `.0` (pandas makes 1 to 1.0 where another row has none). Longer lists,
maps and bytes that are no text have no text; who asks for such a column is told so.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
from duckdb.sqltypes import DuckDBPyType

from components.query.database import identifier, literal, row, scalar

# The columns that may hold an address, the best first.
ADDRESS_COLUMNS = ("original_image_url", "image_uri", "gcs_url")
# SQL of whether an object_id is a whole number that is written as one with a floating point.
FLOAT_ID = r"regexp_full_match(trim(object_id), '-?[0-9]+\.0+')"
_NUMBERS = ("DOUBLE", "FLOAT", "DECIMAL")
_PLACE = re.compile(r"\[(\d+)\]")
# Beyond this, a number with a floating point may not be the one that was written.
_LARGEST_WHOLE = 2**53


@dataclass(frozen=True)
class Column:
    """A column: its name, the SQL of its value, and its DuckDB type."""

    name: str
    sql: str
    type: DuckDBPyType


@dataclass(frozen=True)
class Texts:
    """`sql` has the SQL of each column's text by name; `unusable` says why the others have none."""

    sql: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def at_path(columns: Sequence[Column], path: str) -> Column | None:
    """The column at `path`: its name, `images.web.url` for a nested field, `culture[0]` for an element of a list.

    A field of the objects in a list is the list of their fields; with `[n]`, counted from 0, that of the nth object.
    What is in a column of JSON, whose rows differ, is found by the same path.
    """
    by_lower = {column.name.lower(): column for column in columns}
    if found := by_lower.get(path.lower()):
        return found
    places = _PLACE.findall(path)
    found = by_lower.get(_PLACE.sub("", path).lower())
    if found and len(places) == 1 and found.type.id == "list":
        return Column(path, f"({found.sql})[{int(places[0]) + 1}]", children(found.type)[0][1])
    for name, column in by_lower.items():
        if str(column.type) == "JSON" and path.lower().startswith((f"{name}.", f"{name}[")):
            inner = literal("$" + path[len(name) :])
            return Column(path, f"json_extract_string({column.sql}, {inner})", DuckDBPyType("VARCHAR"))
    return None


def columns_of(database: duckdb.DuckDBPyConnection, relation: str) -> list[Column]:
    """The columns of the SQL `relation`, a name or a table function; fields of structs are columns of their own."""
    described = described_types(database, relation)
    return [flat for name, kind in described for flat in _flattened(Column(name, identifier(name), kind))]


def described_types(database: duckdb.DuckDBPyConnection, relation: str) -> list[tuple[str, DuckDBPyType]]:
    """Name and type of each column of the SQL `relation`."""
    result = database.execute(f"SELECT * FROM {relation} LIMIT 0")
    described = [(name, kind) for name, kind, *_ in result.description]
    result.fetchall()  # or DuckDB takes it for unfinished
    return described


def texts_of(database: duckdb.DuckDBPyConnection, relation: str, columns: list[Column]) -> Texts:
    """How each of the `columns` of the SQL `relation` is written as text. Reads those whose type does not tell."""
    choices = {column.name: _choice(column) for column in columns}
    asked = {name: test for name, (test, *_) in choices.items() if test}
    answers = {}
    if asked:
        tests = ", ".join(f"coalesce(bool_and({test}), true)" for test in asked.values())
        answers = dict(zip(asked, row(database, f"SELECT {tests} FROM {relation}")))
    found = Texts()
    for name, (_, text, otherwise, reason) in choices.items():
        chosen = text if answers.get(name, True) else otherwise
        if chosen:
            found.sql[name] = chosen
        else:
            found.unusable[name] = reason
    return found


def comparable(database: duckdb.DuckDBPyConnection, relation: str, columns: list[Column]) -> dict[str, str]:
    """SQL of the values of the `columns` as a condition compares them: texts that are all numbers as numbers, ..."""
    found = {}
    for column in columns:
        kind = str(column.type)
        if kind == "JSON":
            found[column.name] = f"({column.sql} ->> '$')"
        elif kind == "BLOB":
            found[column.name] = f"decode({column.sql})"
        elif kind == "VARCHAR":
            found[column.name] = _typed(database, relation, column.sql)
    return found


def unify_ids(database: duckdb.DuckDBPyConnection, table: str) -> None:
    """Where every object_id of `table` is a text such as `12.0`, it becomes `12`: an id that some program took for a
    number, and that the other table has as it was."""
    if scalar(database, f"SELECT bool_and({FLOAT_ID}) FROM {identifier(table)} WHERE trim(object_id) != ''"):
        database.execute(f"UPDATE {identifier(table)} SET object_id = regexp_replace(trim(object_id), '[.]0+$', '')")


def children(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """Name and type of what the nested type `kind` is made of: the fields of a struct, the elements of a list."""
    return [(name, inner) for name, inner in kind.children if isinstance(inner, DuckDBPyType)]


def _flattened(column: Column) -> list[Column]:
    """The column, or its fields; those of the objects in a list as lists, one within another as one list."""
    if column.type.id == "struct":
        inner = [
            Column(f"{column.name}.{name}", f"struct_extract({column.sql}, {literal(name)})", kind)
            for name, kind in children(column.type)
        ]
    elif column.type.id == "list" and children(column.type)[0][1].id == "struct":
        inner = [_field_of_list(column, name, kind) for name, kind in children(children(column.type)[0][1])]
    else:
        return [column]
    return [flat for item in inner for flat in _flattened(item)]


def _field_of_list(column: Column, name: str, kind: DuckDBPyType) -> Column:
    sql = f"list_transform({column.sql}, lambda item: struct_extract(item, {literal(name)}))"
    if kind.id == "list":
        return Column(f"{column.name}.{name}", f"flatten({sql})", kind)
    return Column(f"{column.name}.{name}", sql, DuckDBPyType(f"{kind}[]"))


def _choice(column: Column) -> tuple[str, str, str, str]:
    """A test for all rows (empty: none is needed), the text if it holds, the text if not, and why there is none."""
    sql, kind = column.sql, str(column.type)
    if kind == "VARCHAR":
        return "", sql, "", ""
    if kind == "JSON":
        test = f"coalesce(json_type({sql}) NOT IN ('OBJECT', 'ARRAY'), true)"
        return test, f"({sql} ->> '$')", "", "holds nested values (JSON)"
    if kind == "BLOB":
        test = f"{sql} IS NULL OR TRY(decode({sql})) IS NOT NULL"
        return test, f"decode({sql})", "", "holds bytes that are no UTF-8 text (BLOB)"
    if kind.startswith(_NUMBERS):
        number = f"CASE WHEN NOT isnan({sql}::DOUBLE) THEN {sql} END"
        test = f"{sql} IS NULL OR isnan({sql}::DOUBLE) OR ({sql} = floor({sql}) AND abs({sql}) < {_LARGEST_WHOLE})"
        return test, f"CAST(TRY_CAST({number} AS BIGINT) AS VARCHAR)", f"CAST({number} AS VARCHAR)", ""
    if column.type.id in ("list", "array"):
        return _choice_of_list(column)
    if column.type.id in ("map", "union", "struct"):
        return "", "", "", f"holds nested values ({kind[:60]})"
    return "", f"CAST({sql} AS VARCHAR)", "", ""


def _choice_of_list(column: Column) -> tuple[str, str, str, str]:
    sql, inner = column.sql, children(column.type)[0][1]
    reason = (
        f"holds lists ({str(column.type)[:60]}), not one value per object; columns={column.name}={column.name}[0] "
        "takes the first of each"
    )
    if inner.id in ("list", "array", "map", "union", "struct") or str(inner) in ("JSON", "BLOB"):
        return "", "", "", reason
    if column.name.lower() in ADDRESS_COLUMNS:
        # An object may have several images; a cell with several addresses is parted where they are read.
        return "", f"array_to_string({sql}, chr(10))", "", ""
    return f"{sql} IS NULL OR len({sql}) <= 1", f"CAST({sql}[1] AS VARCHAR)", "", reason


def _typed(database: duckdb.DuckDBPyConnection, relation: str, sql: str) -> str:
    """A text column as the narrowest type that all its values have; a text where they have none."""
    value = f"trim({sql})"
    tests = {
        "BIGINT": f"regexp_full_match({value}, '[+-]?[0-9]{{1,18}}')",
        "DOUBLE": f"regexp_full_match({value}, '[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?')",
        "BOOLEAN": f"lower({value}) IN ('true', 'false', 't', 'f')",
        "DATE": f"{value} LIKE '____-__-__' AND TRY_CAST({value} AS DATE) IS NOT NULL",
        "TIMESTAMP": f"TRY_CAST({value} AS TIMESTAMP) IS NOT NULL",
    }
    asked = ", ".join(f"bool_and({test})" for test in tests.values())
    answers = row(database, f"SELECT {asked} FROM {relation} WHERE {value} != ''")
    kind = next((kind for kind, holds in zip(tests, answers) if holds), None)
    return f"CAST(nullif({value}, '') AS {kind})" if kind else sql
