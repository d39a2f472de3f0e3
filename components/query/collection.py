"""From a source's rows to `objects` (what matches `where`) and `labelled` (what has a class)."""

from dataclasses import dataclass

import duckdb

from components.artifacts.objects import SLICE_PREFIX
from components.query.conditions import check_condition
from components.query.database import column_names, first_line, identifier, literal, scalar
from components.query.labels import CLEAN, label_expression, load_label_map, resolve_column
from components.query.settings import SLICES, QueryError, Settings
from components.query.source import Source
from components.shared.parameters import did_you_mean

# "Unknown" signs no series of works: such objects are groups of their own.
NO_ARTIST = r"(?i)^\(?(unknown|anonymous|unidentified|not known)\b.*$"
ARTIST = "artist_display_name"
LABELLED_COLUMNS = {"title": "title", "artist": ARTIST, "rights": "rights_and_reproduction", "link": "link_resource"}


@dataclass(frozen=True)
class Roles:
    """Which column plays which part; `group` is empty for "every object is its own group".

    `notes` are sentences about what was done otherwise than the parameters may lead to expect.
    """

    label: str
    group: str
    slices: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """Objects: in the source, matching `where`, and the reasons for which they got no class."""

    source: int
    matching: int
    no_id: int = 0
    no_label: int = 0
    unmapped: int = 0
    repeated: int = 0
    ambiguous: int = 0


def load_objects(database: duckdb.DuckDBPyConnection, source: Source, settings: Settings) -> Counts:
    """Creates `objects`: the rows of the source that match `where`, every column a string.

    Raises:
        QueryError: the source cannot be read, lacks object_id, or `where` is no condition on it or matches nothing.
    """
    try:
        source.load(database)
    except duckdb.Error as error:
        raise QueryError(f"source={settings.source}: cannot read the objects: {first_line(error)}") from error
    columns = column_names(database, "raw")
    if "object_id" not in [name.lower() for name in columns]:
        raise QueryError(
            f"there is no column object_id{did_you_mean('object_id', columns)}; there are {', '.join(columns[:50])}; "
            "name yours with columns=object_id=your_column"
        )
    condition = "true"
    if settings.where.strip() and not source.applies_where:
        condition = check_condition(settings.where, columns, "duckdb")
    strings = ", ".join(f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}" for name in columns)
    try:
        database.execute(f"CREATE TABLE objects AS SELECT {strings} FROM raw WHERE ({condition})")
        matching = scalar(database, "SELECT count(*) FROM objects")
        total = source.total
        if total is None:
            total = matching if condition == "true" else scalar(database, "SELECT count(*) FROM raw")
    except duckdb.Error as error:
        where = f"where={settings.where}: " if condition != "true" else ""
        raise QueryError(f"{where}cannot read the objects: {first_line(error)}") from error
    if not matching:
        raise QueryError(_nothing(total, settings))
    return Counts(total, matching)


def find_roles(database: duckdb.DuckDBPyConnection, source: Source, settings: Settings) -> Roles:
    """The columns for label, group and slices. Raises QueryError that names the nearest columns."""
    columns = column_names(database, "objects")
    by_lower = {name.lower(): name for name in columns}
    label = resolve_column(settings.label or source.label, columns, "label")
    if settings.group:
        group = resolve_column(settings.group, columns, "group")
    else:
        group = by_lower.get(ARTIST, "") if label.lower() != ARTIST else ""
    slices = tuple((name, by_lower[name.lower()]) for name in settings.slice_columns if name.lower() in by_lower)
    # Of the default's columns a collection need not have any; a column that someone names should be there.
    missing = [name for name in settings.slice_columns if name.lower() not in by_lower and settings.slices != SLICES]
    notes = [f"slices: there is no column {name}{did_you_mean(name, columns)}, so it is left out" for name in missing]
    return Roles(label, group, slices, tuple(notes))


def label_objects(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles, counts: Counts) -> Counts:
    """Creates `labelled(object_id, class, group, title, artist, rights, link, meta_*)`, one row an object.

    Returns:
        `counts` with the objects that got no class.

    Raises:
        QueryError: no object has a class.
    """
    load_label_map(database, settings)
    columns = {name.lower(): name for name in column_names(database, "objects")}
    texts = {ours: _text(columns.get(theirs)) for ours, theirs in LABELLED_COLUMNS.items()}
    texts["rights"] = _rights(columns, texts["rights"])
    texts |= {f"{SLICE_PREFIX}{name}": _text(column) for name, column in roles.slices}
    selected = ", ".join(f"coalesce({sql}, '') AS {identifier(name)}" for name, sql in texts.items())
    label = identifier(roles.label)
    # Cleaning and mapping is done once for each value, not for each object.
    database.execute(f"""
        CREATE TABLE label_values AS
        SELECT label, {CLEAN.format("label")} AS value, {label_expression(settings, "label")} AS class
        FROM (SELECT DISTINCT {label} AS label FROM objects WHERE {label} IS NOT NULL);
        CREATE TABLE candidates_of_label AS
        SELECT trim({identifier(columns["object_id"])}) AS object_id, label_values.value, label_values.class,
            {_group(columns, roles)} AS "group", {selected}
        FROM objects LEFT JOIN label_values ON label_values.label = objects.{label}
    """)
    counts = _count(database, counts)
    # Of rows that repeat an object, which one stays must not depend on their order.
    database.execute(
        """
        CREATE TABLE labelled AS SELECT * EXCLUDE (value) FROM candidates_of_label
        WHERE class IS NOT NULL AND object_id != '' AND object_id NOT IN (SELECT object_id FROM ambiguous)
        QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY title, artist, link) = 1
    """
        if counts.repeated
        else """
        CREATE VIEW labelled AS SELECT * EXCLUDE (value) FROM candidates_of_label
        WHERE class IS NOT NULL AND object_id != ''
    """
    )
    if not scalar(database, "SELECT count(*) FROM labelled"):
        raise QueryError(_no_label(database, settings, roles, counts))
    return counts


def _count(database: duckdb.DuckDBPyConnection, counts: Counts) -> Counts:
    no_id, no_label, unmapped, distinct = database.execute("""
        SELECT count(*) FILTER (object_id IS NULL OR object_id = ''),
            count(*) FILTER (object_id != '' AND value IS NULL),
            count(*) FILTER (object_id != '' AND value IS NOT NULL AND class IS NULL),
            count(DISTINCT object_id) FILTER (object_id != '' AND class IS NOT NULL)
        FROM candidates_of_label
    """).fetchone()
    repeated = counts.matching - no_id - no_label - unmapped - distinct
    ambiguous = 0
    if repeated:
        database.execute("""
            CREATE TABLE ambiguous AS SELECT object_id FROM candidates_of_label
            WHERE class IS NOT NULL AND object_id != '' GROUP BY object_id HAVING count(DISTINCT class) > 1
        """)
        ambiguous = scalar(database, "SELECT count(*) FROM ambiguous")
    return Counts(counts.source, counts.matching, no_id, no_label, unmapped, repeated, ambiguous)


def _text(column: str | None) -> str:
    return f"nullif(trim(objects.{identifier(column)}), '')" if column else "NULL"


def _rights(columns: dict[str, str], rights: str) -> str:
    if "is_public_domain" not in columns:
        return rights
    public = f"lower(objects.{identifier(columns['is_public_domain'])}) IN ('true', '1')"
    return f"coalesce({rights}, CASE WHEN {public} THEN 'Public domain' END)"


def _group(columns: dict[str, str], roles: Roles) -> str:
    own = f"trim(objects.{identifier(columns['object_id'])})"
    if not roles.group:
        return own
    value = _text(roles.group)
    if roles.group.lower() == ARTIST:
        value = f"CASE WHEN NOT regexp_matches({value}, {literal(NO_ARTIST)}) THEN {value} END"
    return f"coalesce({value}, {own})"


def _nothing(total: int, settings: Settings) -> str:
    if settings.where.strip():
        return f"where={settings.where}: none of {total:,} objects matches; loosen the condition"
    return f"source={settings.source}: there is no object in {settings.table or 'it'}"


def _no_label(database: duckdb.DuckDBPyConnection, settings: Settings, roles: Roles, counts: Counts) -> str:
    if counts.unmapped:
        value = scalar(database, "SELECT min(value) FROM candidates_of_label WHERE value IS NOT NULL")
        return f"label_map={settings.label_map}: names no value of {roles.label}, such as {value!r}; correct the values"
    return (
        f"label={roles.label}: none of {counts.matching:,} objects has a value there; take another label "
        "(python pipeline.py attributes shows what could be learned)"
    )
