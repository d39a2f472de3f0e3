"""From a column's values to classes: label_map, label_split, and which classes are large enough to learn."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import duckdb

from components.artifacts import dataset
from components.query.csv_file import DELIMITERS
from components.query.database import identifier, literal
from components.query.missing import missing_sql
from components.query.settings import QueryError, Settings
from components.shared.parameters import did_you_mean
from components.shared.texts import read_text
from components.shared.values import clean, spelled


@dataclass(frozen=True)
class ClassCount:
    """A class, its images, and why it was left out (empty: it was kept)."""

    name: str
    pictures: int
    left_out: str = ""


def load_label_map(database: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Creates `label_map(value, class)`, empty without the parameter.

    Raises:
        QueryError: a row without two fields, or one value mapped to two classes.
        PipelineError: the file cannot be read.
    """
    database.execute("CREATE TABLE label_map (value VARCHAR, class VARCHAR)")
    if settings.label_map:
        rows = list(_read_label_map(settings.label_map).items())
        database.executemany("INSERT INTO label_map VALUES (?, ?)", rows)


def create_label_values(database: duckdb.DuckDBPyConnection, settings: Settings, column: str) -> None:
    """Creates `label_values(spelled, cleaned, value, class)` from the `column` of `objects`.

    `value` is NULL for a value that counts as none, `class` also for one that is not in the map. The map is asked for
    the whole value first, then for the part before the separator; a value that it names is one, whatever its spelling.
    """
    part = "cleaned"
    if settings.label_split:
        part = f"clean(split_part(cleaned, {literal(spelled(settings.label_split))}, 1))"
    database.execute(f"""
        CREATE TABLE label_values AS
        WITH parted AS (
            SELECT {identifier(column)} AS spelled, clean(spelled) AS cleaned, {part} AS part FROM objects GROUP BY 1
        ),
        named AS (
            SELECT spelled, cleaned, part, coalesce(whole.class, of_part.class) AS named,
                part IS NULL OR {missing_sql("cleaned", settings)} OR {missing_sql("part", settings)} AS is_missing
            FROM parted LEFT JOIN label_map AS whole ON whole.value = cleaned
            LEFT JOIN label_map AS of_part ON of_part.value = part
        )
        SELECT spelled, cleaned, CASE WHEN named IS NOT NULL OR NOT is_missing THEN cleaned END AS value,
            {"named" if settings.label_map else "CASE WHEN NOT is_missing THEN part END"} AS class
        FROM named WHERE spelled IS NOT NULL
    """)


def choose_classes(database: duckdb.DuckDBPyConnection, settings: Settings, label: str) -> list[ClassCount]:
    """Creates `classes(class, label_index)` from `candidates`: large enough, the largest `max_classes`, by name.

    Returns:
        Every class of `candidates`, kept or not, largest first.

    Raises:
        QueryError: fewer than two classes are left, or a class that was asked for has no image.
    """
    counted = database.execute(
        "SELECT class, count(*) AS pictures FROM candidates GROUP BY class ORDER BY pictures DESC, class"
    ).fetchall()
    _check_wanted(database, settings, label, {name for name, _ in counted})
    classes, kept = [], 0
    for name, pictures in counted:
        reason = ""
        if pictures < settings.min_images_per_class:
            reason = f"fewer than {settings.min_images_per_class} pictures"
        elif settings.max_classes and kept >= settings.max_classes:
            reason = f"not among the largest {settings.max_classes}"
        kept += not reason
        classes.append(ClassCount(name, pictures, reason))
    names = sorted(item.name for item in classes if not item.left_out)
    _check_enough(names, classes, settings, label)
    _check_expected(names, settings)
    database.execute(
        "CREATE TABLE classes AS "
        "SELECT unnest($names) AS class, CAST(unnest(range(len($names))) AS INTEGER) AS label_index",
        {"names": names},
    )
    return classes


def resolve_column(name: str, columns: list[str], parameter: str, unusable: Mapping[str, str] = {}) -> str:
    """The column called `name`, whatever its case.

    Args:
        unusable: {another column: why it cannot be used}.

    Raises:
        QueryError: there is none; the message names the nearest ones, or says why it cannot be used.
    """
    by_lower = {column.lower(): column for column in columns}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    for column, reason in unusable.items():
        if column.lower() == name.lower():
            raise QueryError(f"{parameter}={name}: this column {reason}; take another, or write a plain value into it")
    shown = did_you_mean(name, columns) or f"; there are {', '.join(columns[:50])}"
    raise QueryError(f"{parameter}={name}: there is no such column{shown}")


def _read_label_map(uri: str) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for number, row in _csv_rows(uri):
        fields = [clean(item) for item in row]
        if not any(fields) or (not mapping and [item.lower() for item in fields] == ["value", "class"]):
            continue
        if len(fields) != 2 or not all(fields):
            raise QueryError(f"label_map={uri}, line {number}: needs two fields, value and class")
        if mapping.setdefault(fields[0], fields[1]) != fields[1]:
            raise QueryError(
                f"label_map={uri}, line {number}: {fields[0]!r} is both {mapping[fields[0]]} and {fields[1]}"
            )
    if not mapping:
        raise QueryError(f"label_map={uri}: it is empty; write lines such as: Japan,Japanese")
    return mapping


def _csv_rows(uri: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file of two columns, each with the number of its last line."""
    lines = io.StringIO(read_text(uri, "label_map="), newline=None).readlines()
    first = next((line for line in lines if line.strip()), "")
    # The mark that parts two fields: a value may hold what parts fields elsewhere, such as a semicolon.
    delimiter = next((mark for mark in DELIMITERS if len(next(csv.reader([first], delimiter=mark), ())) == 2), ",")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise QueryError(f"label_map={uri}, line {reader.line_num}: is no CSV ({error})") from error


def _check_wanted(database: duckdb.DuckDBPyConnection, settings: Settings, label: str, present: set[str]) -> None:
    """A class that the map names is wanted: that it has no image is not to be found out after training."""
    if not settings.label_map:
        return
    wanted = {row[0] for row in database.execute("SELECT DISTINCT class FROM label_map").fetchall()}
    if wanted - present:
        names = ", ".join(sorted(wanted - present)[:5])
        raise QueryError(
            f"no picture is left for {names}: no object with such a value in {label} has a picture and matches "
            f"where; correct label_map={settings.label_map}, or take the class out of it"
        )


def _check_expected(names: list[str], settings: Settings) -> None:
    """The assemble step checks the same; here it costs no download."""
    if settings.expected_classes and (strange := set(names) - dataset.expected_classes(settings.expected_classes)):
        raise QueryError(
            f"unexpected classes: {', '.join(sorted(strange)[:5])}{' ...' if len(strange) > 5 else ''}; add them to "
            "expected_classes or to label_map"
        )


def _check_enough(names: list[str], classes: list[ClassCount], settings: Settings, label: str) -> None:
    if len(names) >= 2:
        return
    largest = ", ".join(f"{item.name} with {item.pictures}" for item in classes[:3])
    raise QueryError(
        f"label={label}: {len(names)} of {len(classes)} classes can be learned, and it takes two; the largest are "
        f"{largest}; lower min_images_per_class={settings.min_images_per_class}, raise max_classes, or take another "
        "label (python pipeline.py attributes shows them)"
    )
